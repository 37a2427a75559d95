"""The bundle: its files, its version, its signature, and the checks before a host may load it.

Knows nothing about stores, channels, hosts or the pipelines that make bundles.
"""
