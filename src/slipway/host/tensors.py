"""Check a message against a model's contract and make the session's tensors of it.

The graph is never asked to judge a request: what it would crash on, broadcast or quietly
convert is refused here, with the input's name and what was expected.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from slipway.bundle.contract import Contract, InputTensor, OutputTensor
from slipway.host.message import Array, InputData, Message, OutputData
from slipway.host.refusal import RequestRefused, bad_request, quote

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}

JSON_TYPES: Final[Mapping[str, frozenset[type]]] = {
    "BOOL": frozenset({bool}),
    "INT32": frozenset({int}),
    "INT64": frozenset({int}),
    "FP32": frozenset({int, float}),
    "FP64": frozenset({int, float}),
    "BYTES": frozenset({str}),
}
"""What an element may be. Exact types: in Python True is an int, in JSON it is not."""

TYPE_WORDS: Final[Mapping[str, str]] = {
    "BOOL": "true or false",
    "INT32": "whole numbers",
    "INT64": "whole numbers",
    "FP32": "numbers",
    "FP64": "numbers",
    "BYTES": "strings",
}

CATEGORY_CHARACTERS_MAX: Final = 1024
"""Longer strings are in no vocabulary; they would only be copied about."""


def make_tensors(message: Message, contract: Contract) -> dict[str, Array]:
    """Return the session's inputs; raise RequestRefused where message and contract differ."""
    given = {item.name: item for item in message.inputs}
    known = {tensor.name for tensor in contract.inputs}
    if unknown := [name for name in given if name not in known]:
        raise bad_request(f"unknown input {quote(unknown[0])}; the model has {_names(contract)}")
    if missing := [t.name for t in contract.inputs if t.name not in given]:
        raise bad_request(f"missing input {quote(missing[0])}; the model has {_names(contract)}")
    rows: int | None = None
    tensors: dict[str, Array] = {}
    for tensor in contract.inputs:
        item = given[tensor.name]
        rows = _check_shape(item, tensor, contract.max_rows, rows)
        tensors[tensor.name] = _values(item, tensor)
    return tensors


def pick_outputs(message: Message, contract: Contract) -> tuple[str, ...]:
    """Return the names of the outputs to answer with: those asked for, or all."""
    known = [tensor.name for tensor in contract.outputs]
    for name in message.outputs:
        if name not in known:
            raise bad_request(f"unknown output {quote(name)}; the model has {known}")
    return message.outputs or tuple(known)


def check_outputs(
    raw: Mapping[str, Array], names: tuple[str, ...], contract: Contract, rows: int
) -> tuple[OutputData, ...]:
    """Return what the model gave, refused unless it is what the contract promises.

    JSON has no NaN, and a null or a string in its place would be taken for an answer.
    """
    tensors = {tensor.name: tensor for tensor in contract.outputs}
    outputs = []
    for name in names:
        values = raw[name]
        tensor = tensors[name]
        if values.dtype != DTYPES[tensor.datatype] or not _matches(values.shape, tensor, rows):
            raise RequestRefused("model_failed", f"output {quote(name)} breaks the contract")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise RequestRefused(
                "non_finite_output", f"output {quote(name)} holds a value that is not finite"
            )
        outputs.append(OutputData(name, tensor.datatype, values))
    return tuple(outputs)


def _matches(shape: tuple[int, ...], tensor: OutputTensor, rows: int) -> bool:
    """Compare with the contract, in which the first variable dimension counts the rows."""
    expected = [rows if n == 0 and dim == -1 else dim for n, dim in enumerate(tensor.shape)]
    return len(shape) == len(expected) and all(
        want in (-1, got) for want, got in zip(expected, shape, strict=True)
    )


def _names(contract: Contract) -> str:
    return str([tensor.name for tensor in contract.inputs])


def _check_shape(item: InputData, tensor: InputTensor, max_rows: int, rows: int | None) -> int:
    """Return the number of rows, which is the first dimension.

    Every dimension is held to the contract before any is multiplied or allocated.
    """
    where = f"input {quote(item.name)}"
    if item.datatype != tensor.datatype:
        raise bad_request(f"{where}: datatype must be {tensor.datatype}")
    if len(item.shape) != len(tensor.shape):
        raise bad_request(f"{where}: shape must be {tensor.shape} (-1: any), got another rank")
    if any(d not in (-1, got) for d, got in zip(tensor.shape, item.shape, strict=True)):
        raise bad_request(f"{where}: shape must be {tensor.shape} (-1: any)")
    count = item.shape[0] if item.shape else 1
    if not 0 < count <= max_rows or any(dim > max_rows for dim in _free(item, tensor)):
        raise bad_request(f"{where}: a request carries 1 to {max_rows} rows")
    if rows is not None and count != rows:
        raise bad_request(f"{where}: has {count} rows where other inputs have {rows}")
    return count


def _free(item: InputData, tensor: InputTensor) -> list[int]:
    return [got for d, got in zip(tensor.shape, item.shape, strict=True) if d == -1]


def _values(item: InputData, tensor: InputTensor) -> Array:
    """Convert the data; one pass over the elements' types, the rest at numpy's speed."""
    where = f"input {quote(item.name)}"
    flat = _flatten(item, where)
    if len(flat) != (size := math.prod(item.shape)):
        raise bad_request(f"{where}: shape asks for {size} values, data has {len(flat)}")
    kinds = set(map(type, flat))
    nullable = tensor.datatype in ("BYTES", "FP32", "FP64")
    if wrong := kinds - JSON_TYPES[tensor.datatype] - ({type(None)} if nullable else set()):
        got = "a list" if list in wrong else "null" if type(None) in wrong else "another type"
        raise bad_request(f"{where}: data must be {TYPE_WORDS[tensor.datatype]}, got {got}")
    if tensor.datatype == "BYTES":
        return _text(flat, tensor, where).reshape(item.shape)
    return _numbers(flat, tensor, where).reshape(item.shape)


def _flatten(item: InputData, where: str) -> list[Any]:
    """Return the data flat; nested data must have exactly the shape's form."""
    level = item.data
    if len(item.shape) < 2 or not level or type(level[0]) is not list:
        return level
    ragged = len(level) != item.shape[0]
    for length in item.shape[1:]:
        ragged = ragged or any(type(row) is not list or len(row) != length for row in level)
        if ragged:
            raise bad_request(f"{where}: nested data does not have the form of its shape")
        level = [value for row in level for value in row]
    return level


def _numbers(flat: list[Any], tensor: InputTensor, where: str) -> Array:
    """Convert numbers, null to NaN; refuse what the datatype cannot hold."""
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        fits = all(limits.min <= value <= limits.max for value in flat)
        values = np.array(flat if fits else [], dtype=dtype)
    else:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
            values = np.array(flat, dtype=np.float64).astype(dtype)
        fits = not np.isinf(values).any()
    if not fits:
        raise bad_request(f"{where}: a value does not fit {tensor.datatype}")
    return values


def _text(flat: list[Any], tensor: InputTensor, where: str) -> Array:
    """Convert strings, null to "": both mean missing."""
    values = [value or "" for value in flat]
    if any(len(value) > CATEGORY_CHARACTERS_MAX for value in values):
        raise bad_request(f"{where}: a string has over {CATEGORY_CHARACTERS_MAX} characters")
    if tensor.categories is not None and tensor.unknown is None:
        known = {*tensor.categories, ""}
        if unknown := [value for value in values if value not in known]:
            raise bad_request(f"{where}: unknown category {quote(unknown[0])}")
    return np.array(values, dtype=object)
