"""When scheduled runs may work: a window of the day, by the clock of a place.

Wall times are turned into instants before they are compared, so a window keeps its hours when
clocks are set forward or back: that night it is an hour shorter or longer.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from slipway.sections import Section

DAY = timedelta(days=1)


class Hours(Section):
    """From one time of day to another, over midnight if that is earlier."""

    from_: time = Field(alias="from")
    """When it opens: "22:00"."""
    to: time
    """When it closes. What runs then saves its work, and goes on when it opens again."""
    timezone: str = "UTC"
    """By whose clock: a name of the IANA database, such as Europe/Berlin."""

    @field_validator("from_", "to", mode="before")
    @classmethod
    def _is_quoted(cls, value: object) -> object:
        """Refuse what YAML reads as a number: 22:00 without quotes is 1320."""
        if isinstance(value, int | float):
            raise ValueError(f'write it in quotes, such as "22:00"; YAML reads {value} here')
        return value

    @field_validator("from_", "to")
    @classmethod
    def _has_no_zone(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError("say the zone by `timezone`")
        return value

    @field_validator("timezone")
    @classmethod
    def _exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {value!r} on this machine") from None
        return value

    @model_validator(mode="after")
    def _is_a_part_of_the_day(self) -> Self:
        if self.from_ == self.to:
            raise ValueError("opens and closes at the same time; leave the window out for all day")
        return self

    def closes(self, now: datetime) -> datetime | None:
        """Return when the window that is open now closes; None where it is closed."""
        return next((end for start, end in self._around(now) if start <= now < end), None)

    def opens(self, now: datetime) -> datetime:
        """Return when the next window opens."""
        return next(start for start, _ in self._around(now) if start > now)

    def _around(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the windows from yesterday's to that of the day after tomorrow, as instants."""
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        for day in (today + n * DAY for n in (-1, 0, 1, 2)):
            last = day if self.to > self.from_ else day + DAY
            yield _instant(day, self.from_, zone), _instant(last, self.to, zone)


def _instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)
