"""Give jobs their results."""

import logging

from slipway.host.engine.job import Job, Result

log = logging.getLogger(__name__)


def finish(job: Job, result: Result) -> None:
    """Finish one of several jobs, if anybody still waits; nobody's trouble is another's."""
    if job.cancelled:
        return
    try:
        job.finish(job, result)
    except Exception:
        log.exception("an answer could not be given")
