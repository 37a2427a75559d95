"""Check a message against a model's contract and make the session's tensors of it.

The graph is never asked to judge a request: what it would crash on, broadcast or quietly
convert is refused here, with the input's name and what was expected. Whatever encoding
brought the values, the verdict is the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from slipway.bundle.contract import Contract, InputTensor
from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers, float_to_bf16
from slipway.host.request.binary import decode
from slipway.host.request.message import Array, InputData, Message
from slipway.host.request.refusal import bad_request, quote

WHOLE: Final = frozenset({int})
NUMBERS: Final = frozenset({int, float})

JSON_TYPES: Final[Mapping[str, tuple[frozenset[type], str]]] = {
    "BOOL": (frozenset({bool}), "true or false"),
    "BYTES": (frozenset({str}), "strings"),
    **dict.fromkeys(FLOATS, (NUMBERS, "numbers")),
    **dict.fromkeys(DTYPES.keys() - FLOATS - {"BOOL", "BYTES"}, (WHOLE, "whole numbers")),
}
"""What an element may be, and its name. Exact types: in Python True is an int, in JSON not."""

CATEGORY_CHARACTERS_MAX: Final = 1024
"""Longer strings are in no vocabulary; they would only be copied about."""


@dataclass(slots=True)
class Prepared:
    """What a session takes."""

    inputs: dict[str, Array]
    rows: int
    """Length of the first dimension; 1 for a model that does not take rows."""
    group: tuple[int, ...]
    """The sizes of the other variable dimensions: only equal ones can be one batch."""


def prepare(message: Message, contract: Contract) -> Prepared:
    """Return the session's inputs; raise RequestRefused where message and contract differ."""
    inputs = {item.name: item for item in message.inputs}
    known = {tensor.name for tensor in contract.inputs}
    if unknown := [name for name in inputs if name not in known]:
        raise bad_request(f"unknown input {quote(unknown[0])}; the model has {_names(contract)}")
    if missing := [t.name for t in contract.inputs if t.name not in inputs]:
        raise bad_request(f"missing input {quote(missing[0])}; the model has {_names(contract)}")
    prepared = Prepared({}, 0, ())
    for tensor in contract.inputs:
        item = inputs[tensor.name]
        check_shape(item, tensor, contract, prepared)
        prepared.inputs[tensor.name] = _values(item, tensor).reshape(item.shape)
    return prepared


def pick_outputs(message: Message, contract: Contract) -> tuple[str, ...]:
    """Return the names of the outputs to answer with: those asked for, or all."""
    known = tuple(tensor.name for tensor in contract.outputs)
    for name in message.outputs:
        if name not in known:
            raise bad_request(f"unknown output {quote(name)}; the model has {list(known)}")
    return message.outputs or known


def check_shape(
    item: InputData, tensor: InputTensor, contract: Contract, prepared: Prepared
) -> None:
    """Hold every dimension to the contract before any is multiplied; note rows and group."""
    where = f"input {quote(item.name)}"
    if item.datatype != tensor.datatype:
        raise bad_request(f"{where}: datatype must be {tensor.datatype}")
    if len(item.shape) != len(tensor.shape):
        raise bad_request(f"{where}: shape must be {tensor.shape} (-1: any), got another rank")
    if any(d not in (-1, got) for d, got in zip(tensor.shape, item.shape, strict=True)):
        raise bad_request(f"{where}: shape must be {tensor.shape} (-1: any)")
    rows = item.shape[0] if contract.batchable else 1
    if not 0 < rows <= contract.max_rows:
        raise bad_request(f"{where}: a request carries 1 to {contract.max_rows} rows")
    if prepared.rows not in (0, rows):
        raise bad_request(f"{where}: has {rows} rows where other inputs have {prepared.rows}")
    if 0 in item.shape:
        raise bad_request(f"{where}: no dimension may be 0")
    axis = 1 if contract.batchable else 0
    free = [n for d, n in zip(tensor.shape[axis:], item.shape[axis:], strict=True) if d == -1]
    if tensor.padding and free and item.shape[tensor.padding.axis] > tensor.padding.buckets[-1]:
        raise bad_request(f"{where}: is longer than {tensor.padding.buckets[-1]}")
    prepared.rows = rows
    prepared.group += tuple(free)


