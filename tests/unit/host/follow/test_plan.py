from typing import Any

import pytest

from slipway.host.follow.lease import Lease
from slipway.host.follow.plan import (
    DropCandidate,
    Forget,
    Held,
    Load,
    Roles,
    Serve,
    Unload,
    distrust,
    explain,
    plan,
)
from slipway.store.channel import Candidate, Channel

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def channel(
    stable: str | None, candidate: str | None = None, rejected: list[str] | None = None
) -> Channel:
    rollout = None
    if candidate:
        rollout = Candidate(version=candidate, mode="canary", percent=10, lease_s=30.0)
    return Channel(
        fleet="local",
        model="m",
        serial=1,
        stable=stable,
        candidate=rollout,
        rejected=rejected or [],
        issued_at="",
        reason="because",
    )


def held(
    *loaded: str, stable: str | None = None, candidate: str | None = None, **fields: Any
) -> Held:
    roles = Roles(stable, candidate, "canary", 10) if candidate else Roles(stable)
    return Held(roles=roles, loaded=frozenset(loaded), **fields)


def test_a_new_host_loads_the_stable_version_first() -> None:
    assert plan(channel(A, B), held(), lease_alive=True) == [Load(A), Load(B)]


def test_a_loaded_stable_version_serves() -> None:
    assert plan(channel(A), held(A), lease_alive=False) == [Serve(Roles(A))]


def test_where_everything_is_as_wanted_there_is_nothing_to_do() -> None:
    now = held(A, B, stable=A, candidate=B, cached=frozenset({A, B}), last=A)
    assert plan(channel(A, B), now, lease_alive=True) == []


def test_a_version_being_loaded_or_refused_lately_is_not_loaded_again() -> None:
    assert plan(channel(A), held(busy=frozenset({A})), lease_alive=False) == []


def test_the_old_stable_version_serves_until_the_new_one_is_loaded() -> None:
    assert plan(channel(B), held(A, stable=A), lease_alive=False) == [Load(B)]


def test_the_old_stable_version_stays_cached_for_a_roll_back() -> None:
    now = held(A, B, stable=A, cached=frozenset({A, B}), last=B, previous=A)
    assert plan(channel(B), now, lease_alive=False) == [Serve(Roles(B)), Unload(A)]


def test_what_is_neither_wanted_nor_previous_leaves_the_cache() -> None:
    now = held(B, stable=B, cached=frozenset({A, B, C, D}), last=B, previous=A)
    assert plan(channel(B), now, lease_alive=False) == [Forget(C), Forget(D)]


def test_a_version_being_loaded_keeps_its_folder() -> None:
    now = held(A, stable=A, cached=frozenset({A, B}), busy=frozenset({B}), last=A)
    assert plan(channel(A), now, lease_alive=False) == []


def test_a_loaded_candidate_serves_beside_the_stable_version() -> None:
    now = held(A, B, stable=A)
    assert plan(channel(A, B), now, lease_alive=True) == [Serve(Roles(A, B, "canary", 10))]


def test_a_candidate_without_a_lease_is_not_even_loaded() -> None:
    assert plan(channel(A, B), held(A, stable=A), lease_alive=False) == []


def test_a_candidate_whose_lease_ran_out_is_dropped_and_let_go() -> None:
    now = held(A, B, stable=A, candidate=B)
    assert plan(channel(A, B), now, lease_alive=False) == [
        DropCandidate(B),
        Serve(Roles(A)),
        Unload(B),
    ]


def test_a_candidate_that_a_channel_took_back_is_no_lease_drop() -> None:
    now = held(A, B, stable=A, candidate=B)
    steps = plan(channel(A, rejected=[B]), now, lease_alive=False)
    assert steps == [Serve(Roles(A)), Unload(B)]


def test_a_promoted_candidate_takes_over_without_being_loaded_again() -> None:
    now = held(A, B, stable=A, candidate=B)
    assert plan(channel(B), now, lease_alive=False) == [Serve(Roles(B)), Unload(A)]


def test_a_rejected_version_that_serves_goes_on_until_its_successor_is_there() -> None:
    now = held(B, stable=B, last=B)
    assert plan(channel(A, rejected=[B]), now, lease_alive=False) == [Load(A)]


def test_a_channel_without_a_stable_version_takes_the_one_that_serves_away() -> None:
    now = held(A, stable=A, last=A)
    assert plan(channel(None, rejected=[A]), now, lease_alive=False) == [
        Serve(Roles(None)),
        Unload(A),
    ]


