from hypothesis import given
from hypothesis import strategies as st

from slipway.store.split import takes_candidate

ONE, TWO = "1" * 64, "2" * 64
KEYS = [f"caller-{number}" for number in range(10_000)]


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_a_caller_who_takes_the_candidate_keeps_it_as_the_share_grows(key, a, b):
    if takes_candidate(ONE, key, min(a, b)):
        assert takes_candidate(ONE, key, max(a, b))


@given(st.text())
def test_nobody_takes_it_at_zero_and_everybody_at_a_hundred(key):
    assert not takes_candidate(ONE, key, 0)
    assert takes_candidate(ONE, key, 100)


def test_the_share_is_the_percentage():
    share = sum(takes_candidate(ONE, key, 25) for key in KEYS) / len(KEYS)
    assert 0.235 < share < 0.265  # 3.5 standard deviations of 10,000 draws


def test_other_callers_try_the_next_candidate():
    both = sum(takes_candidate(ONE, k, 25) and takes_candidate(TWO, k, 25) for k in KEYS)
    assert 0.045 < both / len(KEYS) < 0.08  # independent: 0.0625


def test_every_host_of_every_release_splits_alike():
    taken = [takes_candidate(ONE, key, 50) for key in KEYS[:16]]
    assert "".join("x" if t else "." for t in taken) == SPLIT


SPLIT = ".xx..xx....x.xx."
"""Pinned: hosts of two releases of Slipway serve side by side during an upgrade."""


def test_a_key_that_is_no_unicode_is_a_key_too():
    assert takes_candidate(ONE, "\ud800", 100)
