"""The way out: from what became of a call to a response, in the form that its caller wants."""

import logging
from collections.abc import Mapping
from typing import Final

from slipway.host.answer.call import Call, Result
from slipway.host.answer.core import make_answer
from slipway.host.request.message import Answer, Array
from slipway.host.request.refusal import FAILED, RequestRefused
from slipway.host.wire.http.exchange import Respond, Response, Written, refuse
from slipway.host.wire.http.templates import AnswerTemplate, RequestTemplate, write_values
from slipway.host.wire.http.v2 import AnswerFormat, render_answer

log = logging.getLogger(__name__)

VERSION_HEADER: Final = b"Slipway-Version"
JSON: Final = b"application/json"
BINARY: Final = b"application/octet-stream"

AFTER: Final = b"}]}"
"""What follows the numbers of the last output."""


Form = RequestTemplate | AnswerFormat | None
"""How a request came, and so how its answer goes; None as long as its body is not read."""


def reply(respond: Respond, form: Form, call: Call, result: Result) -> None:
    """Send what became of a call; a value that cannot be written is the model's fault."""
    if isinstance(result, RequestRefused):
        version = call.loaded.version if call.loaded else None
        headers = ((VERSION_HEADER, version.encode()),) if version else ()
        respond(refuse(result, call.name(), headers))
        return
    response: Response | Written
    try:
        if type(form) is not RequestTemplate:
            response = _respond(make_answer(call, result), form)
        elif (template := form.answer) is None or (
            values := result[form.outputs[0]]
        ).shape != template.shape:
            response = _answer_first(call, form, result)
        elif form.binary_answer:  # of equal length each time
            response = template.prefix + values.tobytes()
        else:
            data = write_values(values, False)
            before, after = template.before, template.after
            length = len(before) + len(data) + len(after)
            response = b"%b%d\r\n\r\n%b%b%b" % (template.start, length, before, data, after)
    except Exception:
        log.exception("an answer could not be written", extra={"request_id": call.name()})
        response = refuse(RequestRefused("model_failed", FAILED), call.name())
    respond(response)


def _answer_first(call: Call, known: RequestTemplate, outputs: Mapping[str, Array]) -> Response:
    """Write the first answer to a form of request, and keep what all of them have in common."""
    answer = make_answer(call, outputs)
    response = _respond(answer, known.format)
    known.answer = _make_template(answer, known.format, response)
    known.binary_answer = known.answer is not None and not known.answer.after
    return response


def _respond(answer: Answer, form: AnswerFormat | None) -> Response:
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


def _make_template(answer: Answer, form: AnswerFormat, response: Response) -> AnswerTemplate | None:
    """Find the numbers of the one output in its answer; what stands around them is the template."""
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
    return AnswerTemplate(response.start, before, after, output.values.shape, prefix=prefix)
