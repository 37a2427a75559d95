"""ModelInfer: from its request to the core, and from the outcome to its response."""

import logging
from functools import partial
from typing import Any, Final

from slipway.host.answer.call import Begin, Call, Result
from slipway.host.answer.core import Core, make_answer
from slipway.host.request.refusal import FAILED, RequestRefused
from slipway.host.wire.grpc.convert import read_message, render_answer
from slipway.host.wire.grpc.schema import message_class, parse
from slipway.host.wire.grpc.stream import Stream

log = logging.getLogger(__name__)

Request: Final = message_class("ModelInferRequest")


class Inference:
    """The one method that runs a model."""

    def __init__(self, core: Core, begin: Begin | None = None) -> None:
        self._core = core
        self._begin = begin

    def infer(self, stream: Stream, body: bytes) -> None:
        """Answer one request; its place is free again when the client goes away."""
        request = parse(Request, body)
        stream.head.permit("infer", request.model_name)
        call = self._read(stream, request)
        raw = bool(request.raw_input_contents)
        call.reply = partial(_reply, stream, raw)
        stream.work = self._core.submit(call)

    def _read(self, stream: Stream, request: Any) -> Call:
        """Make a call of a request; one that names a model and is malformed is counted there."""
        model, head = request.model_name, stream.head
        try:
            self._core.find(model)
            if request.model_version:
                self._core.find_version(model, request.model_version)
            message = read_message(request, head.timeout_s)
        except RequestRefused as refusal:
            self._core.count_refusal(model, refusal)
            raise
        call = Call(
            model=model,
            version=request.model_version or None,
            message=message,
            request_id=message.id,
            key=head.key,
            caller=head.caller,
        )
        if self._begin is not None and head.trace is not None:
            call.trace = self._begin(head.trace)
        return call


def _reply(stream: Stream, raw: bool, call: Call, result: Result) -> None:
    """Send what became of a call; a value that cannot be written is the model's fault."""
    stream.work = None
    version = call.loaded.version if call.loaded else ""
    if isinstance(result, RequestRefused):
        stream.refuse(result, version)
        return
    try:
        answer = render_answer(make_answer(call, result), raw)
    except Exception:
        log.exception("an answer could not be written", extra={"request_id": call.message.id})
        stream.refuse(RequestRefused("model_failed", FAILED), version)
        return
    stream.answer(answer, (("slipway-version", version),))
