"""What a model takes and gives: `contract.json`, the host's rule for judging requests.

Every input of the default pipelines holds one value per row. A category is a UTF-8 string:
JSON null and "" mean missing, a string outside `categories` is answered as unknown. A number
is FP32: JSON null and NaN mean missing, and the graph replaces it by the training mean. Models
that were made elsewhere take tensors: any datatype, any rank, nothing missing.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from slipway.bundle.datatypes import Datatype
from slipway.bundle.format import Document, parse_document, refused

__all__ = [
    "Contract",
    "Datatype",
    "Decision",
    "InputTensor",
    "OutputTensor",
    "Padding",
    "Requires",
    "read_contract",
]

Dimension = Annotated[int, Field(ge=-1)]
"""-1: any length."""

Class = bool | int | str
"""One value of a target, in its own type."""

OF_THE_TARGET = ("problem", "target", "classes", "judged", "decision")
"""What a contract says only of a model whose maker told it."""


class Padding(Document):
    """How a variable dimension is brought to one of a few lengths, so that requests can share one.

    The model must not mind, which its bundle's proof measured. Every padded input of a request
    has the same length there.
    """

    axis: Annotated[int, Field(ge=1)]
    """The dimension; never the first, which counts the rows."""
    value: float
    """What the end is filled with."""
    buckets: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """The lengths that the model is run at, ascending; nothing longer is taken."""

    @model_validator(mode="after")
    def _buckets_ascend(self) -> Self:
        if self.buckets != sorted(set(self.buckets)):
            raise ValueError(f"buckets must ascend, got {self.buckets}")
        return self


class InputTensor(Document):
    """One raw feature column, with its preprocessing inside the graph, or one tensor."""

    name: Annotated[str, Field(min_length=1)]
    """The tensor's name, which is the column's."""
    datatype: Datatype
    """BYTES for categories, FP32 for numbers, any for a tensor."""
    shape: list[Dimension]
    """[-1]: one value per row."""
    kind: Literal["category", "number", "tensor"]
    """How its values are read. A tensor's are taken as they are: none is missing, every number
    is finite, and text is any UTF-8."""
    meaning: str
    """What the column says, with its unit."""
    categories: list[str] | None
    """The values known from training; None for a number."""
    range: tuple[float, float] | None
    """Smallest and largest value seen in training; None for a category."""
    missing: str
    """What a missing value (JSON null) means."""
    unknown: str | None
    """What a value outside `categories` means; None for a number."""
    padding: Padding | None = None
    """How one variable dimension is padded; None: not at all."""

    @model_validator(mode="after")
    def _padding_fits(self) -> Self:
        if self.padding is None:
            return self
        if self.kind != "tensor" or self.datatype == "BYTES":
            raise ValueError("padding is for tensors of numbers")
        _check_axis("padding.axis", self.padding.axis, self.shape)
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_none(write(self), "padding")


class OutputTensor(Document):
    """One answer of the model."""

    name: Annotated[str, Field(min_length=1)]
    """The tensor's name."""
    datatype: Datatype
    """FP32 for a probability."""
    shape: list[Dimension]
    """[-1]: one value per row."""
    meaning: str
    """What the value is the probability, or the measure, of."""
    range: tuple[float, float] | None
    """The interval that every answer lies in; None where none is known."""
    padded_axis: int | None = None
    """The dimension that is as long as the padded inputs', and is cut back to what was asked."""

    @model_validator(mode="after")
    def _padded_axis_fits(self) -> Self:
        if self.padded_axis is not None:
            _check_axis("padded_axis", self.padded_axis, self.shape)
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_none(write(self), "padded_axis")


class Decision(Document):
    """How an output that decides follows from another one."""

    output: str
    """The output that decides."""
    by: str
    """The output that it is taken from."""
    at: float | None
    """From which value on it is the last of two classes; None: the most probable of several."""


class Requires(Document):
    """What a host must really have before it may load this bundle."""

    provider: str
    """The ONNX Runtime provider that the proof was taken on."""
    memory_bytes: Annotated[int, Field(ge=0)]
    """Memory of that provider's device."""


class Contract(Document):
    """The whole of `contract.json`."""

    model: str
    """The model's name: the pipeline's."""
    precision: str
    """The exported form that this bundle holds: family and precision, or as it was made."""
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    """In the graph's order."""
    outputs: Annotated[list[OutputTensor], Field(min_length=1)]
    """In the graph's order."""
    max_rows: Annotated[int, Field(gt=0)]
    """The most rows that one request may carry."""
    requires: Requires
    """What a host must have."""
    batch_invariance_max: Annotated[float, Field(ge=0)]
    """How far a row's answer may move with its neighbours in a batch."""
    problem: str | None = None
    """What its answers are judged by; None where its maker said nothing of it."""
    target: str | None = None
    """The column that is predicted; None where its maker said nothing of it."""
    classes: list[Class] | None = None
    """The values that the target may have, in the order of the probabilities; of two, the last one
    is the one whose probability is answered."""
    judged: str | None = None
    """The output that labels judge; None: the one that the problem names."""
    decision: Decision | None = None
    """How the label follows from a probability; None where none is answered."""

    @model_validator(mode="after")
    def _decision_is_between_outputs(self) -> Self:
        names = {tensor.name for tensor in self.outputs}
        if self.decision and not {self.decision.output, self.decision.by} <= names:
            raise ValueError("decision names an output that there is not")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [t.name for t in self.inputs] + [t.name for t in self.outputs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"tensors named twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _paddings_agree(self) -> Self:
        """One request has one padded length, so there is one list of buckets."""
        buckets = [tensor.padding.buckets for tensor in self.inputs if tensor.padding]
        if any(each != buckets[0] for each in buckets):
            raise ValueError("padded inputs have different buckets")
        if not buckets and any(tensor.padded_axis is not None for tensor in self.outputs):
            raise ValueError("padded_axis of an output without a padded input")
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_none(write(self), *OF_THE_TARGET)

    @property
    def batchable(self) -> bool:
        """Whether rows of several requests may share a run: every first dimension counts rows.

        Otherwise a request is one whole, and `max_rows` counts nothing in it.
        """
        shapes = [t.shape for t in self.inputs] + [t.shape for t in self.outputs]
        return all(shape[:1] == [-1] for shape in shapes)


def read_contract(source: Path | bytes) -> Contract:
    """Read `contract.json` from its path, or from bytes whose digest was checked."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    with refused("contract.json"):
        return parse_document(Contract, data)


def _check_axis(name: str, axis: int, shape: list[int]) -> None:
    if not 1 <= axis < len(shape) or shape[axis] != -1:
        raise ValueError(f"{name} must be a variable dimension after the first of {shape}")


def _drop_none(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leave out fields that say nothing, so that contracts without them keep their bytes."""
    return {key: value for key, value in fields.items() if key not in names or value is not None}
