"""Learn how callers ask, and answer requests of the same form without judging them again.

Most requests to one version differ in their numbers only. What is left of a body when the
numbers of its one input are cut out, its skeleton, is checked once by `v2` and `admission`; after
that, equal skeletons lead to the template that was made then, and only the numbers are new. JSON's
grammar makes that sound: an array in the place of another array leaves the rest as it was.
"""

import re
import warnings
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, final

import numpy as np
import orjson
import simdjson

from slipway.bundle.datatypes import DTYPES
from slipway.host.answer.call import Call
from slipway.host.request.admission import Prepared
from slipway.host.request.message import Array, Message
from slipway.host.wire.http.exchange import Body
from slipway.host.wire.http.v2 import AnswerFormat

TEMPLATES_MAX: Final = 256
"""Most forms of one version; all are forgotten when there are more."""

SKELETON_MAX: Final = 4096
"""Longest skeleton in bytes."""

DATA: Final = b'"data":'

NUMBERS: Final = {
    "FP32": ("d", np.dtype(np.float64)),
    "FP64": ("d", np.dtype(np.float64)),
    "INT64": ("i", np.dtype(np.int64)),
    "UINT64": ("u", np.dtype(np.uint64)),
}
"""What simdjson reads straight into memory, refusing all but such numbers."""


SPACE: Final = ord(" ")
BRACKET: Final = ord("[")


class AnswerTemplate:
    """What never changes in the answers to one form of request."""

    __slots__ = ("after", "before", "prefix", "shape", "start")

    def __init__(
        self, start: bytes, before: bytes, after: bytes, shape: tuple[int, ...], *, prefix: bytes
    ) -> None:
        self.start = start
        self.before = before
        self.after = after
        self.shape = shape
        self.prefix = prefix
        """All before the numbers, for a binary answer: its length never changes."""


@final
@dataclass(slots=True)
class RequestTemplate:
    """A form of request that was found good."""

    message: Message
    """All but the numbers."""
    format: AnswerFormat
    outputs: tuple[str, ...]
    name: str
    datatype: str
    shape: tuple[int, ...]
    rows: int
    group: tuple[int, ...]
    binary: bool
    dtype: np.dtype[Any]
    size: int
    """Of the numbers in their binary form, in bytes."""
    answer: AnswerTemplate | None = None
    binary_answer: bool = False
    """Whether that is of a binary answer."""

    def prepare(self, body: Body, start: int, end: int) -> Prepared | None:
        """Return the tensors of a body, or None if its numbers need a closer look."""
        if self.binary:
            if len(body) - start != self.size:
                return None
            values: Array = np.ndarray(self.shape, self.dtype, body, start)
        else:
            parsed = self._parse(body, start, end)
            if parsed is None:
                return None
            values = parsed
        return Prepared({self.name: values}, self.rows, self.group)

    def _parse(self, body: Body, start: int, end: int) -> Array | None:
        kind, dtype = NUMBERS[self.datatype]
        try:
            parsed: Any = _parse(body[start:end])
            values: Array = np.frombuffer(parsed.as_buffer(of_type=kind), dtype)
            if dtype != self.dtype:
                values = values.astype(self.dtype)
            return values.reshape(self.shape)
        except (ValueError, TypeError, RuntimeError, RuntimeWarning):
            # no number, a number too large for its type, or not as many as the shape asks for
            return None


Cut = tuple[bytes, int, int]
"""A body without its numbers, and where these begin and end; b"" if it has no such."""


NO_CUT: Final[Cut] = (b"", 0, 0)


def skeleton(body: Body, header_length: int | None) -> Cut:
    """Cut the numbers out of a body.

    The first `]` ends the array: a nested one or one with text in it is then no JSON array of
    numbers, and goes the long way.
    """
    if header_length is not None:
        if header_length > SKELETON_MAX or type(body) is not bytes:
            return NO_CUT
        return body[:header_length], header_length, len(body)
    start = body.find(DATA, 0, SKELETON_MAX) + len(DATA)
    if start < len(DATA) or len(body) < start + 2:
        return NO_CUT
    start += body[start] == SPACE
    end = body.find(b"]", start) + 1
    if body[start] != BRACKET or not end or start + len(body) - end > SKELETON_MAX:
        return NO_CUT
    return bytes(body[:start] + body[end:]), start, end


def refuse_overflow() -> None:
    """Have numpy raise where a number is too large for FP32: it warns once and goes on else.

    Such a request then goes the long way, whose answer names the input.
    """
    warnings.filterwarnings("error", "overflow", RuntimeWarning, re.escape(__name__))


def learn(call: Call, form: AnswerFormat, body: Body, cut: Cut) -> None:
    """Make a template of a request that was found good, if its form allows one.

    Kept only if it reads the very same numbers from the request that it was made of: so none is
    made where the numbers that were cut out are not the whole of the input, as with nested data
    or with JSON whose length a header gives.
    """
    key, start, end = cut
    message, prepared, loaded = call.message, call.prepared, call.loaded
    if not key or len(message.inputs) != 1 or prepared is None or loaded is None:
        return
    item = message.inputs[0]
    binary = not isinstance(item.data, list)
    if item.datatype in ("BYTES", "BOOL") or not (binary or item.datatype in NUMBERS):
        return
    dtype, count = DTYPES[item.datatype], prod(item.shape)  # type: ignore[index]  # checked
    template = RequestTemplate(
        message=replace(message, inputs=(replace(item, data=b""),)),
        format=form,
        outputs=call.outputs,
        name=item.name,
        datatype=item.datatype,
        shape=item.shape,
        rows=prepared.rows,
        group=prepared.group,
        binary=binary,
        dtype=dtype,
        size=count * dtype.itemsize,
    )
    again = template.prepare(body, start, end)
    if again is None or not _equal(again, prepared):
        return
    if len(loaded.templates) >= TEMPLATES_MAX:
        loaded.templates.clear()
    loaded.templates[key] = template


def _equal(one: Prepared, other: Prepared) -> bool:
    return all(one.inputs[name].tobytes() == other.inputs[name].tobytes() for name in one.inputs)


def write_values(values: Array, binary: bool) -> bytes:
    """Write an output's numbers alone."""
    if binary:
        return values.tobytes()
    return orjson.dumps(values.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)


_parse: Final = simdjson.Parser().parse
"""One parser for the event loop's thread. It refuses to read while an earlier document lives."""
