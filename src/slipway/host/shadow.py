"""Repeat answered requests on a shadow candidate and count how far its answers lie apart.

Never in a caller's way: it starts after the answer was sent, it is dropped when two are under
way, and whatever it does is a number in the metrics.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from slipway.bundle.contract import Contract
from slipway.host.engine.engine import Engine
from slipway.host.message import Answer, Array, Message
from slipway.host.observe.metrics import Metrics
from slipway.host.refusal import RequestRefused
from slipway.host.tensors import make_tensors

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Shadow runs under way. More would take the threads that callers wait for."""


class Shadow:
    """The budget of shadow runs and their comparison."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._running = 0
        self._largest: dict[tuple[str, str], float] = {}

    def compare(
        self, answer: Answer, message: Message, contract: Contract, version: str, engine: Engine
    ) -> None:
        """Run the same message on another version, if the budget allows."""
        if self._running >= AT_ONCE:
            self._count(answer.model, version, "skipped")
            return
        try:
            future = engine.submit(make_tensors(message, contract))
        except RequestRefused:
            self._count(answer.model, version, "failed")
            return
        self._running += 1
        future.add_done_callback(partial(self._finish, answer, version))

    def _finish(
        self, answer: Answer, version: str, future: asyncio.Future[Mapping[str, Array]]
    ) -> None:
        self._running -= 1
        try:
            apart = largest_difference(answer, future.result())
        except Exception:
            log.exception("the shadow failed", extra={"version": version})
            self._count(answer.model, version, "failed")
            return
        self._count(answer.model, version, "compared")
        series = (answer.model, version)
        self._largest[series] = max(self._largest.get(series, 0.0), apart)
        self._metrics.shadow_difference.labels(*series).set(self._largest[series])

    def _count(self, model: str, version: str, outcome: str) -> None:
        self._metrics.shadows.labels(model, version, outcome).inc()


def largest_difference(answer: Answer, raw: Mapping[str, Array]) -> float:
    """Return the largest distance of any value; a missing or non-finite one is infinitely far."""
    largest = 0.0
    for output in answer.outputs:
        other = raw.get(output.name)
        if other is None or other.shape != output.values.shape:
            return float("inf")
        if output.values.dtype == object:
            apart = float((other != output.values).any())
        else:
            apart = float(np.max(np.abs(other.astype(float) - output.values.astype(float))))
        largest = max(largest, apart if np.isfinite(apart) else float("inf"))
    return largest
