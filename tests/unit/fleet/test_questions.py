import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipway.bundle.contract import Contract, read_contract
from slipway.bundle.golden import Golden, read_golden
from slipway.bundle.verify import Verified, verify_bundle
from slipway.errors import SlipwayError
from slipway.fleet import questions
from slipway.fleet.questions import (
    LABELLED_ROWS_MIN,
    JudgedBy,
    ask_both,
    find_judged,
    how_asked_apart,
    make_questions,
)
from tests.bundles import make_bundle, make_keys, make_payload
from tests.tensors import make_tensor_bundle


@pytest.fixture(scope="module")
def payload(tmp_path_factory) -> tuple[Golden, Contract]:
    folder: Path = tmp_path_factory.mktemp("payload")
    make_payload(folder)
    return read_golden(folder / "golden.arrow"), read_contract(folder / "contract.json")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Verified]:
    """One bundle of a pipeline, and one of each kind that was made elsewhere."""
    folder: Path = tmp_path_factory.mktemp("bundles")
    keys = make_keys(folder / "keys")
    make_bundle(folder / "flights", keys=keys)
    for kind in ("mlp", "fixed", "tokens", "gather", "bf16"):
        make_tensor_bundle(folder / kind, kind, keys=keys)
    return {
        path.name: verify_bundle(path, keys.trusted)
        for path in folder.iterdir()
        if (path / "bundle.sig").exists()
    }


def ask(bundle: Verified, requests: int = 50, rows: int = 16) -> questions.Questions:
    return make_questions(bundle.golden, bundle.contract, requests, rows)


def test_questions_go_round_the_golden_rows_until_there_are_enough(payload):
    asked = make_questions(*payload, requests=50, rows_per_request=16)
    assert [len(x) for x in (asked.bodies, asked.rows)] == [50, 50]
    assert [list(rows[[0, -1]]) for rows in asked.rows[:4]] == [[0, 15], [16, 31], [32, 7], [0, 15]]


@pytest.mark.parametrize(("wanted", "rows"), [(16, 16), (1000, 40)])
def test_a_request_is_no_larger_than_the_golden_set(payload, wanted, rows):
    asked = make_questions(*payload, requests=50, rows_per_request=wanted)
    assert {r.size for r in asked.rows} == {rows}


def test_a_request_is_no_larger_than_the_contract_allows(payload):
    golden, contract = payload
    few = contract.model_copy(update={"max_rows": 3})
    assert make_questions(golden, few, 50, 16).rows[0].size == 3


def test_missing_values_are_sent_as_json_null(payload):
    body = json.loads(make_questions(*payload, requests=50, rows_per_request=10).bodies[0].data)
    carrier, delay = body["inputs"]
    assert carrier["data"][:6] == ["AA", "DL", "UA", "ZZ", None, "AA"]
    assert delay["data"][0] is None
    assert (delay["datatype"], delay["shape"], delay["data"][1]) == ("FP32", [10], -19.0)


def test_golden_sets_of_the_same_rows_are_known_by_their_labels(payload):
    golden, contract = payload
    again = make_questions(golden, contract, 50, 4)
    labels = golden.labels.copy()
    labels[0] = 1 - labels[0]
    other = replace(golden, labels=labels)
    assert make_questions(golden, contract, 60, 8).golden == again.golden
    assert make_questions(other, contract, 50, 4).golden != again.golden


def test_a_text_that_is_empty_is_a_text_where_nothing_can_be_missing(bundles):
    body = json.loads(ask(bundles["mlp"]).bodies[0].data)
    assert None not in body["inputs"][0]["data"]
    text = bundles["mlp"].contract.inputs[0].model_copy(update={"datatype": "BYTES"})
    golden = replace(bundles["mlp"].golden, inputs={"x": np.array([["", "a"]] * 12, object)})
    contract = bundles["mlp"].contract.model_copy(update={"inputs": [text]})
    (sent,) = json.loads(make_questions(golden, contract, 50, 1).bodies[0].data)["inputs"]
    assert (sent["shape"], sent["data"]) == ([1, 2], ["", "a"])


def test_a_model_for_whole_requests_is_asked_them_one_by_one(bundles):
    asked = ask(bundles["fixed"])
    assert [rows.tolist() for rows in asked.rows[:13]] == [[i % 12] for i in range(13)]
    assert json.loads(asked.bodies[0].data)["inputs"][0]["shape"] == [1, 4]


