"""What is counted, told through these ports: who counts knows nothing of this room."""

from collections.abc import Callable
from typing import Protocol

from slipway.host.engine.cache import CacheCounts
from slipway.host.engine.job import Job
from slipway.host.engine.runner import BatchObserver


class VersionTotals(Protocol):
    """What one version did so far; every time is in seconds, added up."""

    answered: int
    refused: int
    runs: int
    """Batches."""
    rows: int
    """Of all batches."""
    request_s: float
    """From the complete requests to their answers."""
    queue_s: float
    """From the checked requests to the begin of their runs."""
    run_s: float
    """Of the runs, with copying."""
    copy_s: float


class VersionCounts(BatchObserver, CacheCounts, Protocol):
    """Counts one version of a model; held by what is loaded."""

    def count(self, code: str) -> None:
        """Count a request that was not answered, by its error's code."""

    def answered(self, total_s: float) -> None:
        """Count an answered request and how long it took."""

    def totals(self) -> VersionTotals:
        """Return what was counted so far."""


class Counts(Protocol):
    """Counts for one host. Names are of models and versions that are here, never a caller's."""

    def series(self, model: str, version: str) -> VersionCounts:
        """Return what counts a version; both are "" for a model that is not here."""

    def watch(self, in_flight: Callable[[], int]) -> None:
        """Ask this whenever somebody wants to know how many requests are being answered."""

    def shadowed(self, model: str, version: str, outcome: str) -> None:
        """Count a request that a shadow repeated: compared, failed or skipped."""

    def shadow_apart(self, model: str, version: str, largest: float) -> None:
        """Note the largest difference of a shadow's answers so far."""


class CallerCounts(Protocol):
    """Counts by caller, where callers are known."""

    def count(self, caller: str, job: Job | None) -> None:
        """Count one request of a caller; the job is what ran for it, if anything did."""
