"""Answer requests, whatever transport brought them: find the version, check, run, answer.

Runs on the event loop and never waits: an engine calls back, and the answer goes to the face
that brought the call. What is served is replaced whole, in one assignment, so no request ever
sees half of a change.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from slipway.host.answer.call import Call, Loaded, Outcome, Serving
from slipway.host.answer.counts import CallerCounts, Counts
from slipway.host.answer.shadow import Shadow
from slipway.host.answer.split import NO_STABLE, choose, settle
from slipway.host.engine.job import Job, Result
from slipway.host.request.admission import pick_outputs, prepare
from slipway.host.request.message import Answer, Array, OutputData
from slipway.host.request.refusal import RequestRefused, quote

log = logging.getLogger(__name__)

PREFIX_MIN: Final = 12
"""Fewer digits of a version could mean two of them."""

FAILED: Final = "the model failed on this request"

NOT_KNOWN: Final = "this host has yet to learn whether it has this model; try again"


class Observer(Protocol):
    """Hears of every finished request, after its answer was handed over."""

    def finished(self, outcome: Outcome) -> None:
        """Take note; must not wait and must not raise."""


class Core:
    """The models of this host and the requests in flight."""

    def __init__(self, counts: Counts, clock: Callable[[], float] = time.perf_counter) -> None:
        self.models: dict[str, Serving] = {}
        self.ready = False
        """Whether every model that has a stable version by its channel serves one."""
        self.awaited: frozenset[str] | None = None
        """Models that this host may come to have; None: it has yet to learn which."""
        self.draining = False
        self.in_flight = 0
        self.observers: tuple[Observer, ...] = ()
        self.callers: CallerCounts | None = None
        """Counts by caller, where callers are known; no observer, because it needs no outcome."""
        self._counts = counts
        self._clock = clock
        self._shadow = Shadow(counts)
        self._done = self._finish  # bound once, not per request
        self._gone = self._abandon
        counts.watch(lambda: self.in_flight)

    def find(self, model: str) -> Serving:
        """Return what a model serves; raise RequestRefused for one that no channel names.

        "Not found" is final for a caller, so it is said of nothing that may still come.
        """
        if model not in self.models:
            if self.awaits(model):
                raise RequestRefused("not_ready", NOT_KNOWN)
            raise RequestRefused("model_not_found", f"there is no model {quote(model)} here")
        return self.models[model]

    def awaits(self, model: str) -> bool:
        """Tell whether a model that is not here may come."""
        return self.awaited is None or model in self.awaited

    def find_version(self, model: str, version: str) -> Loaded:
        """Return a loaded version by its digits."""
        serving = self.find(model)
        found = [x for x in serving.versions if x.version.startswith(version)]
        if len(found) == 1 and len(version) >= PREFIX_MIN:
            return found[0]
        coming = any(awaited.startswith(version) for awaited in serving.awaited)
        if not found and len(version) >= PREFIX_MIN and (coming or self.awaited is None):
            raise RequestRefused("not_ready", f"version {quote(version)} is not loaded yet")
        raise RequestRefused("version_not_found", f"version {quote(version)} is not loaded")

    def pick(self, model: str, version: str | None) -> Loaded | None:
        """Return a version, or the stable one if none is named; None where there is none."""
        return self.find(model).stable if version is None else self.find_version(model, version)

    def get(self, model: str, version: str | None) -> Loaded:
        """Return the same; raise RequestRefused where there is none."""
        loaded = self.pick(model, version)
        if loaded is None:
            raise RequestRefused("not_ready", NO_STABLE)
        return loaded

    def submit(self, call: Call) -> Job | None:
        """Answer a call through its `reply`, exactly once.

        Cancel the job if nobody waits any more.
        """
        arrived = self._clock()
        try:
            if self.draining:
                raise RequestRefused("draining", "this host is stopping; ask another")
            loaded = call.loaded
            if loaded is None:
                loaded = self.route(call)
            if call.undecided is not None:
                settle(call)
                loaded = call.loaded or loaded
            message, prepared = call.message, call.prepared
            if prepared is None:
                call.outputs = pick_outputs(message, loaded.contract)
                prepared = call.prepared = prepare(message, loaded.contract)
            if call.caller.meter is not None:
                call.caller.charge(prepared.rows)
            job = Job(prepared.inputs, prepared.rows, self._done, call)
            job.group = prepared.group
            job.arrived = arrived
            job.abandon = self._gone
            if message.timeout_us:
                job.deadline = arrived + message.timeout_us * 1e-6
            if message.priority == 1:
                job.high = True
            if call.trace is not None:
                call.trace.step("check", arrived, self._clock())
            loaded.engine.submit(job)
            self.in_flight += 1
        except RequestRefused as refusal:
            self.refuse(call, refusal)
            return None
        return job

    def count_refusal(self, model: str, refusal: RequestRefused) -> None:
        """Count a request that named a model and could not be read."""
        self._counts.series(model if model in self.models else "", "").count(refusal.code)

    def route(self, call: Call) -> Loaded:
        """Choose the version that reads a call, and answers it unless that is left undecided."""
        if call.version is not None:
            loaded = self.find_version(call.model, call.version)
        else:
            serving = self.models.get(call.model) or self.find(call.model)
            if serving.candidate is not None or serving.stable is None:
                return choose(call, serving)
            loaded = serving.stable
        call.loaded = loaded
        return loaded

    def _finish(self, job: Job, result: Result) -> None:
        """Send what the engine made of a call, then let the shadow try the same."""
        call: Call = job.context
        loaded = call.loaded
        assert loaded is not None
        self.in_flight -= 1
        if isinstance(result, Exception):
            result = self._judge(call, result)
            loaded.series.count(result.code)
        else:
            ended = job.batch.ended if job.batch is not None else self._clock()
            loaded.series.answered(ended - job.arrived)
        reply, call.reply = call.reply, None
        assert reply is not None
        reply(call, result)
        if call.shadow is not None and not isinstance(result, RequestRefused):
            self._shadow.compare(call, result)
        if self.callers is not None:
            self.callers.count(call.caller.id, job)
        if self.observers:
            self._tell(Outcome(call, result, job))

    def _abandon(self, job: Job) -> None:
        """Count a job whose caller has gone."""
        call: Call = job.context
        if call.reply is not None:
            call.reply = None
            self.in_flight -= 1
            self._count(call, "cancelled")

    def refuse(self, call: Call, refusal: RequestRefused) -> None:
        """Answer a call that never reached an engine."""
        self._count(call, refusal.code)
        reply, call.reply = call.reply, None
        assert reply is not None
        reply(call, refusal)
        if self.callers is not None:
            self.callers.count(call.caller.id, None)
        if self.observers:
            self._tell(Outcome(call, refusal))

    def _judge(self, call: Call, error: Exception) -> RequestRefused:
        """Make a refusal of what the engine gave; no fault of a model gets past here."""
        if isinstance(error, RequestRefused):
            return error
        version = call.loaded.version if call.loaded else None
        extra = {"request_id": call.name(), "version": version}
        log.error("the model failed", exc_info=error, extra=extra)
        return RequestRefused("model_failed", FAILED)

    def _tell(self, outcome: Outcome) -> None:
        for observer in self.observers:
            observer.finished(outcome)

    def _count(self, call: Call, code: str) -> None:
        """Count a request; a name that is no model of ours must not become a label."""
        if call.loaded is not None:
            call.loaded.series.count(code)
        else:
            self._counts.series(call.model if call.model in self.models else "", "").count(code)


def make_answer(call: Call, outputs: Mapping[str, Array]) -> Answer:
    """Return the answer to a call: of a model's outputs those that were asked for, in order."""
    loaded = call.loaded
    assert loaded is not None
    datatypes = {tensor.name: tensor.datatype for tensor in loaded.contract.outputs}
    answered = tuple(OutputData(name, datatypes[name], outputs[name]) for name in call.outputs)
    return Answer(call.model, loaded.version, call.message.id, answered)
