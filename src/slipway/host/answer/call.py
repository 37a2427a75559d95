"""One request inside the host, from its face through the core and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from slipway.bundle.contract import Contract
from slipway.host.engine.job import Batch, Job
from slipway.host.guard.caller import ANYBODY, Caller
from slipway.host.request.admission import Prepared
from slipway.host.request.message import Answer, Array, Message
from slipway.host.request.refusal import RequestRefused

if TYPE_CHECKING:
    from slipway.host.observe.metrics import Series


class Trace(Protocol):
    """One traced request; times are of `time.perf_counter`."""

    def step(self, name: str, start_s: float, end_s: float) -> None:
        """Note that a step took so long."""

    def finish(self, call: "Call", outcome: "Outcome", batch: Batch | None) -> None:
        """Hand the whole request over for export."""


Begin = Callable[[Mapping[bytes, bytes]], Trace | None]
"""Begins the trace of a request, if its headers and the host's settings ask for one."""


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
    series: "Series"
    """What is counted about it."""
    plans: dict[bytes, Any] = field(default_factory=dict)
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

    @property
    def versions(self) -> tuple[Loaded, ...]:
        """All loaded versions, the stable one first."""
        return tuple(x for x in (self.stable, self.candidate, *self.others) if x)


@dataclass(slots=True)
class Outcome:
    """What became of a call, and the version that it was given to, if it came that far."""

    result: Answer | RequestRefused
    version: str | None


Reply = Callable[[Outcome], None]


class Call:
    """One request and where it should go.

    Made for every request, so what most requests never set stays with the class.
    """

    trace: Trace | None = None
    prepared: Prepared | None = None
    """The tensors, where the face has checked and made them itself; then `message` has no data
    and `outputs` is set."""
    outputs: tuple[str, ...] = ()
    """The outputs to answer with, in this order."""
    loaded: Loaded | None = None
    """The version that answers."""
    shadow: Loaded | None = None
    """The version that tries the same afterwards."""
    reply: Callable[["Call", Mapping[str, Array] | RequestRefused], None] | None = None
    """Called exactly once with the outputs or the refusal, unless the call was cancelled."""
    respond: Any = None
    """The face's own: where the answer goes."""
    form: Any = None
    """The face's own: how it is written."""

    def __init__(
        self,
        model: str,
        version: str | None,
        message: Message,
        request_id: str | None = None,
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
