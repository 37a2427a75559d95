"""The V2 protocol's REST face: exact routes, who may ask, and what the host says of itself."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from slipway import __version__
from slipway.host.answer.call import Begin, Cancellable, Loaded
from slipway.host.answer.core import Core
from slipway.host.guard.caller import ANYBODY, Caller, Guard, OpenGuard
from slipway.host.guard.policy import enter, permit
from slipway.host.request.refusal import STATUS, RequestRefused
from slipway.host.request.routes import DATA_ROUTES, Route, find_route
from slipway.host.wire.http.exchange import (
    Body,
    Head,
    Limits,
    Respond,
    Response,
    new_request_id,
    refuse,
)
from slipway.host.wire.http.infer import Infer, InferHead
from slipway.host.wire.http.later import answer
from slipway.host.wire.http.openapi import OPENAPI
from slipway.host.wire.http.reply import VERSION_HEADER
from slipway.host.wire.metadata import (
    EXTENSIONS,
    PLATFORM,
    describe_tensors,
    make_config,
    statistics,
)

METRICS_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


class Judged:
    """What was found out about a head; void when the guard's generation changes."""

    __slots__ = ("asked", "caller", "generation", "names", "route")

    def __init__(self, head: Head, guard: Guard) -> None:
        self.generation = guard.generation
        self.caller: Caller = enter(head.path, head.headers.get(b"authorization"), guard)
        self.route: Route
        self.route, self.names = find_route(DATA_ROUTES, head.path)
        self.asked: InferHead | None = None


class Rest:
    """What the data port answers."""

    def __init__(
        self,
        core: Core,
        metrics: Callable[[], bytes],
        guard: Guard | None = None,
        limits: Limits | None = None,
        begin: Begin | None = None,
        whole: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        self._core = core
        self._metrics = metrics
        self._whole = whole  # the metrics of all processes, where this is one of several
        self._guard: Guard = guard or OpenGuard()
        self._infer = Infer(core, limits or Limits(), begin)
        self.actions: Mapping[str, Callable[[Mapping[str, str]], Response]] = {
            "server": self._server,
            "live": self._live,
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "model_config": self._model_config,
            "model_stats": self._model_stats,
            "openapi": self._openapi,
            "metrics": self._render_metrics,
        }
        """Everything but inference, by the route's action."""

    def greet(self, head: Head) -> None:
        """Raise RequestRefused for a stranger, before any of the body is taken."""
        enter(head.path, head.headers.get(b"authorization"), self._guard)

    def handle(self, head: Head, body: Body, respond: Respond) -> Cancellable | None:
        """Answer one request."""
        judged: Judged | None = head.memo
        if judged is None or judged.generation != self._guard.generation:
            judged = head.memo = Judged(head, self._guard)
        if judged.caller is not ANYBODY:
            permit(judged.caller, judged.route.action, judged.names.get("model"))
        if judged.asked is not None:
            return self._infer.handle(judged.asked, head, body, respond)
        route = judged.route
        if head.method != route.method:
            respond(refuse_method(route.method))
            return None
        if route.action == "metrics" and self._whole is not None:
            return answer(self._whole(), show_metrics, respond)
        if route.action != "infer":
            respond(self.actions[route.action](judged.names))
            return None
        judged.asked = self._ask(head, judged)
        return self._infer.handle(judged.asked, head, body, respond)

    def _ask(self, head: Head, judged: Judged) -> InferHead:
        self._core.find(judged.names["model"])
        try:
            return InferHead(head, judged.names, judged.caller)
        except RequestRefused as refusal:
            self._core.count_refusal(judged.names["model"], refusal)
            raise

    def _server(self, names: Mapping[str, str]) -> Response:
        return _json({"name": "slipway", "version": __version__, "extensions": EXTENSIONS})

    def _live(self, names: Mapping[str, str]) -> Response:
        return _json({"live": True})

    def _ready(self, names: Mapping[str, str]) -> Response:
        if self._core.draining:
            return _not_ready({"live": True, "ready": False}, "this host is stopping", "draining")
        if not self._core.ready:
            return _not_ready({"live": True, "ready": False}, "this host is not ready yet")
        return _json({"live": True, "ready": True})

    def _model(self, names: Mapping[str, str]) -> Response:
        loaded = self._loaded(names)
        contract = loaded.contract
        return _json(
            {
                "name": names["model"],
                "versions": [x.version for x in self._core.find(names["model"]).versions],
                "platform": PLATFORM,
                "inputs": describe_tensors(contract.inputs),
                "outputs": describe_tensors(contract.outputs),
            },
            loaded.version,
        )

    def _model_ready(self, names: Mapping[str, str]) -> Response:
        loaded = self._core.pick(names["model"], names.get("version"))
        if loaded is None:
            return _not_ready(
                {"name": names["model"], "ready": False}, "this model is not ready yet"
            )
        return _json({"name": names["model"], "ready": True}, loaded.version)

    def _model_config(self, names: Mapping[str, str]) -> Response:
        loaded = self._loaded(names)
        return _json(make_config(names["model"], loaded.contract), loaded.version)

    def _model_stats(self, names: Mapping[str, str]) -> Response:
        loaded = self._loaded(names)
        return _json({"model_stats": [statistics(names["model"], loaded)]}, loaded.version)

    def _openapi(self, names: Mapping[str, str]) -> Response:
        return Response(200, OPENAPI)

    def _render_metrics(self, names: Mapping[str, str]) -> Response:
        return show_metrics(self._metrics())

    def _loaded(self, names: Mapping[str, str]) -> Loaded:
        return self._core.get(names["model"], names.get("version"))


def show_metrics(text: bytes) -> Response:
    """Make the response to a scrape."""
    return Response(200, text, METRICS_TYPE)


def refuse_method(allowed: bytes) -> Response:
    """Make the response to a wrong method."""
    refusal = RequestRefused("method_not_allowed", f"use {allowed.decode()} for this path")
    return refuse(refusal, new_request_id(), ((b"Allow", allowed),))


def _json(value: Mapping[str, Any], version: str | None = None) -> Response:
    headers = ((VERSION_HEADER, version.encode()),) if version else ()
    return Response(200, orjson.dumps(value), headers=headers)


def _not_ready(body: Mapping[str, Any], error: str, code: str = "not_ready") -> Response:
    """Say that something is not ready: the protocol's own keys and those of every error."""
    value = {**body, "error": error, "code": code, "request_id": new_request_id()}
    return Response(STATUS[code], orjson.dumps(value), code=code)
