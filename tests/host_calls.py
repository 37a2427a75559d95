"""Finished requests for the tests of what the host notes about them."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from slipway.bundle.contract import Contract
from slipway.host.answer.call import Call, Loaded, Outcome, TraceSteps
from slipway.host.engine.job import Batch, Job, Result
from slipway.host.guard.caller import Caller
from slipway.host.observe.series import Series
from slipway.host.request.admission import Prepared
from slipway.host.request.message import Array, Message
from slipway.host.request.refusal import RequestRefused
from tests.support.contracts import name_contract

VERSION = "a" * 64


class NoEngine:
    """Takes no job."""

    full = True

    def submit(self, job: Job) -> None:
        raise RequestRefused("queue_full", "full")


make_contract = name_contract

CONTRACT = make_contract({"x": "FP32"}, {"y": "FP32"})


def make_call(
    inputs: Mapping[str, Array] | None = None,
    request_id: str = "r-1",
    model: str = "m",
    caller: str = "",
    trace: TraceSteps | None = None,
    contract: Contract = CONTRACT,
) -> Call:
    """Make a call that was checked and given to a version."""
    inputs = inputs if inputs is not None else {"x": np.array([1, 2], np.float32)}
    call = Call(model, None, Message(None, (), ()), request_id, caller=Caller(caller))
    call.trace = trace
    call.prepared = Prepared(dict(inputs), len(next(iter(inputs.values()))), ())
    call.loaded = Loaded(VERSION, contract, NoEngine(), Series(model, VERSION))
    return call


def answer(
    call: Call, outputs: Mapping[str, Array] | None = None, job: Job | None = None
) -> Outcome:
    """Make the outcome of an answered call."""
    outputs = outputs if outputs is not None else {"y": np.array([3, 4], np.float32)}
    call.outputs = tuple(outputs)
    return Outcome(call, outputs, job)


def refuse(code: str, call: Call) -> Outcome:
    """Make the outcome of a call that came to no version."""
    call.loaded = None
    return Outcome(call, RequestRefused(code, "no"))


def make_batch(jobs: Sequence[Job], number: int = 1, run_s: float = 0.004) -> Batch:
    """Run jobs as one batch that has just ended."""
    ended = time.perf_counter()
    rows = sum(job.rows for job in jobs)
    batch = Batch(number, rows, len(jobs), ended - run_s, ended)
    for job in jobs:
        job.batch = batch
    return batch


def make_job(rows: int = 2, queue_s: float = 0.001, run_s: float = 0.004) -> Job:
    """Make a job that waited so long before a run that took so long, and ends now."""
    return Job({}, rows, _forget, arrived=time.perf_counter() - run_s - queue_s)


def _forget(job: Job, result: Result) -> None:
    """Take no note."""
