"""Runs of deployments keep to their pipeline's window."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from flows.hours import OutsideHours, ended_with, require_open
from slipway.hours import Hours

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def window(opens: datetime, closes: datetime) -> Hours:
    return Hours.model_validate({"from": opens.time(), "to": closes.time()})


def test_a_run_outside_of_the_window_does_not_begin_and_says_when_it_will() -> None:
    night = window(NOON + timedelta(hours=10), NOON + timedelta(hours=18))
    with pytest.raises(OutsideHours, match=r"22:00 to 06:00 \(UTC\): put off until 2026-12-01 22:"):
        require_open(night, NOON)
    require_open(night, NOON + timedelta(hours=11))
    require_open(None, NOON)


def soon(seconds: float) -> Hours:
    now = datetime.now(UTC)
    return window(now - timedelta(hours=1), now + timedelta(seconds=seconds))


def test_what_still_runs_when_the_window_closes_is_stopped_and_put_off() -> None:
    stopped = threading.Event()
    with pytest.raises(OutsideHours), ended_with(soon(0.5), stopped.set, lambda: False):
        assert stopped.wait(30)


def test_what_was_done_when_the_window_closed_goes_on_to_its_end() -> None:
    stopped = threading.Event()
    with ended_with(soon(0.5), stopped.set, lambda: True):
        assert stopped.wait(30)


def test_a_failure_before_the_window_closes_is_told_as_it_is() -> None:
    stopped = threading.Event()
    with (
        pytest.raises(ZeroDivisionError),
        ended_with(soon(600), stopped.set, lambda: False),
    ):
        raise ZeroDivisionError
    assert not stopped.is_set()
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


def test_without_a_window_nothing_is_stopped() -> None:
    with ended_with(None, lambda: pytest.fail("stopped"), lambda: False):
        pass
