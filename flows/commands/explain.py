"""Say for each stage of a pipeline why it would run, or why not.

python -m flows.commands.explain [STAGE] --pipeline PIPELINE [--json]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import environment
from flows.dag.changes import Change, Explanation, explain
from flows.talk import failed
from slipway.config import load_config
from slipway.errors import ConfigError, SlipwayError
from slipway.sections import suggest
from tasks import installed

VALUE_WIDTH = 60
"""A longer value of a parameter is cut for people, around where it differs; JSON has all of it."""


def main(argv: list[str]) -> int:
    """Explain once; return 0, or 1 and 2 for what `fail` has said."""
    options = _parse(argv)
    root = Path.cwd()
    environment.be_discreet()
    try:
        load_config(root, options.pipeline)
        found = choose(explain(root, options.pipeline), options.stage)
        differing = installed.differences(root / installed.LOCK)
    except (SlipwayError, OSError) as error:
        return failed(error)
    if options.json:
        document = {
            "pipeline": options.pipeline,
            "environment": [str(each) for each in differing],
            "stages": [explained.to_dict() for explained in found],
        }
        print(json.dumps(document, indent=2, allow_nan=False, default=str))
        return 0
    for explained in found:
        print("\n  ".join(lines(explained)))
    if differing:
        print("\n  ".join([f"not installed as {installed.LOCK} has it:", *map(str, differing)]))
    return 0


def choose(found: list[Explanation], name: str | None) -> list[Explanation]:
    """Return the stages that a name means: an address, or a stage with all of its branches."""
    if name is None:
        return found
    chosen = [
        explained
        for explained in found
        if name in (explained.stage, explained.stage.partition("@")[0])
    ]
    if not chosen:
        known = [explained.stage for explained in found]
        near = suggest(name, [*known, *(each.partition("@")[0] for each in known)])
        problem = f"no stage {name!r}{near}; there is: {', '.join(known)}"
        raise ConfigError("the command line", [problem])
    return chosen


def lines(explained: Explanation) -> Iterator[str]:
    """Put an explanation into words: the verdict, then each cause."""
    yield f"{explained.stage} {_verdict(explained)}"
    yield from (_cause(change) for change in explained.changes)
    if explained.changes and explained.upstream:
        yield f"and {' and '.join(explained.upstream)} would run before it"


def _verdict(explained: Explanation) -> str:
    match explained.verdict:
        case "up to date":
            return "is up to date"
        case "would be restored":
            return "would be restored from the run-cache: it ran on these inputs before"
        case "would be asked again":
            return (
                f"would run only because {' and '.join(explained.upstream)} would; it is left alone"
                " if what it reads turns out the same"
            )
        case _:
            known = "" if explained.in_run_cache is None else "; the run-cache has no such run"
            return f"would run{known}"


def _cause(change: Change) -> str:
    note = f" ({change.note})" if change.note else ""
    if change.old is None and change.new is None:
        return f"{change.kind} {change.name}{note}"
    old, new = _shown(change.old, change.new), _shown(change.new, change.old)
    return f"{change.kind} {change.name}: {old} -> {new}{note}"


def _shown(value: Any, other: Any) -> str:
    """Write a value on one line; of a long text, from where it differs from the other."""
    if value is None:
        return "nothing"
    text, against = str(value), str(other)
    if len(text) <= VALUE_WIDTH and "\n" not in text:
        return text
    pairs = zip(text, against, strict=False)
    differs = next((i for i, (one, two) in enumerate(pairs) if one != two), 0)
    line = max(text.rfind("\n", 0, differs) + 1, differs - VALUE_WIDTH // 2)
    return f"…{text[line : line + VALUE_WIDTH].strip()}…".replace("\n", "⏎")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.explain",
        description="Say for each stage of a pipeline why it would run, or why not.",
    )
    parser.add_argument("stage", nargs="?", help="one stage; all of the pipeline if left out")
    parser.add_argument("--pipeline", required=True, help="configs/PIPELINE.yaml")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
