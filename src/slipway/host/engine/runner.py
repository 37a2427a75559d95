"""What an engine needs of others: who computes, and who counts."""

from collections.abc import Mapping
from typing import Protocol

from slipway.host.engine.job import Batch, Job
from slipway.host.request.message import Array


class Copied(dict[str, Array]):
    """Outputs that a device computed."""

    def __init__(self, outputs: Mapping[str, Array], copy_s: float) -> None:
        super().__init__(outputs)
        self.copy_s = copy_s
        """Seconds that it took to move rows there and answers back."""


class Runner(Protocol):
    """What an engine needs of a session."""

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Return the outputs of one batch; any thread. They are never written to again."""

    def run_alone(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Do the same with all cores; called when nothing else of the host runs or waits."""

    def close(self) -> None:
        """Let go of the session; called once, when no run is under way."""


class BatchObserver(Protocol):
    """Who counts batches."""

    def batch(self, batch: Batch, jobs: list[Job], error: Exception | None) -> None:
        """Called on the event loop, once per batch, after its jobs were finished.

        A job has waited from `job.arrived` to `batch.started`. The error is the first that
        a run raised, also where every other job got its answer in the end.
        """