def _names(contract: Contract) -> str:
    return str([tensor.name for tensor in contract.inputs])


def _values(item: InputData, tensor: InputTensor) -> Array:
    """Return the values, flat, of whatever encoding they came in."""
    where = f"input {quote(item.name)}"
    size = math.prod(item.shape)
    if isinstance(item.data, list):
        values = _from_json(item, tensor, size, where)
    elif isinstance(item.data, np.ndarray):
        if item.data.size != size:
            raise bad_request(f"{where}: shape asks for {size} values, got {item.data.size}")
        values = item.data
    else:
        try:
            values = decode(item.data, tensor.datatype, size)
        except ValueError as error:
            raise bad_request(f"{where}: {error}") from None
    if tensor.datatype == "BYTES" and tensor.kind == "category":
        _check_categories(values, tensor, where)
    return values


def _from_json(item: InputData, tensor: InputTensor, size: int, where: str) -> Array:
    """Convert JSON; one pass over the elements' types, the rest at numpy's speed."""
    flat = _flatten(item, where)
    if len(flat) != size:
        raise bad_request(f"{where}: shape asks for {size} values, data has {len(flat)}")
    kinds = set(map(type, flat))
    allowed, words = JSON_TYPES[tensor.datatype]
    nullable = tensor.kind != "tensor" and tensor.datatype in (*FLOATS, "BYTES")
    if wrong := kinds - allowed - ({type(None)} if nullable else set()):
        got = "a list" if list in wrong else "null" if type(None) in wrong else "another type"
        raise bad_request(f"{where}: data must be {words}, got {got}")
    if tensor.datatype == "BYTES":
        return np.array([value or "" for value in flat], dtype=object)
    return _numbers(flat, tensor.datatype, where)


def _flatten(item: InputData, where: str) -> list[Any]:
    """Return the data flat; nested data must have exactly the shape's form."""
    level: list[Any] = item.data  # type: ignore[assignment]  # asked before
    if len(item.shape) < 2 or not level or type(level[0]) is not list:
        return level
    ragged = len(level) != item.shape[0]
    for length in item.shape[1:]:
        ragged = ragged or any(type(row) is not list or len(row) != length for row in level)
        if ragged:
            raise bad_request(f"{where}: nested data does not have the form of its shape")
        level = [value for row in level for value in row]
    return level


def _numbers(flat: list[Any], datatype: Datatype, where: str) -> Array:
    """Convert numbers, null to NaN; refuse what the datatype cannot hold."""
    dtype = DTYPES[datatype]
    if datatype not in FLOATS:
        whole = datatype != "BOOL"
        limits = np.iinfo(dtype) if whole else None
        fits = not limits or all(limits.min <= value <= limits.max for value in flat)
        values = np.array(flat if fits else [], dtype=dtype)
    else:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
            wide = np.array(flat, dtype=np.float64)
            values = float_to_bf16(wide) if datatype == "BF16" else wide.astype(dtype)
        fits = not np.isinf(as_numbers(values, datatype)).any()
    if not fits:
        raise bad_request(f"{where}: a value does not fit {datatype}")
    return values


def _check_categories(values: Array, tensor: InputTensor, where: str) -> None:
    if any(len(value) > CATEGORY_CHARACTERS_MAX for value in values):
        raise bad_request(f"{where}: a string has over {CATEGORY_CHARACTERS_MAX} characters")
    if tensor.categories is not None and tensor.unknown is None:
        known = {*tensor.categories, ""}
        if unknown := [value for value in values if value not in known]:
            raise bad_request(f"{where}: unknown category {quote(unknown[0])}")
