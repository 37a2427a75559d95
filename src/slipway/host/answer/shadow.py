"""Repeat answered requests on a shadow candidate and count how far its answers lie apart.

Never in a caller's way: it starts after the answer was sent, it is dropped when two are under
way, and whatever it does is a number in the metrics.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from slipway.bundle.contract import Contract
from slipway.bundle.datatypes import as_numbers
from slipway.host.answer.call import Call
from slipway.host.answer.counts import Counts
from slipway.host.engine.job import Job, Result
from slipway.host.request.admission import prepare
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Shadow runs under way. More would take the threads that callers wait for."""


class Shadow:
    """The budget of shadow runs and their comparison."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._running = 0
        self._largest: dict[tuple[str, str], float] = {}

    def compare(self, call: Call, outputs: Mapping[str, Array]) -> None:
        """Run the same message on the call's shadow version, if the budget allows."""
        shadow = call.shadow
        assert shadow is not None
        if self._running >= AT_ONCE:
            self._count(call, "skipped")
            return
        try:
            prepared = prepare(call.message, shadow.contract)
            context = (call, {name: outputs[name] for name in call.outputs})
            job = Job(prepared.inputs, prepared.rows, self._finish, context)
            job.group, job.arrived = prepared.group, time.perf_counter()
            shadow.engine.submit(job)
        except RequestRefused:
            self._count(call, "failed")
            return
        self._running += 1

    def _finish(self, job: Job, result: Result) -> None:
        self._running -= 1
        call: Call
        call, outputs = job.context
        assert call.shadow is not None
        if isinstance(result, Exception):
            extra = {"version": call.shadow.version}
            log.error("the shadow failed", exc_info=result, extra=extra)
            self._count(call, "failed")
            return
        self._count(call, "compared")
        apart = largest_difference(outputs, result, call.shadow.contract)
        series = (call.model, call.shadow.version)
        self._largest[series] = max(self._largest.get(series, 0.0), apart)
        self._counts.shadow_apart(*series, self._largest[series])

    def _count(self, call: Call, outcome: str) -> None:
        version = call.shadow.version if call.shadow else ""
        self._counts.shadowed(call.model, version, outcome)


def largest_difference(
    outputs: Mapping[str, Array], others: Mapping[str, Array], contract: Contract
) -> float:
    """Return the largest distance of any value; a missing or non-finite one is infinitely far."""
    largest = 0.0
    datatypes = {tensor.name: tensor.datatype for tensor in contract.outputs}
    for name, values in outputs.items():
        other = others.get(name)
        if other is None or other.shape != values.shape or other.dtype != values.dtype:
            return float("inf")
        if values.dtype.kind in "OUb":
            apart = float((other != values).any())
        else:
            numbers = [as_numbers(v, datatypes[name]).astype(float) for v in (other, values)]
            apart = float(np.max(np.abs(numbers[0] - numbers[1]), initial=0.0))
        largest = max(largest, apart if np.isfinite(apart) else float("inf"))
    return largest
