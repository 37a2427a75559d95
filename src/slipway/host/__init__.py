"""The inference host: one process that serves models, each proven here before it answers.

    wire      what callers speak: HTTP/1.1 with JSON or binary tensors, gRPC; the admin listener
    guard     who may ask for what, and how often
    core      which version answers; checks against the contract (`tensors`), counts, shadows
    engine    from a queue of checked jobs to outputs: batches, faults, sessions
    follow    which versions should serve, and how they are fetched, verified and opened
    observe   what is written down: metrics, traces, access, audit, captured requests

`server` puts them together from `options`; `many` starts several processes of one host.
"""
