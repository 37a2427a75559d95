"""The V2 protocol's REST face: from a request to the core, and from its outcome to a response."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from slipway import __version__
from slipway.bundle.contract import InputTensor, OutputTensor
from slipway.host.core import Call, Core, Loaded, Outcome
from slipway.host.message import Message
from slipway.host.observe.metrics import CONTENT_TYPE, Metrics
from slipway.host.refusal import STATUS, RequestRefused, bad_request
from slipway.host.wire.exchange import (
    FAILED,
    Request,
    Respond,
    Response,
    Work,
    new_request_id,
    refuse,
)
from slipway.host.wire.routes import DATA_ROUTES, find_route
from slipway.host.wire.v2 import read_message, render_answer

log = logging.getLogger(__name__)

VERSION_HEADER: Final = b"Slipway-Version"


class Rest:
    """What the data port answers."""

    def __init__(self, core: Core, metrics: Metrics) -> None:
        self._core = core
        self._metrics = metrics
        self.actions: Mapping[str, Callable[[Mapping[str, str]], Response]] = {
            "server": self._server,
            "live": self._live,
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "metrics": self._render_metrics,
        }
        """Everything but inference, by the route's action."""

    def handle(self, request: Request, respond: Respond) -> Work | None:
        """Answer one request."""
        route, names = find_route(DATA_ROUTES, request.path)
        if request.method != route.method:
            respond(refuse_method(route.method))
            return None
        if route.action == "infer":
            return self._infer(request, names["model"], names.get("version"), respond)
        respond(self.actions[route.action](names))
        return None

    def _infer(
        self, request: Request, model: str, version: str | None, respond: Respond
    ) -> Work | None:
        try:
            self._core.find(model)
            _check_headers(request)
            message = read_message(request.body)
        except RequestRefused as refusal:
            self._core.count_refusal(model, refusal)
            raise
        call = _call(request, model, version, message)
        return self._core.infer(call, lambda o: respond(_response(o, call.request_id)))

    def _server(self, names: Mapping[str, str]) -> Response:
        return _json({"name": "slipway", "version": __version__, "extensions": []})

    def _live(self, names: Mapping[str, str]) -> Response:
        return _json({"live": True})

    def _ready(self, names: Mapping[str, str]) -> Response:
        if self._core.draining:
            return _not_ready({"live": True, "ready": False}, "this host is stopping", "draining")
        if not self._core.ready:
            return _not_ready({"live": True, "ready": False}, "this host is not ready yet")
        return _json({"live": True, "ready": True})

    def _model(self, names: Mapping[str, str]) -> Response:
        model = names["model"]
        loaded = self._pick(names)
        if loaded is None:
            raise RequestRefused("not_ready", "this model has no stable version here yet")
        return _json(
            {
                "name": model,
                "versions": [other.version for other in self._core.find(model).versions],
                "platform": "onnxruntime_onnx",
                "inputs": [_describe(tensor) for tensor in loaded.contract.inputs],
                "outputs": [_describe(tensor) for tensor in loaded.contract.outputs],
            },
            loaded.version,
        )

    def _model_ready(self, names: Mapping[str, str]) -> Response:
        loaded = self._pick(names)
        if loaded is None:
            return _not_ready(
                {"name": names["model"], "ready": False}, "this model is not ready yet"
            )
        return _json({"name": names["model"], "ready": True}, loaded.version)

    def _render_metrics(self, names: Mapping[str, str]) -> Response:
        return Response(200, self._metrics.render(), CONTENT_TYPE.encode())

    def _pick(self, names: Mapping[str, str]) -> Loaded | None:
        if "version" in names:
            return self._core.find_version(names["model"], names["version"])
        return self._core.find(names["model"]).stable


def refuse_method(allowed: bytes) -> Response:
    """Make the response to a wrong method."""
    refusal = RequestRefused("method_not_allowed", f"use {allowed.decode()} for this path")
    return refuse(refusal, new_request_id(), ((b"Allow", allowed),))


def _check_headers(request: Request) -> None:
    """Refuse bodies that are no JSON, before they are read.

    A type that a browser sends without asking (text/plain, a form) is refused with them, so
    no page of another site can use a reader's access to this host.
    """
    media = request.headers.get(b"content-type", b"application/json").partition(b";")[0]
    if media.strip().lower() != b"application/json":
        raise RequestRefused("unsupported_media_type", "send application/json")
    length = request.headers.get(b"inference-header-content-length", b"%d" % len(request.body))
    if length != b"%d" % len(request.body):
        raise bad_request("Inference-Header-Content-Length must be the length of the body")


def _call(request: Request, model: str, version: str | None, message: Message) -> Call:
    key = request.headers.get(b"slipway-key")
    return Call(
        model=model,
        version=version,
        message=message,
        request_id=message.id or new_request_id(),
        key=key.decode("latin-1") if key is not None else None,
    )


def _response(outcome: Outcome, request_id: str) -> Response:
    """Write an outcome; a value that cannot be written is the model's fault."""
    headers = ((VERSION_HEADER, outcome.version.encode()),) if outcome.version else ()
    if isinstance(outcome.result, RequestRefused):
        return refuse(outcome.result, request_id, headers)
    try:
        return Response(200, render_answer(outcome.result), headers=headers)
    except Exception:
        log.exception("an answer could not be written", extra={"request_id": request_id})
        return refuse(RequestRefused("model_failed", FAILED), request_id, headers)


def _json(value: Mapping[str, Any], version: str | None = None) -> Response:
    headers = ((VERSION_HEADER, version.encode()),) if version else ()
    return Response(200, orjson.dumps(value), headers=headers)


def _not_ready(body: Mapping[str, Any], error: str, code: str = "not_ready") -> Response:
    """Say that something is not ready: the protocol's own keys and those of every error."""
    value = {**body, "error": error, "code": code, "request_id": new_request_id()}
    return Response(STATUS[code], orjson.dumps(value), code=code)


def _describe(tensor: InputTensor | OutputTensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
