"""Respond when others have said what they know, without holding up the event loop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slipway.host.answer.call import Cancellable
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.http.exchange import Respond, Response, new_request_id, refuse

log = logging.getLogger(__name__)

T = TypeVar("T")


def answer(
    value: T | Awaitable[T], show: Callable[[T], Response], respond: Respond
) -> Cancellable | None:
    """Respond with a value, at once or when it is known."""
    if not isinstance(value, Awaitable):
        respond(show(value))
        return None
    waiting = asyncio.ensure_future(value)

    def tell(future: asyncio.Future[T]) -> None:
        if future.cancelled():  # the client has gone
            return
        if (error := future.exception()) is None:
            respond(show(future.result()))
            return
        log.warning("another process does not answer", extra={"reason": repr(error)})
        refusal = RequestRefused("not_ready", "the other processes do not answer; try again")
        respond(refuse(refusal, new_request_id()))

    waiting.add_done_callback(tell)
    return waiting
