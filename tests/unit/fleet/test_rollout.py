from itertools import pairwise

import pytest

from slipway.fleet.rollout import (
    AlreadyServes,
    Canary,
    DropLeftover,
    FirstRelease,
    GoBack,
    NoteDown,
    Refuse,
    WriteAnew,
    describe,
    plan,
    plan_rollback,
    previous_stable,
)
from slipway.store.channel import Candidate, Channel

A, B, C, D = (letter * 64 for letter in "abcd")


def channel(stable, candidate=None, rejected=(), serial=1):
    return Channel(
        fleet="local",
        model="flights",
        serial=serial,
        stable=stable,
        candidate=candidate
        and Candidate(version=candidate, mode="canary", percent=20, lease_s=15.0),
        rejected=list(rejected),
        issued_at="2026-11-20T00:00:00+00:00",
        reason="test",
    )


def past(*stables, rejected=()):
    """Make a channel's past, newest first as the store is read."""
    channels = [channel(s, serial=i + 1) for i, s in enumerate(stables)]
    return [channels[-1].model_copy(update={"rejected": list(rejected)}), *channels[-2::-1]]


@pytest.mark.parametrize(
    ("now", "version", "settled", "previous", "expected"),
    [
        # nothing there yet
        (None, A, False, None, [FirstRelease(A, publish=True)]),
        # a first release that hosts refused, then another version
        (channel(None, rejected=[A]), B, False, None, [FirstRelease(B, publish=True)]),
        (channel(None, rejected=[A]), A, False, None, [Refuse(A)]),
        # a first release that was broken off
        (channel(None), A, False, None, [FirstRelease(A, publish=True)]),
        # a first release that was killed while hosts loaded it
        (channel(A), A, False, None, [FirstRelease(A, publish=False)]),
        (channel(A), B, False, None, [FirstRelease(B, publish=True)]),
        (channel(A, rejected=[B]), B, False, None, [Refuse(B)]),
        # the usual ones
        (channel(A), A, True, None, [AlreadyServes(A)]),
        (channel(A), B, True, None, [Canary(B, stable=A)]),
        (channel(A, rejected=[B]), B, True, None, [Refuse(B)]),
        (channel(A, rejected=[B]), C, True, None, [Canary(C, stable=A)]),
        (channel(A, rejected=[B]), A, True, None, [AlreadyServes(A)]),
        # a canary that was killed
        (channel(A, candidate=B), B, True, None, [Canary(B, stable=A)]),
        (channel(A, candidate=B), C, True, None, [DropLeftover(B), Canary(C, stable=A)]),
        (channel(A, candidate=B), A, True, None, [DropLeftover(B), AlreadyServes(A)]),
        # a rejected version does not even touch the channel
        (channel(A, candidate=B, rejected=[C]), C, True, None, [Refuse(C)]),
        # a damaged ledger: nobody takes over without being compared
        (channel(A), B, None, None, [Canary(B, stable=A)]),
        (channel(A), A, None, None, [AlreadyServes(A)]),
        (channel(A, rejected=[B]), B, None, None, [Refuse(B)]),
        (channel(None, rejected=[A]), A, None, None, [Refuse(A)]),
        (channel(B, candidate=C), D, None, None, [DropLeftover(C), Canary(D, stable=B)]),
        # killed between the channel that promotes and the ledger
        (channel(B), B, False, A, [NoteDown(B, previous=A), AlreadyServes(B)]),
        (channel(B), C, False, A, [NoteDown(B, previous=A), Canary(C, stable=B)]),
        (
            channel(B, candidate=C),
            D,
            False,
            A,
            [NoteDown(B, previous=A), DropLeftover(C), Canary(D, stable=B)],
        ),
    ],
)
def test_the_channel_says_which_steps_bring_a_version_to_stable(
    now, version, settled, previous, expected
):
    assert plan(now, version, settled=settled, previous=previous) == expected


