"""The standard health service: what `core.ready` says, for the host and for each model."""

import asyncio
from functools import partial
from typing import Any, Final

from slipway.host.answer.core import Core
from slipway.host.request.refusal import RequestRefused, quote
from slipway.host.wire.grpc.schema import HEALTH, SERVICE, message_class, parse
from slipway.host.wire.grpc.stream import Stream

WATCH_S: Final = 0.25
"""Between two looks for a caller that watches."""

WATCHES_MAX: Final = 256
"""Each wakes the event loop four times a second."""

PACKAGE: Final = HEALTH.rpartition(".")[0]

Request: Final = message_class("HealthCheckRequest", PACKAGE)
Response: Final = message_class("HealthCheckResponse", PACKAGE)

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


class Health:
    """Check and Watch. The core is asked each time, so there is no second truth to keep."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._closing = False
        self._watching: set[Stream] = set()

    def check(self, stream: Stream, body: bytes) -> Any:
        """Say how a service is; about the host as a whole, to anyone who asks."""
        service = parse(Request, body).service
        if service != "":
            stream.head.permit("metadata", _model(service))
        if (status := self.status(service)) == SERVICE_UNKNOWN:
            raise RequestRefused("not_found", f"there is no service {quote(service)} here")
        return Response(status=status)

    def watch(self, stream: Stream, body: bytes) -> None:
        """Say how a service is now, and again whenever that changes."""
        service = parse(Request, body).service
        stream.head.permit("metadata", _model(service))
        self._watching = {other for other in self._watching if not other.closed}
        if len(self._watching) >= WATCHES_MAX:
            raise RequestRefused("queue_full", "too many callers watch; check instead")
        self._watching.add(stream)
        self._look(stream, service, None)

    def status(self, service: str) -> int:
        """Return how a service is: "" and the protocol's name mean the host, others a model."""
        model = _model(service)
        if model is not None and model not in self._core.models:
            return NOT_SERVING if self._core.awaits(model) else SERVICE_UNKNOWN
        ready = self._core.ready if model is None else self._core.find(model).stable is not None
        return SERVING if ready and not self._core.draining and not self._closing else NOT_SERVING

    def close(self) -> None:
        """Tell all that watch, and let them go: a stopping server would wait for them."""
        self._closing = True

    def _look(self, stream: Stream, service: str, last: int | None) -> None:
        if (status := self.status(service)) != last:
            stream.write(Response(status=status).SerializeToString())
        if self._closing:
            stream.finish()
        elif not stream.closed:
            loop = asyncio.get_running_loop()
            stream.work = loop.call_later(WATCH_S, partial(self._look, stream, service, status))


def _model(service: str) -> str | None:
    """Return the model that a service's name means, None for the whole host."""
    return None if service in ("", SERVICE) else service
