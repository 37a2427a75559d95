"""The store: bundles, channels, leases and the ledger behind any fsspec URL.

Knows nothing about hosts, fleets or what a release decides; it never runs a model.
"""
