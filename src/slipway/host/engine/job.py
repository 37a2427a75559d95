"""One request on its way through an engine, and the batch that carried it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused

NEVER: Final = float("inf")

Result = Mapping[str, Array] | Exception
"""Outputs by name, or RequestRefused, or what the model raised on this request alone."""


@dataclass(slots=True)
class Batch:
    """One run of a model; times are of `time.perf_counter`."""

    number: int
    """Counts the batches of one engine."""
    rows: int
    jobs: int
    started: float
    ended: float = 0.0
    copy_s: float = 0.0
    """Seconds of it that went into stacking rows, and moving them to and from a device."""


class Job:
    """One checked request. Made for every request, so it has slots."""

    __slots__ = (
        "abandon", "arrived", "batch", "cancelled", "context", "deadline", "finish", "group",
        "high", "inputs", "rows",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        finish: Callable[["Job", Result], None],
        context: Any = None,
        *,
        group: Any = None,
        arrived: float = 0.0,
        deadline: float = NEVER,
        high: bool = False,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        """Length of the first dimension of every input, where the model is batchable."""
        self.finish = finish
        """Called on the event loop, exactly once; never for a job that was cancelled."""
        self.context = context
        """The asker's own."""
        self.group = group
        """Only jobs of equal groups share a batch; the sizes of variable dimensions but the
        first."""
        self.arrived = arrived
        self.deadline = deadline
        """A job that has not begun by then is refused with `queue_timeout` and never run."""
        self.high = high
        """Whether it goes before the others."""
        self.abandon: Callable[[Job], None] | None = None
        """Called when it is cancelled, at once."""
        self.batch: Batch | None = None
        """Set when it has run."""
        self.cancelled = False

    def cancel(self) -> bool:
        """Give up: it is not run if it has not begun, and nobody hears of it."""
        if not self.cancelled:
            self.cancelled = True
            if self.abandon is not None:
                self.abandon(self)
        return True


def too_late() -> RequestRefused:
    """Make the refusal of a job whose deadline has passed."""
    return RequestRefused("queue_timeout", "the request waited longer than its timeout")
