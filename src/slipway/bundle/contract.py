"""What a model takes and gives: `contract.json`, the host's rule for judging requests.

Every input of the default pipelines holds one value per row. A category is a UTF-8 string:
JSON null and "" mean missing, a string outside `categories` is answered as unknown. A number
is FP32: JSON null and NaN mean missing, and the graph replaces it by the training mean.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.bundle.format import Document, parse_document, refused

Datatype = Literal["BYTES", "BOOL", "FP32", "FP64", "INT32", "INT64"]
"""Datatypes of the Open Inference Protocol that a bundle's tensors may have."""

Dimension = Annotated[int, Field(ge=-1)]


class InputTensor(Document):
    """One raw feature column; preprocessing is inside the graph."""

    name: Annotated[str, Field(min_length=1)]
    """The tensor's name, which is the column's."""
    datatype: Datatype
    """BYTES for categories, FP32 for numbers."""
    shape: list[Dimension]
    """[-1]: one value per row."""
    kind: Literal["category", "number"]
    """How its values are read."""
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
    """The interval that every answer lies in."""


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
    """The exported form that this bundle holds."""
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

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [t.name for t in self.inputs] + [t.name for t in self.outputs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"tensors named twice: {', '.join(twice)}")
        return self


def read_contract(source: Path | bytes) -> Contract:
    """Read `contract.json` from its path, or from bytes whose digest was checked."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    with refused("contract.json"):
        return parse_document(Contract, data)
