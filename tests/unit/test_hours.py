"""Windows of the day in which scheduled runs may work."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slipway.hours import Hours

NIGHT = Hours.model_validate({"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "closes"),
    [
        ("2026-12-01T20:59:59", None),  # Berlin is an hour ahead in winter
        ("2026-12-01T21:00:00", "2026-12-02T05:00:00"),
        ("2026-12-02T04:59:59", "2026-12-02T05:00:00"),
        ("2026-12-02T05:00:00", None),
        ("2026-07-01T20:00:00", "2026-07-02T04:00:00"),  # and two in summer
    ],
)
def test_a_window_over_midnight_is_open_from_its_first_moment_to_its_last(
    now: str, closes: str | None
) -> None:
    assert NIGHT.closes(utc(now)) == (utc(closes) if closes else None)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-12-01T12:00:00", "2026-12-01T21:00:00"),
        ("2026-12-01T21:00:00", "2026-12-02T21:00:00"),
        ("2026-12-02T03:00:00", "2026-12-02T21:00:00"),
    ],
)
def test_the_next_window_is_never_the_one_that_is_open(now: str, opens: str) -> None:
    assert NIGHT.opens(utc(now)) == utc(opens)


def test_the_night_that_clocks_go_back_is_an_hour_longer() -> None:
    opened = utc("2026-10-24T20:00:00")
    closes = NIGHT.closes(opened)
    assert closes == utc("2026-10-25T05:00:00")
    assert closes - opened == timedelta(hours=9)


def test_the_night_that_clocks_go_forward_is_an_hour_shorter() -> None:
    opened = utc("2026-03-28T21:00:00")
    assert NIGHT.closes(opened) == utc("2026-03-29T04:00:00")


def test_a_window_within_the_day_closes_the_same_day() -> None:
    lunch = Hours.model_validate({"from": "12:00", "to": "13:00"})
    assert lunch.closes(utc("2026-12-01T12:30:00")) == utc("2026-12-01T13:00:00")
    assert lunch.closes(utc("2026-12-01T13:00:00")) is None


@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    opens=st.times(),
    to=st.times(),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_a_window_opens_and_closes_about_once_a_day(now, opens, to, zone) -> None:
    if opens == to:
        return
    window = Hours.model_validate({"from": opens, "to": to, "timezone": zone})
    first = window.opens(now)
    assert now < first <= now + timedelta(hours=25)
    assert window.closes(first - timedelta(microseconds=1)) != window.closes(first)
    if (closes := window.closes(now)) is not None:
        assert now < closes <= now + timedelta(hours=25)
        assert window.closes(closes) is None or closes == window.opens(now)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"from": 1320, "to": "06:00"}, "write it in quotes"),
        ({"from": "22:00", "to": "22:00"}, "leave the window out"),
        ({"from": "22:00", "to": "06:00", "timezone": "Europe/Atlantis"}, "no time zone"),
        ({"from": "22:00", "to": "06:00", "timezone": "../etc/passwd"}, "no time zone"),
        ({"from": "22:00+01:00", "to": "06:00"}, "say the zone by"),
        ({"from": "25:00", "to": "06:00"}, "hour"),
        ({"from": "22:00"}, "required"),
    ],
)
def test_what_is_no_window_is_refused(said: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Hours.model_validate(said)
