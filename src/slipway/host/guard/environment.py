"""Take out of the environment what changes how libraries work behind the options' back.

The unit file and `python -I` keep most of it from taking effect; this keeps ONNX Runtime, and
children of the host, from the rest. It cannot undo a library that LD_PRELOAD has brought in.
"""

from collections.abc import MutableMapping
from typing import Final

SCRUBBED: Final = ("LD_", "PYTHON", "ORT_")
KEPT: Final = "ORT_DISABLE_TELEMETRY"
"""Set by this program itself."""


def scrub(environ: MutableMapping[str, str]) -> list[str]:
    """Remove such variables and return their names; before anything heavy is imported."""
    found = sorted(name for name in environ if name.startswith(SCRUBBED) and name != KEPT)
    for name in found:
        del environ[name]
    return found
