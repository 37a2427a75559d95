"""Secrets leave this machine encrypted only, by a program of the user's choice.

The program reads stdin and writes stdout: `age -R FILE`, `gpg --encrypt -r NAME`, a KMS's. It is
started as a list of words, never through a shell.
"""

import base64
import os
import re
import shlex
import subprocess
from pathlib import Path

from slipway.errors import ConfigError, SlipwayError

WORD_BYTES = 16
"""A run of so many letters that are in what went in and in what came out is no accident."""

TIMEOUT_S = 600.0
"""A key on a card may wait for a person's touch."""

_WORDS = re.compile(rb"[A-Za-z0-9+/=_-]{%d,}" % WORD_BYTES)


def encrypt(command: str, data: bytes, folder: Path) -> bytes:
    """Return what the command makes of secrets; raise SlipwayError if they can be read in it."""
    sealed = run_filter(command, data, folder)
    if not sealed or _shows(data, sealed):
        raise SlipwayError(
            f"`{command}` does not encrypt: what it was given can be read in what it wrote;"
            " nothing of it was kept"
        )
    return sealed


def run_filter(command: str, data: bytes, folder: Path) -> bytes:
    """Run a command in a folder, bytes in, bytes out; raise SlipwayError with its own words."""
    words = split(command)
    try:
        done = subprocess.run(
            words, input=data, cwd=folder, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except OSError as error:
        raise SlipwayError(f"`{command}` cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SlipwayError(f"`{command}` did not end within {TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or "it said nothing"
        raise SlipwayError(f"`{command}` failed with exit code {done.returncode}: {said}")
    return done.stdout


def split(command: str) -> list[str]:
    """Cut a command into words as a shell would, with `~` for the home folder and nothing else."""
    try:
        words = [os.path.expanduser(word) for word in shlex.split(command)]
    except ValueError as error:
        raise ConfigError("the command line", [f"{command!r}: {error}"]) from None
    if not words:
        raise ConfigError("the command line", ["the command to encrypt or decrypt with is empty"])
    return words


def _shows(data: bytes, sealed: bytes) -> bool:
    """Tell whether any word of the secrets stands in the result, as it is or in base64."""
    if any(word in sealed for word in _WORDS.findall(data)):
        return True
    if not (joined := b"".join(sealed.split())):
        return False
    # base64 of a text depends on where its groups of three begin
    return any(base64.b64encode(data[at : at + 48]) in joined for at in range(min(3, len(data))))
