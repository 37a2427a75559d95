"""Which flow runs are dead: a wrong yes ends a run that lives, a wrong no blocks the schedule."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.alive.liveness import FlowRun, Here, find_dead, why_dead
from flows.alive.pid_files import HeldFile, PidFile
from slipway.fleet.processes import Process

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RUNNING = FlowRun("run-1", "deliver flights", "RUNNING", NOON, "slipway", "ours")
PENDING = replace(RUNNING, state="PENDING")
UNSIGNED = replace(PENDING, worker=None)
OURS = {"slipway": {"ours": NOON}}


def held(
    pid: int = 10, *, machine: str = "this", boot: str = "now", locked: bool = False
) -> dict[str, HeldFile]:
    process = Process(pid=pid, started=500, boot=boot, command=["deliver"])
    return {"run-1": HeldFile(PidFile(machine=machine, process=process), locked)}


HERE = Here(
    machine="this",
    boot="now",
    pid_files={},
    started={},
    in_processes=frozenset(),
    worker="ours",
    worker_gone=True,
)


def test_a_run_whose_process_lives_is_left_alone() -> None:
    lives = replace(HERE, pid_files=held(locked=True), started={10: 500})
    assert find_dead([RUNNING], lives, OURS) == []


def test_a_run_whose_process_is_gone_is_dead() -> None:
    gone = replace(HERE, pid_files=held())
    assert [(dead.run, dead.reason) for dead in find_dead([RUNNING], gone, OURS)] == [
        (RUNNING, "its process 10 is gone")
    ]


def test_a_run_whose_process_number_was_given_to_another_process_is_dead() -> None:
    reused = replace(HERE, pid_files=held(), started={10: 9000})
    assert why_dead(RUNNING, reused, OURS) == "its process 10 is gone"


def test_a_run_from_before_the_machine_was_started_anew_is_dead() -> None:
    before = replace(HERE, pid_files=held(boot="before"), started={10: 500})
    assert why_dead(RUNNING, before, OURS) == "the machine was started anew since it began"


def test_a_run_of_another_machine_is_left_alone() -> None:
    other = replace(HERE, pid_files=held(machine="other", boot="theirs"))
    assert why_dead(RUNNING, other, OURS) is None


def test_a_lock_that_is_held_outweighs_a_process_that_cannot_be_seen() -> None:
    """In another container, or on another machine that has the checkout mounted."""
    for boot in ("now", "before"):
        unseen = replace(HERE, pid_files=held(boot=boot, locked=True))
        assert why_dead(RUNNING, unseen, OURS) is None


def test_a_copy_of_the_checkout_has_no_locks_and_ends_no_run_of_the_original() -> None:
    copied = replace(HERE, pid_files=held(locked=False), started={10: 500})
    assert why_dead(RUNNING, copied, OURS) is None


def test_the_same_boot_is_the_same_machine_under_whatever_name() -> None:
    """A container has a new name each time it is made."""
    renamed = replace(HERE, machine="other", pid_files=held())
    assert why_dead(RUNNING, renamed, OURS) == "its process 10 is gone"


@pytest.mark.parametrize("run", [PENDING, RUNNING, replace(RUNNING, state="CANCELLING")])
def test_a_run_without_a_pid_file_is_dead_with_the_worker_that_took_it(run: FlowRun) -> None:
    reason = "the worker that took it is gone, and no process runs it"
    assert why_dead(run, HERE, OURS) == reason


def test_a_run_that_the_living_worker_has_taken_is_left_alone() -> None:
    assert why_dead(PENDING, replace(HERE, worker_gone=False), OURS) is None


def test_a_run_whose_process_has_started_outlives_its_worker() -> None:
    assert why_dead(PENDING, replace(HERE, in_processes=frozenset({"run-1"})), OURS) is None


def test_a_run_that_another_worker_took_is_left_alone() -> None:
    assert why_dead(replace(PENDING, worker="theirs"), HERE, OURS) is None


def test_a_run_that_bears_no_name_yet_is_ours_where_nobody_else_can_have_taken_it() -> None:
    assert why_dead(UNSIGNED, HERE, OURS)
    long_gone = {"ours": NOON - MINUTE, "theirs": NOON - timedelta(hours=2)}
    assert why_dead(UNSIGNED, HERE, {"slipway": long_gone})


@pytest.mark.parametrize(
    "workers",
    [
        {"ours": NOON, "theirs": NOON},
        {"ours": NOON, "theirs": NOON - 30 * MINUTE},
        {"ours": NOON - timedelta(days=1)},
        {},
    ],
)
def test_a_run_that_bears_no_name_yet_is_left_alone_where_another_may_have_taken_it(
    workers: dict[str, datetime],
) -> None:
    assert why_dead(UNSIGNED, HERE, {"slipway": workers}) is None


def test_a_run_that_somebody_started_by_hand_is_left_alone() -> None:
    by_hand = replace(RUNNING, pool=None, worker=None)
    assert why_dead(by_hand, HERE, OURS) is None
    assert why_dead(replace(by_hand, pool="slipway"), HERE, OURS) is None
