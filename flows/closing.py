"""Close the record of a run and write its page: the same end for every kind of run."""

from collections.abc import Callable

from flows import notices
from flows.report.page import write_report
from slipway.notify.targets import Reason
from slipway.runs.record import Record
from slipway.runs.run import RunState
from tasks import sums

Say = Callable[[str], None]


def finish(
    entry: Record, state: RunState, error: str | None, say: Say, *, reason: Reason | None = None
) -> None:
    """Close the record, write the report, tell whoever is to know, seal the folder.

    What fails of it costs only itself: the run's own outcome is what must be told.
    """
    try:
        entry.close(state, error)
    except OSError as problem:  # a full disk, say; what is there of the record stays
        say(f"the record could not be closed: {problem}")
    _report(entry, state, say)
    if reason is not None:
        notices.tell(entry, reason, say=say)
    try:
        sums.write(entry.folder)
    except OSError as problem:
        say(f"the record could not be sealed: {problem}")


def _report(entry: Record, state: RunState, say: Say) -> None:
    try:
        write_report(entry.root, entry.run, entry.report)
        if state == "failed":
            say(f"report   {entry.report}")
    except Exception as problem:
        say(f"the report could not be written: {type(problem).__name__}: {problem}")
