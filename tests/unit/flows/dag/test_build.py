"""What becomes of stages that a run does not get to."""

from pathlib import Path

import pytest
from prefect.states import Failed

from flows.dag.build import StageRuns
from flows.dag.stages import Stage
from flows.talk import Talk
from slipway.runs.run import StageOutcome

TRAIN = Stage("train@p", "train", upstream=(), alone=False, stale=("weights are not there",))


@pytest.fixture
def runs(tmp_path: Path) -> StageRuns:
    runs = StageRuns(tmp_path, tmp_path / "run", Talk(), lambda outcomes: None)
    runs.outcomes = {TRAIN.address: StageOutcome(TRAIN.address, "running", TRAIN.stale)}
    return runs


def test_a_stage_that_was_about_to_begin_when_the_run_was_stopped_has_not_failed(runs: StageRuns):
    runs.stop()
    runs._account_for(TRAIN, Failed(message="the run is stopping"))
    outcome = runs.outcomes[TRAIN.address]
    assert (outcome.state, outcome.error) == ("stopped", None)


def test_one_that_had_not_begun_when_the_run_was_stopped_was_not_run(runs: StageRuns):
    runs.outcomes = {TRAIN.address: StageOutcome(TRAIN.address, "not run", TRAIN.stale)}
    runs.stop()
    runs._account_for(TRAIN, Failed(message="the run is stopping"))
    outcome = runs.outcomes[TRAIN.address]
    assert (outcome.state, outcome.error) == ("not run", None)


def test_an_error_around_a_stage_is_the_runs_error(runs: StageRuns):
    runs._account_for(TRAIN, Failed(message="no room on the disk"))
    outcome = runs.outcomes[TRAIN.address]
    assert (outcome.state, outcome.error) == ("failed", "train: no room on the disk")
