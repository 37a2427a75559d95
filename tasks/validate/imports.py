"""Import Great Expectations without what it does not need here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = ("rfc3987_syntax", "sqlalchemy")
"""Optional packages that take half of the import: jsonschema makes a grammar of URLs (3.6 s of
8.6 s of CPU where the rest takes 5.0 s, benchmarks/validate.py), SQLAlchemy is 0.8 s."""


@contextmanager
def left_out() -> Iterator[None]:
    """Let unused packages look as if they were not installed, and send no telemetry."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    hidden = [name for name in UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
