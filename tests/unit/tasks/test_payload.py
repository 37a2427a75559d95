"""The payload: four files, the same bytes each time."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from slipway.bundle.contract import read_contract
from slipway.bundle.golden import read_golden, replay
from slipway.bundle.manifest import PAYLOAD_FILES, payload_version
from slipway.bundle.memory import memory_bytes
from slipway.bundle.session import open_session
from slipway.config import PayloadConfig
from tasks import payload, prove
from tasks.candidates import CandidateModel
from tests.small_models import (
    FP32,
    STATIC,
    WEIGHTS,
    Line,
    make_core,
    make_line,
    make_model,
    prove_config,
)

CHEAP = make_model(make_core([w + 0.002 for w in WEIGHTS]))


def make_payload(root: Path, chosen: CandidateModel = FP32) -> Line:
    line = make_line(root, static=CHEAP)
    ticks = itertools.count(step=1_000_000)
    folder = line.folder("gates")
    prove.run(
        prove_config(),
        lambda: next(ticks),
        candidates=line.candidates,
        evaluation=line.folder("evaluation"),
        golden=line.folder("golden"),
        gates=folder,
        reports=line.reports,
    )
    gates = folder / "gates.json"
    gates.write_text(json.dumps({**json.loads(gates.read_text()), "chosen": str(chosen)}))
    config = PayloadConfig(output_meaning="probability of being late", max_rows=64)
    payload.run(config, candidates=line.candidates, gates=folder, payload=line.folder("payload"))
    return line


def test_a_payload_is_exactly_the_four_files(tmp_path: Path) -> None:
    line = make_payload(tmp_path)
    found = sorted(path.name for path in line.folder("payload").iterdir())
    assert found == sorted(PAYLOAD_FILES)


def test_two_runs_on_the_same_models_give_the_same_version(tmp_path: Path) -> None:
    one, two = (make_payload(tmp_path / name).folder("payload") for name in ("one", "two"))
    assert payload_version(one) == payload_version(two)


def test_the_contract_says_what_goes_in_and_what_comes_out(tmp_path: Path) -> None:
    contract = read_contract(make_payload(tmp_path).folder("payload") / "contract.json")
    assert (contract.model, contract.precision, contract.max_rows) == ("small", "network-fp32", 64)
    assert (contract.problem, contract.target, contract.classes) == ("binary", "late", [0, 1])
    assert [(i.name, i.datatype, i.shape) for i in contract.inputs] == [
        ("origin", "BYTES", [-1]),
        ("delay", "FP32", [-1]),
        ("wind", "FP32", [-1]),
    ]
    assert contract.inputs[0].categories == ["EWR", "JFK", "LGA"]
    assert contract.inputs[1].range == (-6.0, 6.0)
    [output] = contract.outputs
    assert (output.name, output.meaning) == ("probability", "probability of being late")
    assert contract.requires.provider == "CPUExecutionProvider"
    assert contract.batch_invariance_max == 0.0


def test_the_contract_names_the_inputs_that_the_model_has(tmp_path: Path) -> None:
    folder = make_payload(tmp_path).folder("payload")
    session = open_session(folder / "model.onnx", "CPUExecutionProvider", 1)
    contract = read_contract(folder / "contract.json")
    assert session.inputs == {i.name: i.datatype for i in contract.inputs}
    assert session.outputs == {o.name: o.datatype for o in contract.outputs}


def test_a_host_that_re_runs_the_golden_set_finds_the_recorded_answers(tmp_path: Path) -> None:
    folder = make_payload(tmp_path).folder("payload")
    golden = read_golden(folder / "golden.arrow")
    session = open_session(folder / "model.onnx", "CPUExecutionProvider", 1)
    result = replay(session.run, golden)
    assert (result.passed, result.rows, result.tolerance) == (True, 600, {"probability": 0.001})
    assert np.isnan(golden.inputs["delay"]).any()
    assert "" in golden.inputs["origin"]


@pytest.mark.parametrize("chosen", [FP32, STATIC], ids=str)
def test_the_model_is_that_of_the_chosen_candidate(chosen: CandidateModel, tmp_path: Path) -> None:
    line = make_payload(tmp_path, chosen)
    expected = (line.of(chosen) / "model.onnx").read_bytes()
    assert (line.folder("payload") / "model.onnx").read_bytes() == expected
    assert read_contract(line.folder("payload") / "contract.json").precision == str(chosen)


def test_required_memory_grows_with_the_model(tmp_path: Path) -> None:
    assert memory_bytes(1_000_000_000) - memory_bytes(0) >= 3_000_000_000