def test_a_first_candidate_serves_its_share_without_a_stable_version() -> None:
    assert plan(channel(None, A), held(A), lease_alive=True) == [
        Serve(Roles(None, A, "canary", 10))
    ]


def test_after_a_restart_what_served_last_is_loaded_beside_what_is_wanted() -> None:
    now = held(cached=frozenset({A, B}), last=A)
    assert plan(channel(B), now, lease_alive=False) == [Load(B), Load(A)]


def test_after_a_restart_what_served_last_serves_while_the_wanted_one_is_refused() -> None:
    now = held(A, last=A, busy=frozenset({B}))
    assert plan(channel(B), now, lease_alive=False) == [Serve(Roles(A))]


def test_after_a_restart_a_rejected_version_is_not_loaded_again() -> None:
    now = held(last=A, busy=frozenset({B}))
    assert plan(channel(B, rejected=[A]), now, lease_alive=False) == []


def test_the_reason_is_the_channels_where_all_is_well() -> None:
    assert explain(channel(A), held(A, stable=A), lease_alive=False) == "because"


@pytest.mark.parametrize(
    ("wanted", "now", "alive", "expected"),
    [
        (channel(B), held(A, stable=A), False, "bbbbbbbbbbbb is not loaded; aaaaaaaaaaaa goes on"),
        (channel(B), held(), False, "bbbbbbbbbbbb is not loaded; nothing serves yet"),
        (channel(A, B), held(A, stable=A), False, "no beat for candidate bbbbbbbbbbbb within 30 s"),
        (channel(A, B), held(A, stable=A), True, "candidate bbbbbbbbbbbb is not loaded"),
    ],
)
def test_the_reason_says_what_is_not_as_wanted(
    wanted: Channel, now: Held, alive: bool, expected: str
) -> None:
    assert explain(wanted, now, alive).startswith(expected)


@pytest.mark.parametrize(
    ("applied", "seen", "trusted"),
    [
        (None, (1, "x"), True),
        ((1, "x"), (2, "y"), True),
        ((1, "x"), (1, "x"), True),
        ((2, "x"), (1, "y"), False),
        ((2, "x"), (2, "y"), False),
    ],
)
def test_serials_only_grow_and_a_channel_file_never_changes(
    applied: tuple[int, str] | None, seen: tuple[int, str], trusted: bool
) -> None:
    assert (distrust(applied, seen) is None) == trusted


def test_what_is_there_at_the_first_look_keeps_no_candidate_alive() -> None:
    lease = Lease()
    lease.observe((3, 7), now_s=0.0)
    lease.observe((3, 7), now_s=1.0)
    assert not lease.alive(3, lease_s=10.0, now_s=1.0)


def test_a_growing_beat_renews_the_lease_until_it_runs_out() -> None:
    lease = Lease()
    lease.observe((3, 7), now_s=0.0)
    lease.observe((3, 8), now_s=5.0)
    assert lease.alive(3, lease_s=10.0, now_s=15.0)
    assert not lease.alive(3, lease_s=10.0, now_s=15.1)


def test_a_beat_that_appears_renews_the_lease() -> None:
    lease = Lease()
    lease.observe(None, now_s=0.0)
    lease.observe((3, 1), now_s=5.0)
    assert lease.alive(3, lease_s=10.0, now_s=6.0)


def test_a_beat_played_back_renews_nothing() -> None:
    lease = Lease()
    for number in (1, 2, 3):
        lease.observe((3, number), now_s=float(number))
    lease.observe((3, 2), now_s=50.0)
    lease.observe((2, 99), now_s=50.0)
    assert not lease.alive(3, lease_s=10.0, now_s=50.0)


def test_the_beat_of_another_channel_keeps_no_candidate_alive() -> None:
    lease = Lease()
    lease.observe((3, 1), now_s=0.0)
    lease.observe((3, 2), now_s=1.0)
    assert not lease.alive(4, lease_s=10.0, now_s=1.0)


def test_a_channel_that_the_host_saw_appear_begins_with_a_lease() -> None:
    lease = Lease()
    lease.grant(4, now_s=0.0)
    lease.observe((3, 99), now_s=1.0)  # left by the release before
    lease.observe((3, 100), now_s=2.0)
    assert lease.alive(4, lease_s=10.0, now_s=9.0)
    assert not lease.alive(4, lease_s=10.0, now_s=10.1)
