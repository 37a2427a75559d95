"""Inference over HTTP: from a request's body to the core, and from its outcome to a response."""

import logging
from collections.abc import Mapping
from math import prod
from random import random
from typing import Final

from slipway.bundle.datatypes import DTYPES
from slipway.host.answer.call import Begin, Call, Loaded, Outcome, Serving
from slipway.host.answer.core import Core, make_outcome, name_request
from slipway.host.engine.job import Job
from slipway.host.guard.caller import Caller
from slipway.host.request.admission import pick_outputs, prepare
from slipway.host.request.message import Answer, Array, InputData, Message
from slipway.host.request.refusal import FAILED, RequestRefused, bad_request
from slipway.host.wire.compression import unpack
from slipway.host.wire.http.exchange import (
    Body,
    Head,
    Limits,
    Respond,
    Response,
    Written,
    refuse,
)
from slipway.host.wire.http.templates import (
    Plan,
    Template,
    learn,
    refuse_overflow,
    skeleton,
    write_values,
)
from slipway.host.wire.http.v2 import Form, read_message, render_answer
from slipway.store.split import takes_candidate

log = logging.getLogger(__name__)

VERSION_HEADER: Final = b"Slipway-Version"
HEADER_LENGTH: Final = b"inference-header-content-length"
JSON: Final = b"application/json"
BINARY: Final = b"application/octet-stream"
CHEAP: Final = 4096
"""Bytes up to which reading a body costs less than asking beforehand whether there is room."""

AFTER: Final = b"}]}"
"""What follows the numbers of the last output."""


class Asked:
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

    def handle(self, asked: Asked, head: Head, body: Body, respond: Respond) -> Job | None:
        """Answer one request."""
        core = self._core
        call = Call(asked.model, asked.version, NOTHING, None, asked.key, asked.caller)
        call.respond = respond
        call.reply = reply
        if self._begin is not None:
            call.trace = self._begin(head.headers)
        try:
            serving = core.models.get(asked.model) or core.find(asked.model)
            undecided = False
            if serving.stable is None or asked.version is not None:
                call.loaded, call.shadow = core.route(call)
            elif serving.candidate is None:
                call.loaded = serving.stable
            elif asked.key is not None or asked.caller.id:
                call.loaded, call.shadow = core.route(call)
            else:
                call.loaded, undecided = serving.stable, True
            if len(body) > CHEAP and call.loaded.engine.full:
                raise RequestRefused("queue_full", "too many requests are waiting; try again")
            if asked.encoding != b"identity":
                body = unpack(body, asked.encoding, self._body_bytes)
            self._read(call, call.loaded, body, asked.header_length)
            if undecided:
                self._split(call, serving, body, asked.header_length)
        except RequestRefused as refusal:
            core.refuse(call, refusal)
            return None
        return core.submit(call)

    def _split(self, call: Call, serving: Serving, body: Body, header_length: int | None) -> None:
        """Choose for a caller without a key, by the request's own id, which had to be read.

        Where there is none, chance says what the hash of a made-up one would, and sooner.
        """
        candidate, stable, request_id = serving.candidate, serving.stable, call.message.id
        assert candidate is not None
        assert stable is not None
        if request_id:
            chosen = takes_candidate(candidate.version, request_id, serving.percent)
        else:
            chosen = random() * 100 < serving.percent  # noqa: S311  no secret
        if not chosen:
            return
        if serving.mode == "canary":
            call.loaded = candidate
        else:
            call.shadow = candidate  # and now the whole message is needed
        self._read(call, call.loaded or stable, body, header_length)

    def _read(self, call: Call, loaded: Loaded, body: Body, header_length: int | None) -> None:
        """Fill in the message and its tensors, by a plan if there is one."""
        key, start, end = b"", 0, 0
        if call.shadow is None and header_length != 0:
            key, start, end = skeleton(body, header_length)
            plan: Plan | None = loaded.plans.get(key)
            if plan is not None and plan.binary == (header_length is not None):
                prepared = plan.prepare(body, start, end)
                if prepared is not None:
                    call.message, call.outputs, call.prepared = plan.message, plan.outputs, prepared
                    call.request_id = plan.message.id
                    call.form = plan
                    return
        if header_length == 0:
            message, form = _raw_message(body, loaded)
        else:
            message, form = read_message(body, header_length, call.model)
        call.message, call.request_id = message, message.id
        call.outputs = pick_outputs(message, loaded.contract)
        call.prepared = prepare(message, loaded.contract)
        call.form = form
        if call.shadow is None:
            learn(loaded, key, message, form, call.prepared, call.outputs, body, start, end)


