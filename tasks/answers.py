"""What a model answers: the problem's output contract, made of a core's scores inside the graph.

    scores ─ temperature ─ probability | probabilities | prediction ─ label | lower, upper

Everything that a caller gets is computed here, so no caller decides by a threshold of its own.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from slipway.bundle.contract import Decision, OutputTensor
from slipway.bundle.datatypes import Datatype
from slipway.bundle.format import Document
from slipway.problem import PROBLEMS, Answers, Class, Problem, Scores, Target
from slipway.problem.calibration import Calibration

AXIS: Final = "answer/axis"
"""A constant of every graph: the dimension after that of the rows."""

LABEL, LOWER, UPPER = "label", "lower", "upper"

_CLASS_TYPES: Final[dict[type, Datatype]] = {bool: "BOOL", int: "INT64", str: "BYTES"}


class CalibrationFacts(Document):
    """A calibration as files have it."""

    temperature: float
    threshold: float | None
    margin: float | None


@dataclass(frozen=True)
class Answering:
    """How scores become answers."""

    target: Target
    calibration: Calibration

    @property
    def problem(self) -> Problem:
        """Return the problem that is answered."""
        return PROBLEMS[self.target.problem]

    @property
    def judged(self) -> str:
        """Name the output that labels judge."""
        return self.problem.output.name

    @property
    def tells_label(self) -> bool:
        """Tell whether a decision is answered."""
        return self.problem.output.per_class or self.calibration.threshold is not None

    def respond(self, scores: Scores) -> Answers:
        """Return what the judged output holds for these scores."""
        return self.problem.respond(scores, self.calibration.temperature)

    def decision(self) -> Decision | None:
        """Return how the label follows from the judged output; None without one."""
        if not self.tells_label:
            return None
        return Decision(output=LABEL, by=self.judged, at=self.calibration.threshold)

    def outputs(self, meaning: str) -> list[OutputTensor]:
        """Describe the outputs, the judged one first."""
        form = self.problem.output
        found = [
            OutputTensor(
                name=form.name,
                datatype=form.datatype,
                shape=form.shape(self.target),
                meaning=meaning,
                range=form.range,
            )
        ]
        if self.tells_label:
            found.append(_output(LABEL, _class_type(self.target.classes), _label_meaning(self)))
        if self.calibration.margin is not None:
            found.append(_output(LOWER, "FP32", "Lower end of the interval of the prediction"))
            found.append(_output(UPPER, "FP32", "Upper end of the interval of the prediction"))
        return found

    def nodes(self, scores: str) -> tuple[list[NodeProto], list[TensorProto]]:
        """Return what computes the outputs from the scores, and the constants that it takes."""
        if self.problem.output.per_class:
            return self._several(scores)
        if self.problem.output.range is None:
            return self._number(scores)
        return self._two(scores)

    def _two(self, scores: str) -> tuple[list[NodeProto], list[TensorProto]]:
        nodes, constants = self._cooled(scores)
        nodes += [
            helper.make_node("Squeeze", ["answer/cooled", AXIS], ["answer/logit"]),
            helper.make_node("Sigmoid", ["answer/logit"], [self.judged]),
        ]
        if self.calibration.threshold is None:
            return nodes, constants
        nodes += [
            helper.make_node("GreaterOrEqual", [self.judged, "answer/at"], ["answer/positive"]),
            helper.make_node("Cast", ["answer/positive"], ["answer/place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["answer/classes", "answer/place"], [LABEL], axis=0),
        ]
        return nodes, [
            *constants,
            _scalar("answer/at", self.calibration.threshold),
            self._classes(),
        ]

    def _several(self, scores: str) -> tuple[list[NodeProto], list[TensorProto]]:
        nodes, constants = self._cooled(scores)
        nodes += [
            helper.make_node("Softmax", ["answer/cooled"], [self.judged], axis=1),
            helper.make_node("ArgMax", [self.judged], ["answer/place"], axis=1, keepdims=0),
            helper.make_node("Gather", ["answer/classes", "answer/place"], [LABEL], axis=0),
        ]
        return nodes, [*constants, self._classes()]

    def _number(self, scores: str) -> tuple[list[NodeProto], list[TensorProto]]:
        nodes = [helper.make_node("Squeeze", [scores, AXIS], [self.judged])]
        if (margin := self.calibration.margin) is None:
            return nodes, []
        nodes += [
            helper.make_node("Sub", [self.judged, "answer/margin"], [LOWER]),
            helper.make_node("Add", [self.judged, "answer/margin"], [UPPER]),
        ]
        return nodes, [_scalar("answer/margin", margin)]

    def _cooled(self, scores: str) -> tuple[list[NodeProto], list[TensorProto]]:
        node = helper.make_node("Div", [scores, "answer/temperature"], ["answer/cooled"])
        return [node], [_scalar("answer/temperature", self.calibration.temperature)]

    def _classes(self) -> TensorProto:
        """Return the classes as a constant; numpy has no text of ONNX's kind."""
        values = list(self.target.classes)
        if isinstance(values[0], str):
            return numpy_helper.from_array(np.array(values, object), "answer/classes")
        return numpy_helper.from_array(np.array(values), "answer/classes")


def _scalar(name: str, value: float) -> TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def _output(name: str, datatype: Datatype, meaning: str) -> OutputTensor:
    return OutputTensor(name=name, datatype=datatype, shape=[-1], meaning=meaning, range=None)


def _class_type(classes: tuple[Class, ...]) -> Datatype:
    return _CLASS_TYPES[type(classes[0])]


def _label_meaning(answering: Answering) -> str:
    if answering.problem.output.per_class:
        return "The most probable class"
    other, positive = answering.target.classes
    at = answering.calibration.threshold
    return f"{positive!r} where the probability is at least {at:.6g}, else {other!r}"
