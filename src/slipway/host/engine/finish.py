"""Give jobs their results."""

import logging
from collections.abc import Iterable

from slipway.host.engine.job import Job, Result

log = logging.getLogger(__name__)


def finish(job: Job, result: Result) -> None:
    """Finish one of several jobs, if anybody still waits; nobody's trouble is another's."""
    finish_all((job,), (result,))


def finish_all(jobs: Iterable[Job], results: Iterable[Result]) -> None:
    """Finish all of these, each with its own; in one call, as it runs for every request."""
    for job, result in zip(jobs, results, strict=True):
        if job.cancelled:
            continue
        try:
            job.finish(job, result)
        except Exception:
            log.exception("an answer could not be given")
