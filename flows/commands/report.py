"""Rebuild the report of a run from its record and from what its stages left.

python -m flows.commands.report RUN
"""

import argparse
import sys
from pathlib import Path

from flows.report.outputs import changed_since
from flows.report.page import write_report
from flows.talk import failed
from slipway.errors import SlipwayError
from slipway.runs.listing import find_run, read_runs
from slipway.runs.record import Record
from tasks import sums


def main(argv: list[str]) -> int:
    """Write the page, tell on stderr what it cannot show any more, and name it on stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.report",
        description="Rebuild the report of a run from its record.",
    )
    parser.add_argument("run", help="a run's id, the beginning of one, or latest")
    root = Path.cwd()
    try:
        run = find_run(read_runs(root), parser.parse_args(argv).run)
        entry = Record(root, run)
        if lost := changed_since(root, run).sentence:
            print(lost, file=sys.stderr, flush=True)
        write_report(root, run, entry.report)
        if (entry.folder / sums.SUMS).is_file():  # the page is part of what was sealed
            sums.write(entry.folder)
    except (SlipwayError, OSError) as error:
        return failed(error)
    print(entry.report, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
