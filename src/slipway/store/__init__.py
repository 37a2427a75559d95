"""The store: bundles, channels, leases and the ledger, in a folder or behind an fsspec URL.

Tried are a folder, an SSH server (OpenSSH) and S3 (Ceph's). A place must create an object in one
step and only if there is none: of two releases that write the same serial, one must lose. How each
kind does is in `places`.

Knows nothing about hosts, fleets or what a release decides; it never runs a model.
"""
