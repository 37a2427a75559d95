"""Check a message against a model's contract and make the session's tensors of it.

The graph is never asked to judge a request: what it would crash on, broadcast or quietly
convert is refused here, with the input's name and what was expected. Whatever encoding
brought the values, the verdict is the same.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from slipway.bundle.contract import Contract, InputTensor, OutputTensor
from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers, float_to_bf16
from slipway.host.binary import decode
from slipway.host.message import Array, InputData, Message
from slipway.host.refusal import RequestRefused, bad_request, quote

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
    given = {item.name: item for item in message.inputs}
    known = {tensor.name for tensor in contract.inputs}
    if unknown := [name for name in given if name not in known]:
        raise bad_request(f"unknown input {quote(unknown[0])}; the model has {_names(contract)}")
    if missing := [t.name for t in contract.inputs if t.name not in given]:
        raise bad_request(f"missing input {quote(missing[0])}; the model has {_names(contract)}")
    prepared = Prepared({}, 0, ())
    for tensor in contract.inputs:
        item = given[tensor.name]
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


def make_admission(contract: Contract) -> Callable[[Mapping[str, Array]], RequestRefused | None]:
    """Return the check of a whole batch's values: no session sees one that is not finite.

    One pass over a batch costs as much as over one row. A missing number is NaN by contract.
    """
    checks = [
        (tensor.name, tensor.datatype, np.isfinite if tensor.kind == "tensor" else _no_infinity)
        for tensor in contract.inputs
        if tensor.datatype in FLOATS
    ]

    def admit(inputs: Mapping[str, Array]) -> RequestRefused | None:
        for name, datatype, check in checks:
            if not check(as_numbers(inputs[name], datatype)).all():
                what = f"must be finite and fit {datatype}"
                return bad_request(f"input {quote(name)}: every value {what}")
        return None

    return admit


def _no_infinity(values: Array) -> Array:
    return np.isinf(values) ^ True


class Checked:
    """A runner whose outputs are what the contract promises, or an error.

    Checked once per batch; the engine then finds the row that caused it. JSON has no NaN,
    and a null or a string in its place would be taken for an answer.
    """

    def __init__(self, runner: Any, contract: Contract) -> None:
        self._runner = runner
        self._batchable = contract.batchable
        self._promises = [_Promise.of(tensor) for tensor in contract.outputs]

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Run a batch."""
        align(inputs)
        return self._check(self._runner.run(inputs), inputs)

    def run_alone(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Run a batch while nothing else wants the machine."""
        align(inputs)
        return self._check(self._runner.run_alone(inputs), inputs)

    def close(self) -> None:
        """Let go of the session."""
        self._runner.close()

    def _check(
        self, outputs: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        rows = len(next(iter(inputs.values()))) if self._batchable else None
        for promise in self._promises:
            values = outputs[promise.name]
            if not promise.fits(values, rows):
                raise RequestRefused("model_failed", f"output {quote(promise.name)} is misshapen")
            if promise.datatype in FLOATS and not _finite(values, promise.datatype):
                raise RequestRefused(
                    "non_finite_output",
                    f"output {quote(promise.name)} holds a value that is not finite",
                )
        return outputs


@dataclass(frozen=True, slots=True)
class _Promise:
    """What one output must be, in the form that is quick to compare."""

    name: str
    datatype: Datatype
    dtype: np.dtype[Any]
    fixed: tuple[tuple[int, int], ...]
    """Dimension and its size, for those that are fixed by the contract."""
    rank: int

    @classmethod
    def of(cls, tensor: OutputTensor) -> "_Promise":
        """Read it from the contract."""
        fixed = [(n, dim) for n, dim in enumerate(tensor.shape) if dim != -1]
        dtype = DTYPES[tensor.datatype]
        return cls(tensor.name, tensor.datatype, dtype, tuple(fixed), len(tensor.shape))

    def fits(self, values: Array, rows: int | None) -> bool:
        """Compare; where rows are counted, the first dimension must count them."""
        shape = values.shape
        if len(shape) != self.rank or (rows is not None and shape[0] != rows):
            return False
        if values.dtype != self.dtype and values.dtype.kind not in "OU":
            return False
        return all(shape[n] == dim for n, dim in self.fixed)


def _finite(values: Array, datatype: Datatype) -> bool:
    return bool(np.isfinite(as_numbers(values, datatype)).all())


def align(inputs: dict[str, Array]) -> None:
    """Copy what lies at an odd address, as a tensor inside a request's bytes may."""
    for name, values in inputs.items():
        if not values.flags.aligned:
            inputs[name] = values.copy()


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
