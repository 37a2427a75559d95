"""What outputs say of a run is read by what they are, and what is odd is left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.bundle.manifest import payload_version
from slipway.runs.attempt import NOTHING, Results
from slipway.runs.run import GateResult
from tasks.results import read_results
from tests.bundles import make_payload


def write(folder: Path, name: str, value: Any) -> Path:
    folder.mkdir()
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_the_payload_gives_the_version(tmp_path: Path) -> None:
    make_payload(tmp_path / "payload")
    found = read_results({"payload": tmp_path / "payload"})
    assert found == Results(version=payload_version(tmp_path / "payload"))


def test_the_proof_gives_gates_and_the_chosen_candidate(tmp_path: Path) -> None:
    gate = {"gate": "auc_floor", "measured": 0.7, "limit": 0.6, "bound": "min", "verdict": "pass"}
    forms = {
        "trees-fp32": {"verdict": "pass", "gates": [gate]},
        "network-int8-static": {"verdict": "not made"},
    }
    proof = write(tmp_path / "gates", "gates.json", {"chosen": "trees-fp32", "precisions": forms})
    found = read_results({"gates": proof})
    assert found.gates == (GateResult("auc_floor", 0.7, 0.6, "min", "pass", "trees-fp32"),)
    assert found.precision == "trees-fp32"


def test_the_evaluation_gives_the_best_familys_numbers_and_the_table_gives_rows(
    tmp_path: Path,
) -> None:
    numbers = {"auc": 0.7, "rows": 100, "by": {"kind": 1}, "sure": True}
    families = {"trees": {"auc": 0.6}, "network": numbers}
    evaluation = write(tmp_path / "evaluation", "metrics.json", {"families": families})
    (evaluation / "choice.json").write_text(json.dumps({"best": "network"}))
    found = read_results(
        {
            "evaluation": evaluation,
            "raw": write(tmp_path / "raw", "table.json", {"sources": {"a": {"rows": 3}, "b": {}}}),
        }
    )
    assert found == Results(metrics={"auc": 0.7, "rows": 100}, rows={"a": 3})


@pytest.mark.parametrize("odd", ["{", "[]", "{}"])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, odd: str) -> None:
    outs = {
        "evaluation": write(tmp_path / "evaluation", "metrics.json", odd),
        "raw": write(tmp_path / "raw", "table.json", odd),
        "gates": write(tmp_path / "gates", "gates.json", odd),
        "weights": tmp_path,
    }
    assert read_results(outs) == NOTHING
