"""Put numbers and times into the words that people read.

Every function takes whatever a JSON file held and answers `–` for what is no number, so
that a page about a failed run needs no special case.
"""

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

NOTHING = "–"

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#]*@")
_QUERY_VALUE = re.compile(r"([?&][^=&#]+)=[^&#]+")


def moment(text: Any) -> datetime | None:
    """Read an ISO time, or None for anything else."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def number(value: Any) -> float | None:
    """Take a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def count(value: Any) -> str:
    """Write 327346 as 327,346."""
    read = number(value)
    return NOTHING if read is None else f"{read:,.0f}"


def share(value: Any, digits: int = 1) -> str:
    """Write 0.231 as 23.1 %."""
    read = number(value)
    return NOTHING if read is None else f"{read * 100:.{digits}f} %"


LARGE = 1000.0
"""A measure of so much needs no digits after the point."""


def score(value: Any, digits: int = 4) -> str:
    """Write a measure of quality with the digits that still mean something."""
    read = number(value)
    if read is None:
        return NOTHING
    # such as an error in dollars, or in metres per second
    plain = read == 0 or 10**-digits <= abs(read) < LARGE
    return f"{read:.{digits}f}" if plain else compact(read)


def compact(value: Any) -> str:
    """Write any number in four significant digits, tiny ones as 1.2e-7; pass text through."""
    read = number(value)
    if read is None:
        return NOTHING if value is None else str(value) or NOTHING
    if read == 0 or (read.is_integer() and abs(read) < 1e9):
        return f"{read:,.0f}"
    if abs(read) < 1e-3 or abs(read) >= 1e9:
        mantissa, _, exponent = f"{read:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "\N{MINUS SIGN}")
    return f"{read:,.4g}" if abs(read) < 1000 else f"{read:,.0f}"


def millis(value: Any) -> str:
    """Write milliseconds with three significant digits."""
    read = number(value)
    return NOTHING if read is None else f"{read:.3g} ms" if read < 1000 else f"{read:,.0f} ms"


def size(value: Any) -> str:
    """Write bytes in decimal units, as disks and networks count them."""
    read = number(value)
    if read is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if read < 999.5:
            return f"{read:.0f} {unit}" if unit == "B" or read >= 100 else f"{read:.3g} {unit}"
        read /= 1000
    return f"{read:.3g} TB"


def duration(value: Any) -> str:
    """Write seconds as 0.8 s, 12 s or 3 min 05 s."""
    read = number(value)
    if read is None:
        return NOTHING
    if read < 9.95:
        return f"{read:.1f} s"
    minutes, seconds = divmod(round(read), 60)
    if not minutes:
        return f"{seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def when(value: Any) -> str:
    """Write an ISO time as 20 Nov 2026, 19:54 with its zone; pass anything else through."""
    read = moment(value)
    if read is None:
        return NOTHING if value is None else str(value)
    zone = f" {read:%Z}" if read.tzinfo else ""
    return f"{read.day} {read:%b %Y, %H:%M}{zone}"


def day(value: Any) -> str:
    """Write the day of an ISO time as 1 Jan 2013."""
    read = moment(value)
    return NOTHING if read is None else f"{read.day} {read:%b %Y}"


def days(values: Any) -> str:
    """Write many days by month: `Oct 2013: 1, 3, 4`."""
    months: dict[str, list[str]] = {}
    for read in filter(None, map(moment, values or [])):
        months.setdefault(f"{read:%b %Y}", []).append(str(read.day))
    return "; ".join(f"{month}: {', '.join(each)}" for month, each in months.items())


def sentence(text: Any) -> str:
    """Start with a capital and end with a full stop, where a sentence would.

    A first word such as `v3f2a9c` or `int8-static` is a name and stays as it is.
    """
    read = str(text or "").strip()
    closed = read if not read or read[-1] in ".!?…:" else f"{read}."
    return closed[:1].upper() + closed[1:] if read.partition(" ")[0].isalpha() else closed


def scrub(text: Any) -> str:
    """Take the user part and every query value out of the URLs in a text.

    A source may be a pre-signed URL, a remote may hold a token: what leaves the machine
    inside a bundle or a report names the place, never the key to it.
    """
    return _URL.sub(lambda url: _QUERY_VALUE.sub(r"\1=***", _USER.sub("", url[0])), str(text))


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        *(count, share, score, compact, millis, size, duration, when, day, days, sentence, scrub),
    )
}
"""The same words for the report's template and the model card's."""
