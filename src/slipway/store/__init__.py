"""The store: bundles, channels, leases and the ledger, in a folder or behind an fsspec URL.

Tried is a folder of this machine. Another place must create an object in one step and only if
there is none: of two releases that write the same serial, one must lose. fsspec's drivers for S3
and Google Cloud Storage ask the server for that; one that inherits `AbstractFileSystem.pipe_file`
(sftp) looks first and writes then, which is safe for one release at a time only.

Knows nothing about hosts, fleets or what a release decides; it never runs a model.
"""
