"""The table of methods, and what every call goes through: who asks, and how errors are said.

A caller is identified before its message is received, so a stranger can neither hold memory
with large messages nor a place with one that never ends, and learns of no method whether it
exists.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from slipway.host.answer.call import Begin
from slipway.host.answer.core import Core
from slipway.host.guard.caller import Guard
from slipway.host.request.refusal import FAILED, RequestRefused, bad_request
from slipway.host.wire.grpc.describe import Description
from slipway.host.wire.grpc.health import Health
from slipway.host.wire.grpc.inference import Inference
from slipway.host.wire.grpc.reflection import reflect
from slipway.host.wire.grpc.schema import HEALTH, REFLECTION, SERVICE
from slipway.host.wire.grpc.stream import Method, Stream

log = logging.getLogger(__name__)

OPEN: Final = f"/{HEALTH}/Check"
"""The one method that a stranger reaches; it tells strangers about the host as a whole only."""


class Service:
    """Everything that can be called."""

    def __init__(
        self,
        core: Core,
        guard: Guard,
        health: Health,
        begin: Begin | None = None,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        self.guard = guard
        self.refused = refused or _nothing
        """Hears the code of every refusal."""
        self.methods: Mapping[str, Method] = _methods(core, health, begin)

    def begin(self, stream: Stream) -> None:
        """Judge the head of a call; refuse a stranger's, and one to nowhere."""
        head = stream.head
        if head.refusal and head.path != OPEN:
            stream.refuse(head.refusal)
        elif method := self.methods.get(head.path):
            stream.method = method
        else:
            stream.refuse(RequestRefused("method_not_allowed", "this host has no such method"))

    def take(self, stream: Stream, messages: list[bytes], ended: bool) -> None:
        """Act on what has come of a call."""
        method = stream.method
        if method is None:
            return
        try:
            if method.many_in:
                for message in messages:
                    stream.write(method.act(stream, message).SerializeToString())
                if ended:
                    stream.finish()
            elif ended:
                self._take_one(stream, method, messages)
        except RequestRefused as refusal:
            stream.refuse(refusal)
        except Exception:
            log.exception("a call failed", extra={"method": stream.head.path})
            stream.refuse(RequestRefused("model_failed", FAILED))

    def _take_one(self, stream: Stream, method: Method, messages: list[bytes]) -> None:
        if not messages:
            raise bad_request("the call takes one message, got none")
        response = method.act(stream, messages[0])
        if response is not None:
            stream.answer(response.SerializeToString())


def _methods(core: Core, health: Health, begin: Begin | None) -> dict[str, Method]:
    description = Description(core)
    return {
        f"/{SERVICE}/ServerLive": Method(description.live),
        f"/{SERVICE}/ServerReady": Method(description.ready),
        f"/{SERVICE}/ServerMetadata": Method(description.server),
        f"/{SERVICE}/ModelReady": Method(description.model_ready),
        f"/{SERVICE}/ModelMetadata": Method(description.model),
        f"/{SERVICE}/ModelConfig": Method(description.config),
        f"/{SERVICE}/ModelStatistics": Method(description.statistics),
        f"/{SERVICE}/ModelInfer": Method(Inference(core, begin).infer),
        OPEN: Method(health.check),
        f"/{HEALTH}/Watch": Method(health.watch),
        f"/{REFLECTION}/ServerReflectionInfo": Method(reflect, many_in=True),
        # The same messages under their older name, which most clients still use.
        f"/{REFLECTION.replace('.v1.', '.v1alpha.')}/ServerReflectionInfo": Method(
            reflect, many_in=True
        ),
    }


def _nothing(code: str) -> None:
    """Count nothing."""
