"""Remove what this project no longer needs.

python -m flows.commands.prune [--keep-runs N] [--keep-days D] [--store] [--dry-run] [--json]
"""

import argparse
import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from flows import environment
from flows.dag import workspace
from flows.dag.opening import to_stderr
from flows.prune.plan import Rules, Sorting
from flows.prune.walk import prune
from flows.talk import fail
from slipway.backups import LOCK
from slipway.errors import SlipwayError
from slipway.wording import size

KEEP_RUNS, KEEP_DAYS = 50, 90.0


def main(argv: list[str]) -> int:
    """Return 0, or what `fail` has said."""
    options = _parse(argv)
    root = Path.cwd()
    environment.be_discreet()
    rules = Rules(datetime.now(UTC), options.keep_runs, options.keep_days)
    try:
        with ExitStack() as stack:
            if not options.dry_run:
                stack.enter_context(workspace.only_run(root, to_stderr))
                stack.enter_context(workspace.take_turn(root / LOCK, "backup", to_stderr))
            plan = prune(root, rules, with_stores=options.store, dry_run=options.dry_run)
    except KeyboardInterrupt:
        return 130
    except SlipwayError as error:
        fail(str(error))
        return error.exit_code
    except OSError as error:
        fail(f"{error.filename}: {error.strerror or error}; run it again, it goes on")
        return 1
    print(
        json.dumps([_row(each) for each in plan.all], indent=2)
        if options.json
        else "\n".join(_lines(plan.all, dry_run=options.dry_run, stores=options.store))
    )
    return 0


def _lines(found: list[Sorting], *, dry_run: bool, stores: bool) -> list[str]:
    verb = "would go" if dry_run else "gone"
    lines = [f"{'what':12} {verb:>9} {'bytes':>9}  kept"]
    for each in found:
        kept = "; ".join(f"{count:,} {why}" for why, count in each.kept.items()) or "none"
        lines.append(f"{each.kind:12} {len(each.goes):>9,} {size(each.size_bytes):>9}  {kept}")
    if not stores:
        lines.append("bundles of the stores are all kept; --store looks through them, too")
    return lines


def _row(each: Sorting) -> dict[str, object]:
    return {
        "what": each.kind,
        "goes": [item.name for item in each.goes],
        "bytes": each.size_bytes,
        "kept": dict(each.kept),
    }


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.commands.prune", description=__doc__)
    parser.add_argument("--keep-runs", type=int, default=KEEP_RUNS, help="records kept, at least")
    parser.add_argument("--keep-days", type=float, default=KEEP_DAYS, help="days kept, at least")
    parser.add_argument("--store", action="store_true", help="bundles that nothing needs, too")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