NOTHING: Final = Message(None, (), ())
"""Until the body is read."""


def reply(call: Call, result: Mapping[str, Array] | RequestRefused) -> None:
    """Send what became of a call; a value that cannot be written is the model's fault."""
    respond, form = call.respond, call.form
    if isinstance(result, RequestRefused):
        version = call.loaded.version if call.loaded else None
        headers = ((VERSION_HEADER, version.encode()),) if version else ()
        respond(refuse(result, name_request(call), headers))
        return
    response: Response | Written
    try:
        if type(form) is Plan:
            response = _planned(call, form, result)
        else:
            response = _response(make_outcome(call, result), form)
    except Exception:
        log.exception("an answer could not be written", extra={"request_id": name_request(call)})
        response = refuse(RequestRefused("model_failed", FAILED), name_request(call))
    respond(response)


def _planned(call: Call, plan: Plan, result: Mapping[str, Array]) -> Response | Written:
    """Write an answer into the plan's template."""
    template = plan.template
    if template is not None:
        values = result[plan.outputs[0]]
        if values.shape == template.shape:
            if plan.binary_answer:  # of equal length each time
                return template.prefix + values.tobytes()
            data = write_values(values, False)
            before, after = template.before, template.after
            length = len(before) + len(data) + len(after)
            return b"%b%d\r\n\r\n%b%b%b" % (template.start, length, before, data, after)
    outcome = make_outcome(call, result)
    response = _response(outcome, plan.form)
    plan.template = _template(outcome, plan.form, response)
    plan.binary_answer = plan.template is not None and not plan.template.after
    return response


def _response(outcome: Outcome, form: Form) -> Response:
    answer = outcome.result
    assert isinstance(answer, Answer)
    body, header_length = render_answer(answer, form)
    start = _start(answer.version.encode(), header_length)
    return Response(200, body, start=start)


def _start(version: bytes, header_length: int | None) -> bytes:
    """Write the head of an answer up to its length, which comes last."""
    lines = [
        b"HTTP/1.1 200 OK",
        b"Content-Type: " + (JSON if header_length is None else BINARY),
        b"%b: %b" % (VERSION_HEADER, version),
    ]
    if header_length is not None:
        lines.append(b"Inference-Header-Content-Length: %d" % header_length)
    return b"\r\n".join((*lines, b"Content-Length: "))


def _template(outcome: Outcome, form: Form, response: Response) -> Template | None:
    """Find the numbers of the one output in its answer; what stands around them is the template."""
    answer = outcome.result
    assert isinstance(answer, Answer)
    if len(answer.outputs) != 1 or answer.outputs[0].datatype in ("BYTES", "FP16", "BF16"):
        return None
    output = answer.outputs[0]
    binary = form.wants(output.name)
    data = write_values(output.values, binary)
    after = b"" if binary else AFTER
    before = response.body[: len(response.body) - len(after) - len(data)]
    if before + data + after != response.body:
        return None
    prefix = b"%b%d\r\n\r\n%b" % (response.start, len(response.body), before)
    return Template(response.start, before, after, output.values.shape, prefix)


def _raw_message(body: Body, loaded: Loaded) -> tuple[Message, Form]:
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
    return Message(None, (item,), ()), Form(binary=True)


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
