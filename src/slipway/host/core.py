"""Answer requests, whatever transport brought them: find the version, check, run, answer.

Runs on the event loop and never waits: an engine's future comes back here, and the answer goes
to the callback that came with the call. What is served is replaced whole, in one assignment,
so no request ever sees half of a change.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from slipway.bundle.contract import Contract
from slipway.host.engine.engine import Engine
from slipway.host.message import Answer, Array, Message
from slipway.host.observe.metrics import Metrics
from slipway.host.refusal import RequestRefused, quote
from slipway.host.shadow import Shadow
from slipway.host.tensors import check_outputs, make_tensors, pick_outputs
from slipway.store.split import takes_candidate

log = logging.getLogger(__name__)

PREFIX_MIN: Final = 12
"""Fewer digits of a version could mean two of them."""

Future = asyncio.Future[Mapping[str, Array]]


@dataclass(frozen=True)
class Loaded:
    """One version that passed every check and can run."""

    version: str
    contract: Contract
    engine: Engine


@dataclass(frozen=True)
class Serving:
    """What one model serves now."""

    stable: Loaded | None = None
    candidate: Loaded | None = None
    mode: Literal["shadow", "canary"] = "canary"
    """A shadow candidate answers nobody; a canary answers `percent` of the callers."""
    percent: int = 0

    @property
    def versions(self) -> tuple[Loaded, ...]:
        """All loaded versions, the stable one first."""
        return tuple(loaded for loaded in (self.stable, self.candidate) if loaded)


@dataclass(frozen=True, slots=True)
class Call:
    """One request and where it should go."""

    model: str
    version: str | None
    """A version, or 12 digits or more of one; None leaves the choice to the channel."""
    message: Message
    request_id: str
    """The caller's id, or one made up for it."""
    key: str | None
    """Equal keys get the same version for as long as the candidate is the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call, and the version that it was given to, if it came that far."""

    result: Answer | RequestRefused
    version: str | None


Reply = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class _Running:
    """What is needed again when the engine is done."""

    call: Call
    reply: Reply
    loaded: Loaded
    outputs: tuple[str, ...]
    rows: int
    started: float
    shadow: Loaded | None


class Core:
    """The models of this host and the requests in flight."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self.models: dict[str, Serving] = {}
        self.ready = False
        """Whether every model that has a stable version by its channel serves one."""
        self.draining = False
        self.in_flight = 0
        self._metrics = metrics
        self._clock = clock
        self._shadow = Shadow(metrics)
        metrics.in_flight.set_function(lambda: self.in_flight)

    def find(self, model: str) -> Serving:
        """Return what a model serves; raise RequestRefused for one that no channel names."""
        if model not in self.models:
            raise RequestRefused("model_not_found", f"there is no model {quote(model)} here")
        return self.models[model]

    def find_version(self, model: str, version: str) -> Loaded:
        """Return a loaded version by its digits."""
        found = [x for x in self.find(model).versions if x.version.startswith(version)]
        if len(found) != 1 or len(version) < PREFIX_MIN:
            raise RequestRefused("version_not_found", f"version {quote(version)} is not loaded")
        return found[0]

    def infer(self, call: Call, reply: Reply) -> Future | None:
        """Answer a call through `reply`, exactly once; cancel the future if nobody waits."""
        started = self._clock()
        loaded: Loaded | None = None
        try:
            if self.draining:
                raise RequestRefused("draining", "this host is stopping; ask another")
            loaded, shadow = self._route(call)
            outputs = pick_outputs(call.message, loaded.contract)
            tensors = make_tensors(call.message, loaded.contract)
            future = loaded.engine.submit(tensors)
        except RequestRefused as refusal:
            version = loaded.version if loaded else None
            self._count(call.model, version, refusal.code)
            reply(Outcome(refusal, version))
            return None
        rows = len(next(iter(tensors.values())))
        self.in_flight += 1
        running = _Running(call, reply, loaded, outputs, rows, started, shadow)
        future.add_done_callback(partial(self._finish, running))
        return future

    def count_refusal(self, model: str, refusal: RequestRefused) -> None:
        """Count a request that named a model and could not be read."""
        self._count(model, None, refusal.code)

    def _route(self, call: Call) -> tuple[Loaded, Loaded | None]:
        """Return the version that answers, and the one that shadows it."""
        if call.version is not None:
            return self.find_version(call.model, call.version), None
        serving = self.find(call.model)
        candidate = serving.candidate
        key = call.key if call.key is not None else call.request_id
        chosen = candidate and takes_candidate(candidate.version, key, serving.percent)
        if candidate and chosen and serving.mode == "canary":
            return candidate, None
        if serving.stable is None:
            raise RequestRefused("not_ready", "this model has no stable version here yet")
        return serving.stable, candidate if chosen else None

    def _finish(self, running: _Running, future: Future) -> None:
        """Send what the engine made of a call, then let the shadow try the same."""
        self.in_flight -= 1
        model, version = running.call.model, running.loaded.version
        if future.cancelled():
            self._count(model, version, "cancelled")
            return
        result = self._judge(running, future)
        if isinstance(result, RequestRefused):
            self._count(model, version, result.code)
        else:
            self._count(model, version, "ok")
            seconds = self._clock() - running.started
            self._metrics.seconds.labels(model, version).observe(seconds)
        running.reply(Outcome(result, version))
        if running.shadow and isinstance(result, Answer):
            shadow = running.shadow
            self._shadow.compare(
                result, running.call.message, shadow.contract, shadow.version, shadow.engine
            )

    def _judge(self, running: _Running, future: Future) -> Answer | RequestRefused:
        """Make an answer of what the engine gave; no fault of a model gets past here."""
        call, loaded = running.call, running.loaded
        try:
            outputs = check_outputs(future.result(), running.outputs, loaded.contract, running.rows)
            return Answer(call.model, loaded.version, call.message.id, outputs)
        except RequestRefused as refusal:
            return refusal
        except Exception:
            log.exception(
                "the model failed",
                extra={"request_id": call.request_id, "version": loaded.version},
            )
            return RequestRefused("model_failed", "the model failed on this request")

    def _count(self, model: str, version: str | None, code: str) -> None:
        """Count a request; a name that is no model of ours must not become a label."""
        known = model if model in self.models else ""
        self._metrics.requests.labels(known, version or "", code).inc()
