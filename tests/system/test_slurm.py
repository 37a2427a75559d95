"""Triggered runs as Slurm jobs: a real server, worker, controller and node."""

from collections.abc import Iterator

import pytest

from tests.elsewhere import started_by
from tests.slurm import Slurm
from tests.support.processes import alive
from tests.support.waiting import wait_until
from tests.system.test_prefect import (
    PIPELINE,
    RUN_S,
    STATE_S,
    Prefect,
    running_ranks,
)

pytestmark = pytest.mark.slow  # a cluster, a server, a worker


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    slurm = Slurm()
    yield slurm
    slurm.stop()


@pytest.fixture(scope="module")
def prefect(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A worker whose runs are jobs."""
    command = "python -m flows.commands.slurm --cpus-per-task=1 --time=60"
    with started_by(
        "slurm", command, tmp_path_factory.mktemp("slurm"), slurm.environment
    ) as prefect:
        yield prefect


def job_of(slurm: Slurm, run: str) -> str:
    """Return the number of the job of a flow run."""

    def found() -> str:
        return slurm.ask("squeue", "--noheader", f"--name=slipway-{run[:8]}", "--format=%i").strip()

    return wait_until(found, "its job is in the queue", STATE_S)


def test_a_run_is_a_job_and_ends_completed(prefect: Prefect, slurm: Slurm) -> None:
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    job = job_of(slurm, run)
    assert prefect.ended(run)["type"] == "COMPLETED"
    wait_until(
        lambda: "JobState=COMPLETED" in slurm.ask("scontrol", "show", "job", job), "it is over"
    )
    assert "deliver" in (prefect.project.root / f".slipway/slurm/{run}.log").read_text()


def test_a_cancelled_run_s_job_ends_with_all_of_its_ranks(prefect: Prefect, slurm: Slurm) -> None:
    prefect.project.touch("train", "changed")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 300}})
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    job = job_of(slurm, run)
    ranks = running_ranks(prefect)
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", STATE_S)
    wait_until(lambda: prefect.state(run)["type"] == "CANCELLED", "that is its state", STATE_S)
    assert "JobState=CANCELLED" in slurm.ask("scontrol", "show", "job", job)


def test_a_requeued_job_goes_on_with_the_same_run(prefect: Prefect, slurm: Slurm) -> None:
    prefect.project.touch("train", "changed again")
    prefect.project.touch("ingest", "changed too")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 300}})
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    job = job_of(slurm, run)
    ranks = running_ranks(prefect)
    prefect.project.knobs({"ingest": {"fails": "it was done before"}})
    slurm.ask("scontrol", "requeue", job)
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", STATE_S)
    wait_until(
        lambda: "JobState=PENDING" in slurm.ask("scontrol", "show", "job", job), "it waits again"
    )
    slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm waits two minutes
    wait_until(lambda: prefect.state(run)["type"] == "COMPLETED", "the run is done", RUN_S)
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", job)
    names = [state["name"] for state in prefect.get(f"/flow_run_states/?flow_run_id={run}")]
    assert "Requeued" in names


def test_a_run_whose_job_slurm_ends_is_crashed(prefect: Prefect, slurm: Slurm) -> None:
    prefect.project.touch("train", "changed once more")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 300}})
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    job = job_of(slurm, run)
    ranks = running_ranks(prefect)
    slurm.ask("scancel", "--signal=KILL", "--full", job)
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", STATE_S)
    wait_until(lambda: prefect.state(run)["type"] == "CRASHED", "that is its state", STATE_S)
