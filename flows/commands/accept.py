"""Show how the sources of a pipeline changed, and accept them.

python -m flows.commands.accept PIPELINE [--yes] [--dry-run] [--json]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from flows import acceptance
from flows.acceptance import Incoming
from flows.dag import stages, workspace
from flows.talk import failed
from slipway.config import AcceptConfig, load_config
from slipway.errors import ConfigError, SlipwayError


def main(argv: list[str]) -> int:
    """Return 0 for accepted or nothing to accept, 1 for a no, 2 for wrong usage."""
    options = _parse(argv)
    root = Path.cwd()
    try:
        stages.require(root, options.pipeline)
        config = load_config(root, options.pipeline)
        incoming = acceptance.look(root, options.pipeline, config.ingest.sources)
        if not options.json:
            _show(options.pipeline, incoming, config.accept)
        accepted = incoming is None or _is_wanted(options)
        if accepted and incoming is not None and not options.dry_run:
            # not while the question stood: a run at night would wait for the answer
            with workspace.only_run(root, _say):
                acceptance.accept(root, options.pipeline, incoming)
            _say(f"accepted: data/{options.pipeline}/sources.lock and accepted.json; commit both")
        if options.json:
            print(
                json.dumps(_result(options, incoming, config.accept, accepted=accepted), indent=2)
            )
    except KeyboardInterrupt:
        return 130
    except (SlipwayError, OSError) as error:
        return failed(error)
    return 0 if accepted else 1


def _is_wanted(options: argparse.Namespace) -> bool:
    if options.yes or options.dry_run:
        return True
    if not sys.stdin.isatty():
        problem = "no terminal to ask on: --yes accepts, --dry-run only looks"
        raise ConfigError("the command line", [problem])
    print("accept? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(pipeline: str, incoming: Incoming | None, config: AcceptConfig) -> None:
    """Write what changed, and what a run would say to it."""
    if incoming is None:
        print(f"the sources of {pipeline} are those that were accepted")
        return
    for line in incoming.lines or [_without_change(incoming)]:
        print(line)
    for problem in incoming.problems.values():
        print(f"cannot be read as the config says: {problem}")
    for reason in acceptance.judge(incoming, config):
        print(f"a run would stop: {reason}")
    sys.stdout.flush()


def _without_change(incoming: Incoming) -> str:
    if incoming.first:
        return "nothing was accepted before: what is there now is the first"
    return "the same bytes as before; what is known of them is written anew"


def _result(
    options: argparse.Namespace,
    incoming: Incoming | None,
    config: AcceptConfig,
    *,
    accepted: bool,
) -> dict[str, Any]:
    return {
        "pipeline": options.pipeline,
        "changed": incoming is not None,
        "accepted": accepted and not options.dry_run,
        "stops_a_run": acceptance.judge(incoming, config) if incoming else [],
        "changes": incoming.lines if incoming else [],
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.accept",
        description="Show how the sources of a pipeline changed, and accept them.",
    )
    parser.add_argument("pipeline", help="configs/PIPELINE.yaml")
    parser.add_argument("--yes", action="store_true", help="accept without a question")
    parser.add_argument("--dry-run", action="store_true", help="only look")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
