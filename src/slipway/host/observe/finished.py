"""A request that is over, in this room's own words: it knows neither who answers nor who asks."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from slipway.bundle.contract import Contract

Array = NDArray[Any]


class FinishedRun(Protocol):
    """One run of a model on a batch; times are of `time.perf_counter`."""

    number: int
    """Counts the runs of one version."""
    rows: int
    jobs: int
    """Its requests."""
    started: float
    ended: float
    copy_s: float


class Execution(Protocol):
    """What an engine did for one request."""

    rows: int
    arrived: float
    """When it was checked and began to wait."""

    @property
    def batch(self) -> FinishedRun | None:
        """The run that carried it; None: it was never run."""


class Finished(Protocol):
    """One request and what became of it."""

    @property
    def request_id(self) -> str:
        """The caller's, or one that is made up now."""

    @property
    def caller(self) -> str:
        """The id of a key or a token's subject; "" where nobody is known."""

    @property
    def model(self) -> str:
        """The model that was asked for; a caller's text, if it is none of ours."""

    @property
    def version(self) -> str | None:
        """The version that it was given to, if it came that far."""

    @property
    def contract(self) -> Contract | None:
        """That version's."""

    @property
    def code(self) -> str:
        """`ok`, or the error's code."""

    @property
    def job(self) -> Execution | None:
        """None: it never reached an engine."""

    @property
    def trace(self) -> object:
        """What this room's tracer began for it, or None."""

    @property
    def inputs(self) -> Mapping[str, Array] | None:
        """As the session took them; None if the request was not read."""

    @property
    def outputs(self) -> Mapping[str, Array] | None:
        """Those that were asked for; None if it was refused."""

    @property
    def rows(self) -> int:
        """How many rows were asked about; 0 if the request was not read."""
