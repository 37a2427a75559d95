"""Build what is stale, publish the bundle, release it on a fleet.

    python -m flows.commands.deliver PIPELINE [--fleet FLEET] [--build-only]

Prefect reads its settings when it is imported, so the flow is imported when they are in place,
and not at all where there is nothing to do.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from flows import environment
from flows.dag import stages
from flows.server import prefect_api
from flows.talk import fail, failed
from slipway.config import Config, load_config
from slipway.errors import ConfigError, SlipwayError, Unavailable
from slipway.fleet.inventory import Fleet, load_fleet
from slipway.notify.targets import load_notify
from tasks import installed, names

INTERRUPTED = 128 + signal.SIGINT

LAST_WORDS_S = 15.0
"""How long an interrupted run may take for its report and for telling Prefect, beside what its
stages may take to save their work."""


def main(argv: list[str]) -> int:
    """Run the flow once; return 0, 1 for a failed run, 2 for wrong usage, 130 for Ctrl-C."""
    options = _parse(argv)
    root = Path.cwd()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        config, fleet = _check(root, options)
        environment.be_discreet()
        installed.check(root, config.environment, options.pipeline)
        stages.require(root, options.pipeline)
        names.check(root, options.pipeline, config, names.suite_of(options.pipeline))
        from flows import idle  # what it imports may not be installed, which has been told by now

        if idle.deliver(idle.Delivery(root, options.pipeline, config, fleet)):
            return 0
        environment.apply(root)
        logging.raiseExceptions = False  # of log lines that reach no server: the run has a log
        with prefect_api(root) as server:
            if server is not None:
                print("starting Prefect's API for this run", file=sys.stderr, flush=True)
            from flows.deliver import deliver
            from flows.untold import server_gone

            if server is not None:
                server.wait_until_ready()
            elif problem := server_gone():
                raise Unavailable(f"{problem}; start it, or unset PREFECT_API_URL to do without")
            else:
                _reconcile(root)
            state = deliver(options.pipeline, options.fleet, options.build_only, return_state=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SlipwayError, OSError) as error:
        return failed(error)
    if state.is_completed():
        return 0
    fail(state.message or f"the run ended as {state.name}")
    return state.data.exit_code if isinstance(state.data, SlipwayError) else 1


def _check(root: Path, options: argparse.Namespace) -> tuple[Config, Fleet | None]:
    """Refuse wrong usage before anything starts; return what is to be delivered, and where."""
    if not (root / "dvc.yaml").is_file():
        raise ConfigError("the command line", [f"{root} holds no dvc.yaml: run this in a project"])
    config = load_config(root, options.pipeline)
    load_notify(root)
    fleet = None if options.build_only else load_fleet(root, options.fleet)
    return config, fleet


def _reconcile(root: Path) -> None:
    """Clear what dead runs of this machine hold on the user's server; no run fails for that."""
    from flows.alive.reconcile import reconcile

    try:
        reconcile(root, lambda text: print(text, file=sys.stderr, flush=True))
    except SlipwayError as error:
        print(f"dead runs could not be looked for: {error}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the run at the first Ctrl-C, and this process at once at the second.

    Supervised stages end either way: with this process gone, their control pipes are closed.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    print(
        "slipway: stopping; the next run goes on from here (Ctrl-C again: stop at once)",
        file=sys.stderr,
        flush=True,
    )
    wait_s = stages.longest_grace(Path.cwd()) + LAST_WORDS_S
    last = threading.Timer(wait_s, os._exit, [INTERRUPTED])
    last.daemon = True
    last.start()
    raise KeyboardInterrupt


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.deliver",
        description="Build what is stale, publish the bundle, release it on a fleet.",
    )
    parser.add_argument("pipeline", help="configs/PIPELINE.yaml")
    parser.add_argument("--fleet", default="local", help="configs/fleets/FLEET.yaml")
    parser.add_argument("--build-only", action="store_true", help="stop before publishing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
