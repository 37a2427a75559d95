"""The inference host: one process that serves the models of one fleet.

From the wire inwards: `http` cuts bytes into requests (`exchange`), `routes` finds what they
ask for, `v2` turns JSON into a message and answers into JSON, `core` checks the message
against the model's contract (`tensors`), picks the version and runs it on an `engine`. Beside
them `reconcile` follows the store: `watch` looks, `plan` decides (pure), `loading` verifies,
`memory` survives restarts. `admin` tells what serves and why.
"""
