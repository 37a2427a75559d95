"""What the ending of a file's name says: its format, and how it is packed."""

import re
from pathlib import PurePosixPath

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
"""Endings, by the reader that they are for."""

PACKED = (".zip", ".gz", ".bz2", ".zst")

LEFT_BESIDE = frozenset(
    ("__MACOSX", "_SUCCESS", "_temporary", "_metadata", "_common_metadata", "Thumbs.db")
)

KNOWN = f"known: {' '.join(FORMATS)}, packed as {' '.join(PACKED)}"


def base_name(url: str) -> str:
    """Return a URL's last part, without what a web server is asked for besides."""
    if re.match(r"[a-z+]+://", url) and "::" not in url:
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    return url.rstrip("/").rpartition("/")[2]


def suffix_of(name: str) -> str:
    """Return the last ending of a name, in small letters."""
    return PurePosixPath(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Tell what systems and Spark leave beside tables: `.DS_Store`, `__MACOSX/`, `_SUCCESS`."""
    parts = PurePosixPath(name).parts
    own = any(part.startswith((".", "_committed_", "_started_")) for part in parts)
    return own or bool(LEFT_BESIDE & {*parts})
