"""Close the record of a run and write its page: the same end for every kind of run."""

from collections.abc import Callable

from flows.report.page import write_report
from slipway.runs.record import Record
from slipway.runs.run import RunState
from tasks import sums


def finish(entry: Record, state: RunState, error: str | None, say: Callable[[str], None]) -> None:
    """Close the record, write the report, seal both; a report that fails costs only itself."""
    entry.close(state, error)
    try:
        write_report(entry.root, entry.run, entry.report)
        if state == "failed":
            say(f"report   {entry.report}")
    except Exception as problem:  # the run's own outcome is what must be told
        say(f"the report could not be written: {type(problem).__name__}: {problem}")
    sums.write(entry.folder)
