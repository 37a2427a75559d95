"""Progress of long stages: a bar on a terminal, JSON lines under the flow, else a few lines."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Update = Callable[..., None]
"""update(done, **numbers): `done` of the total, and figures worth showing beside the bar."""


@contextmanager
def track(total: int, label: str) -> Iterator[Update]:
    """Show how far a stage is; yields the function to call with the steps done so far."""
    if os.environ.get("SLIPWAY_PROGRESS") == "json":
        yield _json_lines(total, label)
    elif sys.stderr.isatty():
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, figures="")

            def update(done: int, **numbers: float) -> None:
                bar.update(task, completed=done, figures=_figures(numbers))

            yield update
    else:
        yield _plain_lines(total, label)


def _json_lines(total: int, label: str) -> Update:
    def update(done: int, **numbers: float) -> None:
        event = {"progress": {"label": label, "done": done, "total": total, **numbers}}
        print(json.dumps(event), file=sys.stderr, flush=True)

    return update


def _plain_lines(total: int, label: str) -> Update:
    """Say something at each tenth only: this goes into log files."""
    tenth = 0

    def update(done: int, **numbers: float) -> None:
        nonlocal tenth
        if (reached := 10 * done // max(1, total)) > tenth:
            tenth = reached
            print(f"  {label} {done}/{total} {_figures(numbers)}", file=sys.stderr, flush=True)

    return update


def _figures(numbers: dict[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items())
