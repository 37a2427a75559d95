"""The inference host: one process that serves models, each proven here before it answers.

    process   options, putting the rooms together, starting and stopping, several as one host
    wire      what callers speak: HTTP/1.1 with JSON or binary tensors, gRPC; the admin listener
    follow    which versions should serve, and how they are fetched, verified and opened
    answer    which version answers, what becomes of each call, shadows
    engine    from a queue of checked jobs to outputs: batches, faults, sessions
    guard     who may ask for what, and how often
    request   what a request is: message, refusal, routes, checks against a contract
    observe   what is written down: metrics, traces, access, audit, captured requests

Imports run downwards, and nobody but `process` imports `observe`: it is told through ports.
"""
