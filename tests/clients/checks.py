"""Runs the checks of a script. Imported by the scripts, so it needs nothing but Python."""

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

SITE: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
"""Where the hosts are and what they serve; see tests/system/test_clients.py."""

KEY = {"authorization": f"Bearer {SITE.get('secret')}"}
"""What opens those that want a key."""


def main(names: dict[str, Any]) -> None:
    """Run every `check_...` of a module and print what became of each."""
    for name, check in names.items():
        if name.startswith("check_"):
            sys.stdout.write(json.dumps([name, _run(check)]) + "\n")


def _run(check: Callable[[], Awaitable[None] | None]) -> str:
    try:
        made = check()
        if inspect.iscoroutine(made):
            asyncio.run(asyncio.wait_for(made, 30))
    except Exception:
        return traceback.format_exc()
    return ""


class Said(NamedTuple):
    """What a refusal says."""

    status: str
    message: str


class Refusal:
    """What was refused, once it was."""

    said: Said | None = None

    @property
    def status(self) -> str:
        assert self.said
        return self.said.status

    @property
    def message(self) -> str:
        assert self.said
        return self.said.message


@contextmanager
def refused(kind: type[Exception], say: Callable[[Any], Said]) -> Iterator[Refusal]:
    """Expect an exception of this kind."""
    refusal = Refusal()
    try:
        yield refusal
    except kind as error:
        refusal.said = say(error)
    else:
        raise AssertionError("not refused")
