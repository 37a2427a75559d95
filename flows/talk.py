"""Say on stderr how a run is getting on: a line per stage, a bar for what takes long.

On a terminal the running stages stand below the lines and move; anywhere else each stage
says something when it is done, and a long one at each tenth.
"""

import errno
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from slipway.errors import SlipwayError

REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""What a machine says that does not let anybody write."""

MARKS = {
    "ran": "[green]✓[/]",
    "restored": "[green]✓[/]",
    "skipped": "[dim]·[/]",
    "failed": "[red]✗[/]",
    "stopped": "[yellow]✗[/]",
    "not run": "[dim]-[/]",
}


class Talk:
    """The running commentary of one run. Stages talk from threads of their own."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to stderr unless another console is given."""
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tenths: dict[str, int] = {}
        self._lock = Lock()

    @contextmanager
    def live(self) -> Iterator["Talk"]:
        """Show moving bars until the block ends."""
        with self._bars:
            yield self

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(escape(text))

    def unchanged(self, titles: list[str]) -> None:
        """Name the stages that have nothing to do."""
        for title in titles:
            self._console.print(f"{MARKS['skipped']} [dim]{escape(title)} unchanged[/]")

    @contextmanager
    def stage(self, title: str) -> Iterator["StageTalk"]:
        """Show a stage while it runs; its outcome is printed by `StageTalk.done`."""
        with self._lock:
            task = self._bars.add_task(escape(title), total=None, figures="")
        try:
            yield StageTalk(self, title, task)
        finally:
            with self._lock:
                self._bars.remove_task(task)

    def _progress(self, title: str, task: Any, event: dict[str, Any]) -> None:
        done, total = int(event["done"]), max(1, int(event["total"]))
        numbers = {k: v for k, v in event.items() if k not in ("label", "done", "total")}
        figures = f"{done}/{total}  {_figures(numbers)}".rstrip()
        if self._console.is_terminal:
            self._bars.update(task, completed=done, total=total, figures=escape(figures))
            return
        with self._lock:
            tenth = 10 * done // total
            if tenth <= self._tenths.get(title, 0):
                return
            self._tenths[title] = tenth
        self.say(f"  {title} {figures}")


class StageTalk:
    """One stage's part in the commentary."""

    def __init__(self, talk: Talk, title: str, task: Any) -> None:
        """Begin its clock."""
        self._talk, self._title, self._task = talk, title, task
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the stage has been running."""
        return time.monotonic() - self._began

    def heard(self, line: str) -> bool:
        """Show a line if it is a progress event; return whether it was one."""
        if not line.startswith('{"progress"'):
            return False
        try:
            self._talk._progress(self._title, self._task, json.loads(line)["progress"])
        except (ValueError, TypeError, KeyError):
            return False
        return True

    def done(self, state: str) -> None:
        """Print the outcome with the time it took."""
        title = escape(self._title)
        words = {
            "ran": f"{title} [dim]{self.seconds:.1f} s[/]",
            "restored": f"{title} [dim]{self.seconds:.1f} s, from the cache[/]",
            "skipped": f"[dim]{title} unchanged[/]",
            "failed": f"{title} failed [dim]{self.seconds:.1f} s[/]",
            "stopped": f"{title} stopped [dim]{self.seconds:.1f} s[/]",
            "not run": f"[dim]{title} not run[/]",
        }
        self._talk._console.print(f"{MARKS[state]} {words[state]}")


def _figures(numbers: dict[str, Any]) -> str:
    """Put numbers beside a bar: `loss 0.4213`."""
    return "  ".join(
        f"{name.replace('_', ' ')} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in numbers.items()
    )


def failed(error: SlipwayError | OSError) -> int:
    """Say why a command failed and return its exit code.

    What the machine refuses (a checkout that is read-only, a full disk) is for a person to set
    right; any other error is a defect of ours, and keeps its traceback.
    """
    if isinstance(error, SlipwayError):
        fail(str(error))
        return error.exit_code
    if error.errno not in REFUSED:
        raise error
    where = error.filename or "a file of this project"
    fail(
        f"{where}: {error.strerror}. This command writes into the project's folder: make it"
        " writable, or make room, then run again; nothing was lost"
    )
    return 1


def fail(message: str) -> None:
    """Print what went wrong, in the words of whatever it went wrong in."""
    print(f"slipway: {message}", file=sys.stderr, flush=True)
