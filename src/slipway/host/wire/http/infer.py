"""The way in of an inference over HTTP: from a request's head and body to the core."""

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Final

from slipway.bundle.datatypes import DTYPES
from slipway.host.answer.call import Begin, Call, Loaded
from slipway.host.answer.core import Core
from slipway.host.answer.split import settle
from slipway.host.engine.job import Job
from slipway.host.guard.caller import Caller
from slipway.host.request.admission import pick_outputs, prepare
from slipway.host.request.message import InputData, Message
from slipway.host.request.refusal import RequestRefused, bad_request
from slipway.host.wire.compression import unpack
from slipway.host.wire.http.exchange import Body, Head, Limits, Respond
from slipway.host.wire.http.reply import BINARY, JSON, Form, reply
from slipway.host.wire.http.templates import (
    NO_CUT,
    RequestTemplate,
    learn,
    refuse_overflow,
    skeleton,
)
from slipway.host.wire.http.v2 import AnswerFormat, read_message

HEADER_LENGTH: Final = b"inference-header-content-length"
CHEAP: Final = 4096
"""Bytes up to which reading a body costs less than asking beforehand whether there is room."""


class InferHead:
    """What a head says about an inference; judged once per head."""

    __slots__ = ("caller", "encoding", "header_length", "key", "model", "version")

    def __init__(self, head: Head, names: Mapping[str, str], caller: Caller) -> None:
        headers = head.headers
        self.model = names["model"]
        self.version = names.get("version")
        self.caller = caller
        key = headers.get(b"slipway-key")
        self.key = key.decode("latin-1") if key is not None else None
        self.encoding = headers.get(b"content-encoding", b"identity")
        self.header_length = _header_length(headers)


class Infer:
    """The one route that does the work."""

    def __init__(self, core: Core, limits: Limits, begin: Begin | None) -> None:
        self._core = core
        self._body_bytes = limits.body_bytes
        self._begin = begin
        """Begins a trace; None without tracing."""
        refuse_overflow()

    def handle(self, asked: InferHead, head: Head, body: Body, respond: Respond) -> Job | None:
        """Answer one request."""
        core = self._core
        call = Call(asked.model, asked.version, NOTHING)
        call.key, call.caller = asked.key, asked.caller
        if self._begin is not None:
            call.trace = self._begin(head.headers)
        try:
            loaded = core.route(call)
            if len(body) > CHEAP and loaded.engine.full:
                raise RequestRefused("queue_full", "too many requests are waiting; try again")
            if asked.encoding != b"identity":
                body = unpack(body, asked.encoding, self._body_bytes)
            form = _read(call, loaded, body, asked.header_length)
            if call.undecided is not None and settle(call):
                form = _read(call, call.loaded or loaded, body, asked.header_length)
        except RequestRefused as refusal:
            call.reply = partial(reply, respond, None)
            core.refuse(call, refusal)
            return None
        call.reply = partial(reply, respond, form)
        return core.submit(call)


NOTHING: Final = Message(None, (), ())
"""Until the body is read."""


def _read(call: Call, loaded: Loaded, body: Body, header_length: int | None) -> Form:
    """Fill in the message and its tensors, by a template if there is one; return what it was."""
    cut = NO_CUT
    if call.shadow is None and header_length != 0:
        key, start, end = cut = skeleton(body, header_length)
        template = loaded.templates.get(key)
        if type(template) is RequestTemplate and template.binary == (header_length is not None):
            prepared = template.prepare(body, start, end)
            if prepared is not None:
                message = call.message = template.message
                call.request_id, call.outputs = message.id, template.outputs
                call.prepared = prepared
                return template
    if header_length == 0:
        message, form = _raw_message(body, loaded)
    else:
        message, form = read_message(body, header_length, call.model)
    call.message, call.request_id = message, message.id
    call.outputs = pick_outputs(message, loaded.contract)
    call.prepared = prepare(message, loaded.contract)
    if call.shadow is None:
        learn(call, form, body, cut)
    return form


def _raw_message(body: Body, loaded: Loaded) -> tuple[Message, AnswerFormat]:
    """Read a raw request: all of the body is the one input of a batch of one."""
    tensors = loaded.contract.inputs
    if len(tensors) != 1:
        raise bad_request("a raw request needs a model with one input")
    tensor = tensors[0]
    shape = [1 if n == 0 and dim == -1 else dim for n, dim in enumerate(tensor.shape)]
    if shape.count(-1) > 1:
        raise bad_request("a raw request needs an input with at most one variable dimension")
    data: bytes | memoryview = memoryview(body)
    if tensor.datatype == "BYTES":
        data = len(body).to_bytes(4, "little") + bytes(body)
        shape = [1 if dim == -1 else dim for dim in shape]
    elif -1 in shape:
        known = prod(dim for dim in shape if dim != -1)
        size = known * DTYPES[tensor.datatype].itemsize
        shape[shape.index(-1)] = len(body) // max(size, 1)
    item = InputData(tensor.name, tensor.datatype, tuple(shape), data)
    return Message(None, (item,), ()), AnswerFormat(binary=True)


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Return the length of the JSON before binary tensors, or None for JSON alone.

    Without a length all is JSON, also as octet-stream: tritonclient's `aio` sends it so.
    A type that a browser sends without asking (text/plain, a form) is refused, so no page of
    another site can use a reader's access to this host.
    """
    media = headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
    if media not in (JSON, BINARY):
        raise RequestRefused("unsupported_media_type", "send application/json or octet-stream")
    text = headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 10:
        raise bad_request("Inference-Header-Content-Length must be a whole number")
    return int(text)
