"""Keep what was used of the quotas over a restart."""

import logging
from collections.abc import Mapping
from pathlib import Path

from slipway.bundle.format import canonical_json, parse_json
from slipway.host.guard.rate import Used

log = logging.getLogger(__name__)


def write_used(path: Path, used: Mapping[str, Used]) -> None:
    """Keep what was used of the quotas, for the next start.

    Replaced whole and not synced: a power cut may give back the rows since the last write,
    which is all that a quota can lose here.
    """
    draft = path.with_name(f".{path.name}.draft")
    value = {name: {"day": u.day, "rows": u.rows} for name, u in used.items()}
    draft.write_bytes(canonical_json(value))
    draft.replace(path)


def read_used(path: Path) -> dict[str, Used]:
    """Return what was kept; nothing, and a line in the log, if that cannot be read."""
    try:
        value = parse_json(path.read_bytes())
        return {name: Used(int(u["day"]), int(u["rows"])) for name, u in value.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        log.warning("used quotas could not be read; today's count begins anew")
        return {}
