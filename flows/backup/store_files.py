"""What the files of a store promise of themselves: a bundle's manifest lists its files."""

import re
from functools import lru_cache
from pathlib import Path

from flows.backup.holdings import FoundFile
from slipway.bundle.manifest import MANIFEST, Manifest, parse_manifest
from slipway.errors import BundleRefused

_BUNDLE = re.compile(r"(?:.*/)?bundles/[^/]+/[0-9a-f]{64}/(.+)")


def promised_sha256(found: FoundFile) -> str | None:
    """Return the SHA-256 that a bundle's manifest lists; None where nothing is promised."""
    if found.kind != "store" or (inside := _BUNDLE.fullmatch(found.path)) is None:
        return None
    name = inside[1]
    folder = found.where.parents[len(Path(name).parts) - 1]
    manifest = _manifest(folder)
    listed = manifest.files.get(name) if manifest else None
    return listed.sha256 if listed else None


@lru_cache(maxsize=8)
def _manifest(folder: Path) -> Manifest | None:
    try:
        return parse_manifest((folder / MANIFEST).read_bytes())
    except (OSError, BundleRefused):
        return None  # an upload that goes on, or was cut off
