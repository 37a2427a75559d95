"""The inference host: one process that serves the models of one fleet.

From the wire inwards: `http` reads requests, `routes` finds what they ask for, `v2` turns JSON
into a message and answers into JSON, `core` checks the message against the model's contract,
picks the version and runs it on an `engine`. Beside them `reconcile` follows the store with
`plan` (pure) and `loading` (verification), `memory` survives restarts, and `admin` tells.
"""
