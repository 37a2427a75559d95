"""Name what a bundle was made with: Python, and the packages that are installed."""

import importlib.metadata
import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageMetadata
from typing import Any

from slipway import __version__

DISTRIBUTION = "slipway-ml"

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def toolchain() -> dict[str, Any]:
    """Name Python and the packages that Slipway asks for; the SBOM lists all that is installed."""
    return {
        "slipway": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": installed(wanted(DISTRIBUTION)),
    }


def wanted(distribution: str) -> list[str]:
    """Name the packages that a distribution asks for, those of its extras too but `dev`."""
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = {
        match[0]
        for line in lines
        if "'dev'" not in line.replace('"', "'") and (match := _NAME.match(line))
    }
    return sorted(names - {distribution})


def installed(names: Iterable[str]) -> dict[str, str]:
    """Give the version of each of these packages that is installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def distributions() -> list[PackageMetadata]:
    """List what is installed, each name once: the first on the path is the one imported."""
    found: dict[str, PackageMetadata] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata  # parsed anew each time it is asked for
        if name := metadata["Name"]:
            found.setdefault(normal(name), metadata)
    return [found[name] for name in sorted(found)]


def normal(name: str) -> str:
    """Write a package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
