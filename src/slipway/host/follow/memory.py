"""What a host knows after a restart: which channel it applied last, and what served.

`applied/<model>.json`, replaced whole. The serial stands beside the signed envelope, so that
it still refuses an older channel when the key that signed this one is no longer trusted.
"""

import re
from pathlib import Path

from slipway.bundle.format import Document, canonical_json, parse_document, write_durably
from slipway.errors import SlipwayError
from slipway.host.request.routes import NAME

MODEL = re.compile(NAME.decode())
"""Names that may become paths and parts of URLs."""


class Remembered(Document):
    """The memory of one model."""

    serial: int
    """The highest serial that was applied."""
    digest: str
    """SHA-256 of its envelope."""
    envelope: str
    """The signed channel itself."""
    stable: str | None = None
    """The stable version that served last."""
    previous: str | None = None
    """The one before."""
    since: str | None = None
    """When `stable` began to serve, ISO 8601."""


class Memory:
    """The folder `applied/` of a host's state."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "applied"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self) -> dict[str, Remembered]:
        """Read everything; raise SlipwayError for a damaged file.

        Starting without it would accept an older channel as if it were new.
        """
        return {
            path.stem: _read(path)
            for path in sorted(self._folder.glob("*.json"))
            if MODEL.fullmatch(path.stem)
        }

    def save(self, model: str, remembered: Remembered) -> None:
        """Replace the memory of one model; it is on the disk when this returns."""
        write_durably(self._folder / f"{model}.json", canonical_json(remembered.model_dump()))


def _read(path: Path) -> Remembered:
    try:
        return parse_document(Remembered, path.read_bytes())
    except (OSError, ValueError) as error:
        raise SlipwayError(
            f"{path}: cannot be read ({error}). It protects from older channels; remove it only"
            " if what the store holds may be taken for the newest"
        ) from None
