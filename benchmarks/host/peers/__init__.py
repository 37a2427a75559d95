"""One module per peer server; each runs in a virtual environment of its own.

Started as scripts with this folder on their path, so they import `specs` and `settings`
without a package: nothing of slipway is installed beside them.
"""
