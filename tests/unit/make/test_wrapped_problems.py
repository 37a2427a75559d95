"""Wrapped models whose maker says what problem their labels pose."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from slipway.bundle.session import open_session
from slipway.bundle.verify import check_here, verify_bundle
from slipway.errors import ConfigError
from slipway.make.wrap.request import WrapRequest
from slipway.make.wrap.wrap import Wrapped, wrap_onnx
from slipway.problem import Class, Target
from tests.bundles import CPU, Keys, make_keys
from tests.tensors import to_bytes

THREE = Target("y", "multiclass", ("cat", "dog", "eel"))
TWO = Target("y", "binary", (0, 1))
NUMBER = Target("y", "regression")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


def make_model(*shape: int | str, output: str = "answer", datatype: str = "FP32") -> bytes:
    """A model whose only output of so many values is what goes in."""
    tensor = (datatype, ["rows", *shape])
    return to_bytes(
        [helper.make_node("Identity", ["x"], [output])], {"x": tensor}, {output: tensor}, {}
    )


def wrap(
    folder: Path,
    keys: Keys,
    labels: object,
    target: Target | None,
    *,
    model: bytes | None = None,
    judged: str | None = None,
) -> Wrapped:
    """Wrap a model of three numbers in and out, or that one, with labels beside its rows."""
    values, model = np.asarray(labels), model or make_model(3)
    [tensor] = onnx.load_from_string(model).graph.input
    width = [each.dim_value for each in tensor.type.tensor_type.shape.dim[1:]]
    x = np.random.default_rng(0).random((len(values), *width)).astype(np.float32)
    np.savez(folder / "rows.npz", x=x, y=values)
    (folder / "model.onnx").write_bytes(model)
    request = WrapRequest(
        model=folder / "model.onnx",
        rows=folder / "rows.npz",
        name="m",
        out=folder / "out",
        key=keys.builder,
        max_rows=16,
        labels="y",
        target=target,
        judged=judged,
    )
    return wrap_onnx(request)


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (THREE, ["cat", "eel", "dog", "cat", "cat", "eel"]),
        (Target("y", "multiclass", (5, 3, 4)), [5, 3, 4, 3, 3, 5]),
        (TWO, [0, 1, 1, 0, 1, 0]),
        (Target("y", "binary", ("no", "yes")), ["no", "yes", "yes", "no", "no", "no"]),
        (Target("y", "binary", (True, False)), [True, False, True, True, False, False]),
        (NUMBER, [0.5, -1.25, 3e9, 7.0, 0.1, 2.0]),
        (NUMBER, [1, 2, 3, 4, 5, 6]),
    ],
    ids=["text", "whole numbers", "0 and 1", "two texts", "truth values", "numbers", "counts"],
)
def test_labels_reach_the_host_in_their_own_type(
    target: Target, labels: list[Class | float], keys: Keys, tmp_path: Path
) -> None:
    model = make_model() if target.problem != "multiclass" else make_model(3)
    wrap(tmp_path, keys, labels, target, model=model)
    verified = verify_bundle(tmp_path / "out", keys.trusted)
    contract = verified.contract
    assert (contract.problem, contract.target) == (target.problem, "y")
    assert contract.classes == (list(target.classes) or None)
    found = verified.golden.labels.tolist()
    assert [(type(value), value) for value in found] == [(type(each), each) for each in labels]
    assert check_here(verified, open_session(verified.model, CPU, 1)).passed


def test_the_only_output_is_judged_and_the_contract_names_it(keys: Keys, tmp_path: Path) -> None:
    labels = ["cat", "dog", "eel"] * 2
    assert wrap(tmp_path, keys, labels, THREE).contract.judged == "answer"


def test_an_output_of_the_problems_own_name_needs_no_word(keys: Keys, tmp_path: Path) -> None:
    model = make_model(3, output="probabilities")
    contract = wrap(tmp_path, keys, ["cat", "dog", "eel"] * 2, THREE, model=model).contract
    assert contract.judged is None


def make_two_outputs() -> bytes:
    nodes = [
        helper.make_node("Identity", ["x"], ["probabilities"]),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("Neg", ["x"], ["other"]),
    ]
    tensor = ("FP32", ["rows", 3])
    outputs = {"label": ("INT64", ["rows"]), "other": tensor, "probabilities": tensor}
    return to_bytes(nodes, {"x": tensor}, outputs, {})


@pytest.mark.parametrize(("judged", "named"), [(None, None), ("other", "other")])
def test_of_several_outputs_the_one_that_is_asked_for_is_judged(
    judged: str | None, named: str | None, keys: Keys, tmp_path: Path
) -> None:
    labels, model = ["cat", "dog", "eel"] * 2, make_two_outputs()
    wrapped = wrap(tmp_path, keys, labels, THREE, model=model, judged=judged)
    assert wrapped.contract.judged == named


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        ("label", "--judged: no output 'label' of floating-point numbers; there is: label (INT64)"),
        ("lable", "--judged: no output 'lable' of floating-point numbers; there is: label (INT64)"),
    ],
)
def test_an_output_that_no_label_can_judge_is_refused(
    judged: str, said: str, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        wrap(tmp_path, keys, ["cat", "dog"] * 3, THREE, model=make_two_outputs(), judged=judged)
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "labels", "said"),
    [
        (
            Target("y", "multiclass", ("cat", "dog")),
            ["cat", "dog"] * 3,
            "--judged: 'answer' has the shape [-1, 3], multiclass is [-1, 2]",
        ),
        (TWO, [0, 1] * 3, "--judged: 'answer' has the shape [-1, 3], binary is [-1]"),
        (NUMBER, [0.5, 1] * 3, "--judged: 'answer' has the shape [-1, 3], regression is [-1]"),
    ],
)
def test_an_output_of_another_shape_than_the_problems_is_refused(
    target: Target, labels: list[object], said: str, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        wrap(tmp_path, keys, labels, target, model=make_model(3))
    assert refused.value.problems == [said]


@pytest.mark.parametrize(("target", "labels"), [(TWO, [0, 1] * 3), (NUMBER, [0.5, 1.5] * 3)])
def test_a_column_of_one_answer_a_row_is_judged_too(
    target: Target, labels: list[object], keys: Keys, tmp_path: Path
) -> None:
    nodes = [helper.make_node("ReduceMean", ["x", "axis"], ["answer"], keepdims=1)]
    axis = {"axis": np.array([1], np.int64)}
    model = to_bytes(nodes, {"x": ("FP32", ["rows", 3])}, {"answer": ("FP32", ["rows", 1])}, axis)
    assert wrap(tmp_path, keys, labels, target, model=model).contract.problem == target.problem


@pytest.mark.parametrize(
    ("target", "labels", "said"),
    [
        (THREE, ["cat", "cow", "ape"], "must be one of cat, dog, eel, found ape, cow"),
        (Target("y", "binary", ("0", "1")), [0, 1, 1], "must be one of 0, 1, found 0, 1"),
        (NUMBER, ["1", "2", "3"], "must be a finite number for every row"),
        (NUMBER, [1.0, float("nan"), 2.0], "must be a finite number for every row"),
        (NUMBER, [1.0, float("inf"), 2.0], "must be a finite number for every row"),
        (NUMBER, [[1.0], [2.0], [3.0]], "must be one value for every row"),
        (None, [0, 1, 2], "must be 0 or 1 for every row; --problem names other targets"),
        (None, [0.0, 1.0, 1.0], "must be 0 or 1 for every row; --problem names other targets"),
    ],
)
def test_labels_that_are_not_the_problems_are_refused(
    target: Target | None, labels: list[object], said: str, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        wrap(tmp_path, keys, labels, target)
    assert refused.value.problems == [f"label 'y': {said}"]


def test_without_a_problem_labels_are_kept_and_nothing_is_judged(
    keys: Keys, tmp_path: Path
) -> None:
    wrapped = wrap(tmp_path, keys, [0, 1, 1], None)
    assert wrapped.golden.labels.tolist() == [0, 1, 1]
    contract = wrapped.contract
    assert (contract.problem, contract.classes, contract.judged) == (None, None, None)


@pytest.mark.parametrize("labels", [[0.0, 1.0, 1.0], [False, True, True]])
def test_labels_that_a_host_would_not_know_again_are_refused(
    labels: list[object], keys: Keys, tmp_path: Path
) -> None:
    """1.0 and true equal 1, but are no class 1 to Target.encode: no canary would judge by them."""
    with pytest.raises(ConfigError, match="must be one of 0, 1"):
        wrap(tmp_path, keys, labels, TWO, model=make_model())


def test_a_problem_without_labels_and_a_judged_output_without_a_problem_are_refused(
    keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(make_model())
    np.savez(tmp_path / "rows.npz", x=np.zeros(3, np.float32))
    usual = {
        "model": tmp_path / "model.onnx",
        "rows": tmp_path / "rows.npz",
        "name": "m",
        "out": tmp_path / "out",
        "key": keys.builder,
    }
    for asked, said in (
        ({"target": NUMBER}, "--problem: needs --labels, the column of what came true"),
        ({"judged": "answer"}, "--judged: needs --problem"),
    ):
        with pytest.raises(ConfigError) as refused:
            wrap_onnx(WrapRequest(**usual, **asked))  # type: ignore[arg-type]
        assert refused.value.problems == [said]
