"""Call a function in a child process: some conversions crash or hang, and no `except` helps."""

import multiprocessing
import re
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

_FOLDERS = re.compile(r"(?<![\w.])/?(?:[\w.+-]+/)+(?=[\w.+-])")
"""Folders in a message differ between checkouts; the reason for a failure must not."""

REASON_CHARS = 300
"""Some libraries print a whole graph into their messages."""


def attempt(function: Callable[..., None], *arguments: object, timeout_s: float) -> str | None:
    """Call a module's function in a child; return why it failed, or None.

    The child starts from nothing (spawn): a fork would share threads of ONNX Runtime that do
    not exist in it. Reasons name no folder and no time, because they become part of outputs.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_call, args=(theirs, function, arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        child.join(timeout_s)
        if child.exitcode is None:
            return f"did not finish within {timeout_s:g} s"
        return _reason(child.exitcode, ours)
    finally:
        child.kill()
        child.join()
        ours.close()


def _call(reasons: Connection, function: Callable[..., None], arguments: tuple[object]) -> None:
    try:
        function(*arguments)
        reasons.send(None)
    except Exception as error:
        reasons.send(explain(error))


def _reason(exit_code: int, reasons: Connection) -> str | None:
    """Take the child's own word if it gave one, else say how it ended."""
    try:
        if reasons.poll():
            word: str | None = reasons.recv()
            return word
    except EOFError:
        pass
    if exit_code < 0:
        return f"crashed: {signal.Signals(-exit_code).name}"
    return f"ended early with exit code {exit_code}"


def explain(error: Exception) -> str:
    """Say what went wrong on one line, without folders."""
    text = " ".join(str(error).split())
    return _FOLDERS.sub("", f"{type(error).__name__}: {text}")[:REASON_CHARS]
