"""Register schedules, triggers and automations on a Prefect server, or say what differs there.

python -m flows.commands.deployments apply [--server URL]
python -m flows.commands.deployments check [--server URL] [--json]
"""

import argparse
import json
import os
import sys
from pathlib import Path

from flows import environment
from flows.checkout import worktrees
from flows.deployments import declared
from flows.talk import failed
from slipway.errors import ConfigError, SlipwayError


def main(argv: list[str]) -> int:
    """Return 0; 1 where `check` finds a difference, or for what `fail` has said."""
    options = _parse(argv)
    environment.be_discreet()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    if options.server:
        os.environ["PREFECT_API_URL"] = options.server
    try:
        return _run(Path.cwd(), options)
    except (SlipwayError, OSError) as error:
        return failed(error)


def _run(root: Path, options: argparse.Namespace) -> int:
    project = declared.read(root)
    from flows.alive.flow_runs import client
    from flows.deployments import compare, server

    _require_server()
    if options.action == "apply":
        worktrees.require_repository(root)
    with client() as connected:
        wanted = frozenset(server.automations(project.flows))
        before = compare.differences(project, server.ask(connected, project), wanted)
        if options.action == "check":
            return _tell(before, str(connected.api_url), options.json)
        server.apply(connected, root, project)
        left = compare.differences(project, server.ask(connected, project), wanted)
        names = ", ".join(deployment.full_name for deployment in project.deployments)
        print(f"{connected.api_url} knows {names}")
        for line in before:
            print(f"  was: {line}")
        for line in left:
            print(f"  still: {line}")
    return 0


def _require_server() -> None:
    """Refuse to start a server of this command's own, which nobody would ever ask again."""
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        problem = (
            "no Prefect server is configured: export PREFECT_API_URL=http://HOST:4200/api, or give"
            " it by --server"
        )
        raise ConfigError("the command line", [problem])


def _tell(lines: list[str], where: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"server": where, "differences": lines}, indent=2))
    elif lines:
        print("\n".join([f"{where} differs from {declared.FILE}:", *(f"  {x}" for x in lines)]))
        print("set it right by: slipway deployments apply", file=sys.stderr)
    else:
        print(f"{where} holds what {declared.FILE} declares")
    return 1 if lines else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.commands.deployments")
    parser.add_argument("action", choices=["apply", "check"])
    parser.add_argument("--server", help="the server's API; PREFECT_API_URL if left out")
    parser.add_argument("--json", action="store_true", help="differences as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
