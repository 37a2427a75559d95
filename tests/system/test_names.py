"""A config that names what nothing gives stops every way to run it, before anything ran."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import deliver
from slipway.errors import ConfigError
from tests.project import make_project, pin, run, slipway

WRONG = [
    "ingest.time: the query gives no column 'momant'; did you mean 'moment'?",
    "prepare.numbers.wait: the query gives no column 'wait'; did you mean 'weight'?",
    "evaluate.slices.0: 'kine' is no feature of prepare; did you mean 'kind'?",
]


def spoil(config: dict[str, Any]) -> None:
    config["ingest"]["time"] = "momant"
    config["prepare"]["numbers"]["wait"] = "How long"
    config["evaluate"]["slices"] = ["kine"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("names") / "project", spoil)


@pytest.mark.parametrize("verb", ["run", "build"])
def test_the_command_names_all_of_them_and_starts_nothing(root: Path, verb: str):
    ended = slipway(root, verb, "flights")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "slipway: configs/flights.yaml has 3 problems:",
        *(f"  {problem}" for problem in WRONG),
    ]
    assert not (root / ".slipway").exists()


def test_the_flow_of_a_schedule_names_all_of_them_before_its_first_step(root: Path):
    with pytest.raises(ConfigError) as caught:
        deliver.run(root, "flights", "local")
    assert caught.value.problems == WRONG
    assert not (root / ".slipway").exists()


def test_dvc_repro_stops_at_the_first_stage_with_all_of_them(root: Path):
    pin(root)
    ended = run(root, sys.executable, "-m", "dvc", "repro")
    assert ended.returncode != 0
    assert re.findall(r"^  (\S.*)$", ended.stderr, re.MULTILINE) == WRONG
    assert re.findall(r"stage '(.*)'", ended.stdout) == ["ingest@flights"]
    assert not (root / "data/flights/raw").exists()