def test_rows_of_several_lengths_share_a_request_only_with_their_like(bundles):
    asked = ask(bundles["tokens"])  # rows of 3, 4, 7, 3, 12 and 1 tokens
    assert [rows.tolist() for rows in asked.rows[:6]] == [[0], [1], [2], [3], [4], [5]]
    shapes = [json.loads(body.data)["inputs"][0]["shape"] for body in asked.bodies[:5]]
    assert shapes == [[1, 3], [1, 4], [1, 7], [1, 3], [1, 12]]
    assert asked.proven[4]["each"].shape == (1, 12)


def test_more_whole_requests_than_are_asked_are_taken_from_all_over(bundles):
    assert [rows.tolist() for rows in ask(bundles["fixed"], requests=3).rows] == [[0], [4], [8]]


def test_large_rows_are_spread_over_more_requests(bundles, monkeypatch):
    assert {rows.size for rows in ask(bundles["mlp"]).rows} == {12}
    monkeypatch.setattr(questions, "REQUEST_BYTES", 5 * (64 + 10) * 4)
    assert {rows.size for rows in ask(bundles["mlp"]).rows} == {5}
    monkeypatch.setattr(questions, "REQUEST_BYTES", 1)
    assert {rows.size for rows in ask(bundles["mlp"]).rows} == {1}


def test_what_was_proven_stands_beside_each_request(bundles):
    asked, golden = ask(bundles["mlp"], rows=5), bundles["mlp"].golden
    for rows, proven in zip(asked.rows, asked.proven, strict=True):
        np.testing.assert_array_equal(proven["y"], golden.expected["y"][rows])


def test_bf16_is_compared_by_the_numbers_that_it_stands_for(bundles):
    proven = ask(bundles["bf16"]).proven[0]["y"]
    assert proven.dtype == np.float32
    assert 0.5 <= proven.min() <= proven.max() < 8.0


def with_labels(bundle: Verified, labels, rows: int = LABELLED_ROWS_MIN, **changes) -> Verified:
    """Go round the golden rows until there are so many, and round the labels as well."""
    golden = bundle.golden
    again = np.resize(np.arange(golden.rows), rows)
    changes = {
        "inputs": {name: values[again] for name, values in golden.inputs.items()},
        "expected": {name: values[again] for name, values in golden.expected.items()},
        "labels": np.resize(np.array(labels, object), rows),
        **changes,
    }
    return replace(bundle, golden=replace(golden, **changes))


def answering(bundle: Verified, most: float, rows: int = LABELLED_ROWS_MIN) -> Verified:
    """Label it, with recorded answers of 0 to `most`."""
    expected = {
        tensor.name: np.linspace(0, most, rows, dtype=np.float32)
        for tensor in bundle.contract.outputs
    }
    return with_labels(bundle, [0, 1], rows, expected=expected)


def found(bundle: Verified, **how) -> str | None:
    return name_of(find_judged(bundle.golden, bundle.contract, **how))


def name_of(judged: JudgedBy | None) -> str | None:
    return judged and judged.output


def test_labels_judge_one_probability_a_row_and_nothing_else(bundles):
    assert found(bundles["flights"]) == "probability"
    gather, mlp = bundles["gather"], bundles["mlp"]
    assert found(gather) is None
    sure = answering(gather, 1.0).golden.expected
    assert found(answering(gather, 1.0)) == "y"
    assert found(with_labels(gather, [1, 1], expected=sure)) is None  # one class
    assert found(with_labels(gather, [0, 1, None], expected=sure)) is None  # some unknown
    assert found(answering(gather, 2.0)) is None
    assert found(answering(gather, 2.0), sure=True) == "y"
    assert found(with_labels(mlp, [0, 1]), sure=True) is None  # ten numbers a row
    two = [gather.contract.outputs[0].model_copy(update={"name": name}) for name in "yz"]
    contract = gather.contract.model_copy(update={"outputs": two})
    labelled = with_labels(gather, [0, 1], expected=dict.fromkeys("yz", sure["y"]))
    assert found(replace(labelled, contract=contract)) is None


def test_a_contract_that_promises_a_probability_is_held_to_it_whatever_the_answers(bundles):
    assert found(answering(bundles["flights"], 1.2, rows=40)) == "probability"


def test_a_handful_of_labels_judges_nothing_unless_the_contract_promises_a_probability(bundles):
    few = answering(bundles["gather"], 1.0, LABELLED_ROWS_MIN - 1)
    assert (found(few), found(few, sure=True)) == (None, None)
    (output,) = few.contract.outputs
    sure = output.model_copy(update={"range": (0.0, 1.0)})
    contract = few.contract.model_copy(update={"outputs": [sure]})
    assert found(replace(few, contract=contract)) == "y"


