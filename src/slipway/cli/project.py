"""Find the project that a command is about, and start its flows."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from slipway.errors import ConfigError
from slipway.state import share_state


def find_root() -> Path:
    """Return the nearest folder at or above this one that holds dvc.yaml and configs/."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "configs").is_dir():
            share_state(folder)
            return folder
    raise ConfigError(
        "the command line",
        [f"{here} is not inside a Slipway project: no folder above it has dvc.yaml and configs/"],
    )


def run_flow(root: Path, module: str, *args: str) -> int:
    """Run a flow as a child in the project's checkout and return its exit code.

    The child shares this terminal and process group, so Ctrl-C reaches it by itself; this
    process only waits for it to end in order. SIGTERM, which comes to one process, is
    passed on.
    """
    child = subprocess.Popen([sys.executable, "-m", module, *args], cwd=root)

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        while True:
            try:
                code = child.wait()
                return code if code >= 0 else 128 - code
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def become_flow(root: Path, module: str, *args: str) -> NoReturn:
    """Become a flow's command in the project's checkout: whoever ends this process ends that."""
    os.chdir(root)
    os.execv(sys.executable, [sys.executable, "-m", module, *args])  # noqa: S606  no shell


def say(text: str) -> None:
    """Talk: to stderr, so that stdout holds the result alone."""
    click.echo(text, err=True)


def show_json(value: Any) -> None:
    """Write a result for machines."""
    click.echo(json.dumps(value, indent=2, sort_keys=False, allow_nan=False))


fleet_option = click.option(
    "--fleet", "fleet_name", default="local", show_default=True, metavar="F", help="The fleet."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
