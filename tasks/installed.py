"""Hold what is installed against requirements.lock.

The lock is a dep of the stages, so DVC believes that it says which libraries made their bytes.
It does only where they are installed as locked, which nothing but a look at them tells.
"""

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from slipway.config import EnvironmentPolicy
from slipway.errors import ConfigError

LOCK = "requirements.lock"

SHOWN = 10
"""More differences than this say no more than that it is another environment."""

FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.dist-info")
"""How an installer names the folder of a distribution's metadata (PyPA: recording installs)."""


@dataclass(frozen=True)
class VersionDifference:
    """A distribution that is not installed as it is locked."""

    name: str
    locked: str
    """What the lock asks for: `2.13.0`, or a range as it stands there."""
    installed: str | None
    """The version that is there, None where there is none."""

    def __str__(self) -> str:
        """Say both sides."""
        return f"{self.name}: locked {self.locked}, installed {self.installed or 'not at all'}"


def check(root: Path, policy: EnvironmentPolicy, pipeline: str) -> tuple[VersionDifference, ...]:
    """Return how this environment differs from the lock; refuse it where the config says so."""
    found = differences(root / LOCK)
    if found and policy == "refuse":
        raise ConfigError("the environment", [_refusal(found, pipeline)])
    return found


def differences(lock: Path, path: Sequence[str] | None = None) -> tuple[VersionDifference, ...]:
    """Compare a lock with the distributions on the import path; without a lock nothing differs.

    Folders' names are read first, which costs milliseconds; to open every METADATA takes a
    third of a second. What no single folder answers for is asked of importlib.metadata.
    """
    if not lock.is_file():
        return ()
    search = list(sys.path if path is None else path)
    there = _versions_by_folder(search)
    return tuple(_compare(lock, search, there))


def one_line(found: Sequence[VersionDifference]) -> str:
    """Tell in a line what is different, the first few by name."""
    named = "; ".join(map(str, found[:3]))
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return f"the environment is not that of {LOCK}: {named}{more}"


def _compare(
    lock: Path, search: list[str], there: dict[str, str | None]
) -> Iterator[VersionDifference]:
    for wanted in read_lock(lock):
        name = canonicalize_name(wanted.name)
        locked = str(wanted.specifier).removeprefix("==") or wanted.url or "any version"
        version = there.get(name)
        if version == locked:
            continue  # by far the most frequent
        if version is None:
            version = _ask(name, search)
        # as pip does: a lock without a local part takes any build, so +cpu beside +cu126
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            yield VersionDifference(wanted.name, locked, version)


def read_lock(lock: Path) -> list[Requirement]:
    """Read the lines of a lock that are meant for this machine; pip's options are passed over."""
    text = re.sub(r"\\\n", " ", lock.read_text("utf-8"))
    wanted = []
    for line in text.splitlines():
        words = re.sub(r"(^|\s)#.*", "", line)
        words = re.split(r"\s--", words)[0].strip()  # --hash=...
        if not words or words.startswith("-"):
            continue
        try:
            each = Requirement(words)
        except InvalidRequirement as error:
            raise ConfigError(lock.name, [f"{words!r} is no requirement: {error}"]) from None
        if each.marker is None or each.marker.evaluate():
            wanted.append(each)
    return wanted


def _versions_by_folder(search: list[str]) -> dict[str, str | None]:
    """Read versions off folders' names; None where two folders in one place disagree."""
    found: dict[str, str | None] = {}
    for place in search:
        here: dict[str, str | None] = {}
        for name, version in _folders(Path(place or ".")):
            here[name] = version if here.get(name, version) == version else None
        found = here | found  # what comes first on the path is what is imported
    return found


def _folders(place: Path) -> Iterator[tuple[str, str]]:
    try:
        entries = sorted(entry.name for entry in place.iterdir())
    except OSError:  # a zip file, or nothing
        return
    for entry in entries:
        if match := FOLDER.fullmatch(entry):
            yield canonicalize_name(match["name"]), match["version"]


def _ask(name: str, search: list[str]) -> str | None:
    """Ask importlib.metadata, which knows every form of installation."""
    found = next(iter(importlib.metadata.distributions(name=name, path=search)), None)
    return found.version if found is not None else None


def _refusal(found: Sequence[VersionDifference], pipeline: str) -> str:
    """Say what differs and both ways on."""
    shown = [f"  {each}" for each in found[:SHOWN]]
    if len(found) > SHOWN:
        shown.append(f"  and {len(found) - SHOWN} more")
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return "\n  ".join(
        [
            f"{len(found)} distributions are not installed as {LOCK} has them:",
            *shown,
            f"install what is locked: {python} -m pip install -r {LOCK}",
            f"or go on with what is installed: `environment: record` in configs/{pipeline}.yaml",
        ]
    )
