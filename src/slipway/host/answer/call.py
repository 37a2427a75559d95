"""One request inside the host, from its face through the core and back."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from slipway.bundle.contract import Contract
from slipway.host.answer.counts import VersionCounts
from slipway.host.engine.job import Job
from slipway.host.guard.caller import ANYBODY, Caller
from slipway.host.request.admission import Prepared
from slipway.host.request.message import Array, Message
from slipway.host.request.refusal import RequestRefused


class TraceSteps(Protocol):
    """One traced request; times are of `time.perf_counter`."""

    def step(self, name: str, start_s: float, end_s: float) -> None:
        """Note that a step took so long."""


Begin = Callable[[Mapping[bytes, bytes]], TraceSteps | None]
"""Begins the trace of a request, if its headers and the host's settings ask for one."""


class Cancellable(Protocol):
    """What a face leaves running for a caller: a job, a timer, a question to others."""

    def cancel(self) -> object:
        """Give up: the caller has gone."""


class Submits(Protocol):
    """What the core needs of an engine."""

    @property
    def full(self) -> bool:
        """Whether another job would be refused."""

    def submit(self, job: Job) -> None:
        """Take a job; raise RequestRefused if there is no room."""

    def close(self) -> None:
        """Take no more; run what waits, then let go of the session."""


@dataclass(slots=True)
class Loaded:
    """One version that passed every check and can run."""

    version: str
    contract: Contract
    engine: Submits
    series: VersionCounts
    """What is counted about it."""
    templates: dict[bytes, object] = field(default_factory=dict)
    """What a face has learnt about how callers ask this version; bounded by the face."""


@dataclass(frozen=True)
class Serving:
    """What one model serves now."""

    stable: Loaded | None = None
    candidate: Loaded | None = None
    mode: Literal["shadow", "canary"] = "canary"
    """A shadow candidate answers nobody; a canary answers `percent` of the callers."""
    percent: int = 0
    others: tuple[Loaded, ...] = ()
    """Versions that answer only those who ask for them by name."""
    awaited: tuple[str, ...] = ()
    """Versions that are not loaded and should be."""

    @property
    def versions(self) -> tuple[Loaded, ...]:
        """All loaded versions, the stable one first."""
        return tuple(x for x in (self.stable, self.candidate, *self.others) if x)


Result = Mapping[str, Array] | RequestRefused
"""What becomes of a call: the model's outputs by name, or why there are none."""

Reply = Callable[["Call", Result], None]
"""Writes what became of a call in the form that its face has found its caller to want."""


class Call:
    """One request and where it should go. Made for every request: slots are quick to set and read,
    where a default of the class costs a search at each look."""

    __slots__ = (
        "caller", "key", "loaded", "message", "model", "outputs", "prepared", "reply", "request_id",
        "shadow", "trace", "undecided", "version",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        version: str | None,
        message: Message,
        request_id: str | None = None,
        *,
        key: str | None = None,
        caller: Caller = ANYBODY,
    ) -> None:
        self.model = model
        self.version = version
        """A version, or 12 digits or more of one; None leaves the choice to the channel."""
        self.message = message
        self.request_id = request_id
        """The caller's id, or one made up for it when somebody needs one."""
        self.key = key
        """Equal keys get the same version for as long as the candidate is the same."""
        self.caller = caller
        self.trace: TraceSteps | None = None
        self.prepared: Prepared | None = None
        """The tensors, where the face has checked and made them itself; then `message` has no data
        and `outputs` is set."""
        self.outputs: tuple[str, ...] = ()
        """The outputs to answer with, in this order."""
        self.loaded: Loaded | None = None
        """The version that answers."""
        self.undecided: Serving | None = None
        """Of what the version is to be chosen, once the message is read."""
        self.shadow: Loaded | None = None
        """The version that tries the same afterwards."""
        self.reply: Reply | None = None
        """Called exactly once with the outputs or the refusal, unless the call was cancelled."""

    def name(self) -> str:
        """Return the request's id; made up for one whose caller gave none, when it is needed."""
        if not self.request_id:
            self.request_id = secrets.token_hex(8)
        return self.request_id


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call that is over, for those who write it down after its answer was sent."""

    call: Call
    result: Result
    job: Job | None = None
    """None: it never reached an engine."""

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.call.name()

    @property
    def caller(self) -> str:
        """Who asked."""
        return self.call.caller.id

    @property
    def model(self) -> str:
        """What was asked."""
        return self.call.model

    @property
    def version(self) -> str | None:
        """The version that it was given to, if it came that far."""
        return self.call.loaded.version if self.call.loaded else None

    @property
    def contract(self) -> Contract | None:
        """That version's."""
        return self.call.loaded.contract if self.call.loaded else None

    @property
    def code(self) -> str:
        """`ok`, or the error's code."""
        return self.result.code if isinstance(self.result, RequestRefused) else "ok"

    @property
    def trace(self) -> TraceSteps | None:
        """What was noted on the way."""
        return self.call.trace

    @property
    def inputs(self) -> Mapping[str, Array] | None:
        """What the session took, if the request was read."""
        return self.call.prepared.inputs if self.call.prepared else None

    @property
    def rows(self) -> int:
        """How many rows were asked about."""
        return self.call.prepared.rows if self.call.prepared else 0

    @property
    def outputs(self) -> Mapping[str, Array] | None:
        """Those that were asked for, if it was answered."""
        if isinstance(self.result, RequestRefused):
            return None
        return {name: self.result[name] for name in self.call.outputs}
