"""Answers behind a core, inside the graph: what numpy says of the same scores, to the letter."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from slipway.bundle.contract import Decision, InputTensor
from slipway.bundle.session import open_session
from slipway.errors import SlipwayError
from slipway.problem import Target
from slipway.problem.calibration import Calibration
from tasks import graph
from tasks.answers import Answering

DICE = np.random.default_rng(0)
BINARY = DICE.normal(scale=3, size=(400, 1)).astype(np.float32)
SEVERAL = DICE.normal(scale=3, size=(400, 3)).astype(np.float32)
"""Scores."""

FLAG, COUNT, TEXT = (
    Target("y", "binary", (False, True)),
    Target("y", "binary", (-7, 12)),
    Target("y", "binary", ("stays", "geht für immer")),
)
COLOURS = Target("y", "multiclass", ("rot", "blau", "grün"))
NUMBER = Target("y", "regression")


def column(name: str) -> InputTensor:
    return InputTensor(
        name=name,
        datatype="FP32",
        shape=[-1],
        kind="number",
        meaning=name,
        categories=None,
        range=(0.0, 1.0),
        missing="nothing",
        unknown=None,
    )


def pass_on(width: int) -> Any:
    """Make a core whose scores are its numbers."""
    made = helper.make_graph(
        [helper.make_node("Identity", [graph.NUMBERS], [graph.SCORES])],
        "core",
        [helper.make_tensor_value_info(graph.NUMBERS, TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info(graph.SCORES, TensorProto.FLOAT, ["rows", width])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answer(answering: Answering, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Let the graph answer."""
    names = [f"c{i}" for i in range(scores.shape[1])]
    model = graph.assemble(pass_on(scores.shape[1]), [column(n) for n in names], answering)
    session = open_session(graph.to_bytes(model), "CPUExecutionProvider", 1)
    assert session.outputs == {o.name: o.datatype for o in answering.outputs("")}
    return session.run({name: scores[:, i].copy() for i, name in enumerate(names)})


@pytest.mark.parametrize("temperature", [0.05, 1.0, 2.5, 20.0])
@pytest.mark.parametrize(
    ("target", "scores"), [(TEXT, BINARY), (COLOURS, SEVERAL)], ids=["binary", "multiclass"]
)
def test_a_graphs_probabilities_are_numpys(
    target: Target, scores: np.ndarray, temperature: float
) -> None:
    answering = Answering(target, Calibration(temperature))
    found = answer(answering, scores)[answering.judged]
    expected = answering.respond(scores)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert expected.std() > 0.01


def test_a_graphs_numbers_are_the_scores_whatever_the_temperature() -> None:
    answering = Answering(NUMBER, Calibration(7.0))
    found = answer(answering, BINARY)
    assert list(found) == ["prediction"]
    assert found["prediction"].tolist() == BINARY[:, 0].tolist()
    assert answering.respond(BINARY).tolist() == BINARY[:, 0].tolist()


@pytest.mark.parametrize(
    ("target", "datatype"),
    [(FLAG, "BOOL"), (COUNT, "INT64"), (TEXT, "BYTES")],
    ids=["bool", "int", "text"],
)
def test_a_label_is_a_class_in_its_own_type(target: Target, datatype: str) -> None:
    answering = Answering(target, Calibration(1.5, threshold=0.3))
    found = answer(answering, BINARY)
    expected = [target.classes[int(p >= np.float32(0.3))] for p in found["probability"]]
    assert found["label"].tolist() == expected
    assert set(expected) == set(target.classes)
    assert type(found["label"].tolist()[0]) is type(target.classes[0])
    assert [o.datatype for o in answering.outputs("")] == ["FP32", datatype]


@pytest.mark.parametrize(
    ("classes", "datatype"),
    [(("rot", "blau", "grün"), "BYTES"), ((30, 10, 20), "INT64")],
    ids=["text", "int"],
)
def test_of_several_classes_the_likeliest_is_told(classes: tuple[Any, ...], datatype: str) -> None:
    answering = Answering(Target("y", "multiclass", classes), Calibration(0.5))
    found = answer(answering, SEVERAL)
    assert found["label"].tolist() == [classes[i] for i in SEVERAL.argmax(axis=1)]
    assert [o.shape for o in answering.outputs("")] == [[-1, 3], [-1]]
    assert answering.outputs("")[1].datatype == datatype


def test_of_equals_the_first_class_is_told() -> None:
    found = answer(Answering(COLOURS, Calibration()), np.zeros((1, 3), np.float32))
    assert found["label"].tolist() == ["rot"]


def test_a_probability_at_the_threshold_itself_is_positive() -> None:
    for logit in np.linspace(-6, 6, 97, dtype=np.float32):
        scores = np.array([[logit]])
        [at] = answer(Answering(COUNT, Calibration(1.7)), scores)["probability"]
        above = np.nextafter(at, np.float32(1))
        labels = [
            answer(Answering(COUNT, Calibration(1.7, threshold=float(t))), scores)["label"].item()
            for t in (at, above)
        ]
        assert labels == [12, -7]


def test_without_a_threshold_no_label_is_told() -> None:
    answering = Answering(TEXT, Calibration(2.0))
    assert list(answer(answering, BINARY)) == ["probability"]
    assert answering.decision() is None


def test_how_a_label_follows_is_told() -> None:
    binary = Answering(TEXT, Calibration(2.0, threshold=0.25))
    assert binary.decision() == Decision(output="label", by="probability", at=0.25)
    assert binary.outputs("")[1].meaning == (
        "'geht für immer' where the probability is at least 0.25, else 'stays'"
    )
    several = Answering(COLOURS, Calibration())
    assert several.decision() == Decision(output="label", by="probabilities", at=None)


def test_an_interval_lies_around_the_number() -> None:
    answering = Answering(NUMBER, Calibration(margin=1.25))
    found = answer(answering, BINARY)
    assert list(found) == ["prediction", "lower", "upper"]
    np.testing.assert_array_equal(found["lower"], BINARY[:, 0] - np.float32(1.25))
    np.testing.assert_array_equal(found["upper"], BINARY[:, 0] + np.float32(1.25))
    assert answering.decision() is None


@pytest.mark.parametrize(
    ("answering", "taken"),
    [
        (Answering(TEXT, Calibration(threshold=0.5)), ["probability", "label"]),
        (Answering(COLOURS, Calibration()), ["probabilities", "label"]),
        (Answering(NUMBER, Calibration(margin=1.0)), ["prediction", "lower", "upper"]),
    ],
    ids=["binary", "multiclass", "regression"],
)
def test_a_column_cannot_be_called_like_what_is_answered(
    answering: Answering, taken: list[str]
) -> None:
    for name in taken:
        with pytest.raises(SlipwayError, match=f"cannot be called '{name}': that is an output's"):
            graph.assemble(pass_on(1), [column(name)], answering)


@pytest.mark.parametrize(
    "name",
    [
        "label",
        "prediction",
        "scores",
        "numbers",
        "categories",
        pytest.param("axis"),
    ],
)
def test_a_column_may_be_called_like_what_is_not_answered(name: str) -> None:
    answering = Answering(TEXT, Calibration())
    model = graph.assemble(pass_on(1), [column(name)], answering)
    session = open_session(graph.to_bytes(model), "CPUExecutionProvider", 1)
    found = session.run({name: BINARY[:, 0].copy()})["probability"]
    np.testing.assert_allclose(found, answering.respond(BINARY), atol=2e-6)