def test_every_plan_ends_with_the_one_step_that_ends_a_release():
    ends = (AlreadyServes, Refuse, FirstRelease, Canary)
    for now in (None, channel(None), channel(A), channel(A, candidate=B), channel(A, rejected=[B])):
        for version in (A, B, C):
            for settled, previous in ((True, None), (False, None), (False, D)):
                *before, last = plan(now, version, settled=settled, previous=previous)
                assert isinstance(last, ends)
                assert not any(isinstance(step, ends) for step in before)


def test_a_release_never_changes_the_stable_version_before_the_verdict():
    steps = plan(channel(A, candidate=B), C, settled=True, previous=None)
    assert all(later.stable == A for _, later in pairwise(steps) if isinstance(later, Canary))


@pytest.mark.parametrize(
    ("now", "version", "expected"),
    [
        (channel(A), B, [WriteAnew(A), Canary(B, stable=A)]),
        (channel(A), A, [WriteAnew(A), AlreadyServes(A)]),
        (channel(A, candidate=B), C, [WriteAnew(A), Canary(C, stable=A)]),
        (channel(A, rejected=[B]), B, [Refuse(B)]),
        (channel(None, rejected=[A]), B, [FirstRelease(B, publish=True)]),
    ],
)
def test_what_hosts_cannot_read_is_written_anew_before_anything_else(now, version, expected):
    assert plan(now, version, settled=True, previous=None, damaged=True) == expected


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ([], None),
        (past(A), None),
        (past(A, A, B), A),
        (past(A, B, C), B),
        # rolled back from C: B serves, and the next way back leads to A
        (past(A, B, C, B, rejected=[C]), A),
        # B was rejected while it was stable: never back to it
        (past(A, B, A, C, rejected=[B]), A),
        (past(A, B, A, rejected=[B]), None),
        (past(None, A), None),
        (past(A, None, B), A),
    ],
)
def test_the_way_back_leads_to_the_last_other_stable_version_not_rejected(newest_first, expected):
    assert previous_stable(newest_first) == expected


def test_the_past_is_read_only_as_far_back_as_needed():
    read = []

    def reading():
        for one in past(A, A, A, B, C):
            read.append(one.serial)
            yield one

    assert previous_stable(reading()) == B
    assert read == [5, 4]


@pytest.mark.parametrize(
    ("now", "previous", "candidate_answers", "expected"),
    [
        (channel(B), A, False, GoBack(B, A, was_stable=True)),
        # a killed release left C; nobody is answered by it, so B is what is meant
        (channel(B, candidate=C), A, False, GoBack(B, A, was_stable=True)),
        # C answers callers now: the good B beside it must not be rejected
        (channel(B, candidate=C), A, True, GoBack(C, B, was_stable=False)),
        (channel(B, candidate=C), None, True, GoBack(C, B, was_stable=False)),
    ],
)
def test_a_rollback_takes_back_what_the_last_release_brought(
    now, previous, candidate_answers, expected
):
    assert plan_rollback(now, previous, candidate_answers=candidate_answers) == expected


@pytest.mark.parametrize("now", [None, channel(None)])
def test_where_nothing_serves_there_is_nothing_to_take_back(now):
    assert "nothing serves" in str(plan_rollback(now, None, candidate_answers=False))


def test_without_an_earlier_version_a_rollback_says_what_else_to_do():
    told = plan_rollback(channel(A), None, candidate_answers=False)
    assert "aaaaaaaaaaaa has no version before it" in str(told)
    assert "slipway fleet down" in str(told)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (AlreadyServes(A), "local already serves vaaaaaaaaaaaa"),
        (Refuse(A), "vaaaaaaaaaaaa was rejected on local"),
        (DropLeftover(A), "drop candidate vaaaaaaaaaaaa"),
        (NoteDown(A, B), "ledger that vaaaaaaaaaaaa was promoted"),
        (FirstRelease(A, publish=True), "first release on local"),
        (FirstRelease(A, publish=False), "finish the first release on local"),
        (Canary(A, B), "vaaaaaaaaaaaa answers 20 % of callers beside stable vbbbbbbbbbbbb"),
    ],
)
def test_every_step_can_be_told(step, words):
    assert words in describe(step, "local", 20)