def test_a_candidate_is_held_to_the_labels_that_stable_is_held_to(bundles):
    stable, odd = answering(bundles["gather"], 1.0), answering(bundles["gather"], 1.5)
    asked = ask_both(odd, stable, 50, 4)
    assert [name_of(each.judged) for each in asked] == ["y", "y"]
    asked = ask_both(stable, odd, 50, 4)  # what stable answers is no probability
    assert [name_of(each.judged) for each in asked] == [None, None]


@pytest.mark.parametrize(
    ("labels", "rows"), [([None], 240), ([0, 1, None], 240), ([1], 240), ([0, 1], 40)]
)
def test_a_stable_version_judged_by_labels_makes_way_for_no_other(bundles, labels, rows):
    stable = answering(bundles["gather"], 1.0)
    with pytest.raises(SlipwayError, match=r"by labels as stable v.* is: .* Wrap it with --labels"):
        ask_both(with_labels(stable, labels, rows), stable, 50, 4)


def test_versions_that_take_the_same_requests_are_asked_the_same(bundles):
    mine, theirs = ask_both(bundles["mlp"], bundles["mlp"], 50, 4)
    assert mine.bodies is theirs.bodies
    assert (theirs.proven, name_of(mine.judged), name_of(theirs.judged)) == (None, None, None)


@pytest.mark.parametrize("change", [{"shape": [-1, 128]}, {"datatype": "FP64"}, {"name": "z"}])
def test_versions_that_take_others_are_asked_their_own_golden_rows(bundles, change):
    mlp = bundles["mlp"]
    other = mlp.contract.inputs[0].model_copy(update=change)
    stable = replace(mlp, contract=mlp.contract.model_copy(update={"inputs": [other]}))
    if "name" in change:
        stable = replace(stable, golden=replace(mlp.golden, inputs={"z": mlp.golden.inputs["x"]}))
    mine, theirs = ask_both(mlp, stable, 50, 4)
    assert mine.bodies is not theirs.bodies
    assert theirs.proven is not None
    assert how_asked_apart(mlp.contract, stable.contract) == "takes other inputs than stable"


def test_versions_with_the_same_inputs_may_still_be_asked_apart(bundles):
    mlp = bundles["mlp"].contract
    (output,) = mlp.outputs
    whole = mlp.model_copy(
        update={"outputs": [output.model_copy(update={"shape": [1, *output.shape[1:]]})]}
    )
    assert how_asked_apart(whole, mlp) == "takes whole requests where stable takes rows"
    assert how_asked_apart(mlp, whole) == "takes rows where stable takes whole requests"
    assert how_asked_apart(mlp, mlp) is None


@pytest.mark.parametrize("smaller", ["candidate", "stable"])
def test_either_side_is_asked_as_many_rows_as_both_take(bundles, smaller):
    mlp = bundles["mlp"]
    few = replace(mlp, contract=mlp.contract.model_copy(update={"max_rows": 2}))
    mine, theirs = ask_both(*((few, mlp) if smaller == "candidate" else (mlp, few)), 50, 4)
    assert {rows.size for rows in (*mine.rows, *theirs.rows)} == {2}
    assert mine.bodies is theirs.bodies


@pytest.mark.parametrize(("stable", "rows"), [("mlp", 12), ("fixed", 1)])
def test_versions_with_other_inputs_are_asked_as_many_rows_as_well(bundles, stable, rows):
    other = bundles[stable]
    many = other.contract.model_copy(update={"max_rows": 64})  # counts nothing in whole requests
    asked = ask_both(bundles["flights"], replace(other, contract=many), 50, 16)
    assert {part.size for each in asked for part in each.rows} == {rows}


def test_labels_of_the_candidate_alone_judge_nothing(bundles):
    mine, theirs = ask_both(bundles["flights"], bundles["mlp"], 50, 4)
    assert (name_of(mine.judged), name_of(theirs.judged)) == (None, None)
    both = ask_both(bundles["flights"], bundles["flights"], 50, 4)
    assert [name_of(each.judged) for each in both] == ["probability"] * 2


def test_a_stable_version_that_is_pruned_is_taken_to_be_like_the_candidate(bundles):
    mine, theirs = ask_both(bundles["flights"], None, 50, 4)
    assert (mine.bodies, name_of(theirs.judged)) == (theirs.bodies, "probability")
