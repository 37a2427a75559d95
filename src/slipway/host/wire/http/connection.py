"""Speak HTTP/1.1 on one connection: bytes in, requests to a handler, responses out in order.

Knows no model and no path. llhttp (through httptools, in its strict mode) refuses what two
parsers could read in two ways: conflicting lengths, bare line feeds, folded headers. What is
limited here is what a parser leaves open: sizes, counts and time. The body of a request that
is refused is read away for a moment, because a reset would destroy the response on its way.

A head that llhttp has judged before (`head_cache`) needs no parser: then the request is cut out of
what came in, which costs a tenth.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import httptools

from slipway.host.answer.call import Cancellable
from slipway.host.request.body_memory import BodyAccount, BodyMemory
from slipway.host.request.refusal import FAILED, RequestRefused, bad_request
from slipway.host.wire.compression import too_large
from slipway.host.wire.http.exchange import (
    READ_HEADERS,
    Handler,
    Head,
    Limits,
    Response,
    Written,
    check_head,
    new_request_id,
    refuse,
    render_response,
)
from slipway.host.wire.http.head_cache import END, CachedHead, HeadCache

log = logging.getLogger(__name__)

SLICE: Final = 16_384
"""Bytes given to the parser at once, so that no limit is overshot by more than this."""

HEAD_TOO_LARGE: Final = "too many or too large headers"

FOREVER: Final = float("inf")


@dataclass
class Listener:
    """What the connections of one port share."""

    handler: Handler
    limits: Limits
    count: Callable[[str], None]
    """Called with the error code of each refusal."""
    connections: set["Connection"] = field(default_factory=set)
    head_cache: HeadCache = field(default_factory=HeadCache)
    memory: BodyMemory = field(default_factory=BodyMemory)
    """What all bodies may take, of other listeners too."""
    greet: Callable[[Head], None] | None = None
    """Looks at a head before its body is taken; refuses by raising."""
    draining: bool = False
    """Every response closes its connection."""
    now: float = 0.0
    """The event loop's time of the last look at the deadlines."""

    def expire(self, now: float) -> None:
        """Let every connection look at its deadlines; called about once a second."""
        self.now = now
        for connection in list(self.connections):
            connection.expire(now)


class ResponseSlot:
    """The place of one request in the order of responses."""

    __slots__ = (
        "connection", "head_only", "held_bytes", "keep_alive", "linger", "response", "work",
    )  # fmt: skip

    def __init__(self, connection: "Connection", keep_alive: bool) -> None:
        self.connection = connection
        self.keep_alive = keep_alive
        self.head_only = self.linger = False
        self.response: Response | Written | None = None
        self.work: Cancellable | None = None
        self.held_bytes = 0
        """What the request's body takes until it is answered."""

    def respond(self, response: Response | Written) -> None:
        """Send a response when its turn has come."""
        self.response = response
        self.work = None
        if self.held_bytes:
            self.release()
        written = type(response) is bytes and self.keep_alive
        if not (written and self.connection.send_at_once(response)):  # type: ignore[arg-type]
            self.connection.flush()

    def release(self) -> None:
        """Give back what the body took."""
        self.connection.account.give_back(self.held_bytes)
        self.held_bytes = 0

    def give_up(self) -> None:
        """Give up the work, which knows this slot: they would keep each other."""
        work, self.work = self.work, None
        if work is not None:
            work.cancel()
        self.release()


class Connection(asyncio.Protocol):
    """One client. The parser calls the `on_` methods while it is fed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._cached_heads = listener.head_cache.known
        self.account = BodyAccount(listener.memory)
        self._free_bytes = listener.memory.free_bytes
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._slots: deque[ResponseSlot] = deque()
        self._unfed = b""
        self._raw_head = b""  # of the request that the parser is at, if it may be remembered
        self._known: CachedHead | None = None  # the body of this head is on its way
        self._held = bytearray()  # what came of it
        self._held_bytes = 0  # what is counted of the request that is on its way
        self._reading = True
        self._finished = False  # nothing that still comes in is a request
        self._ended = False  # the client has closed its side
        self._deadline = FOREVER
        self._write_deadline = FOREVER
        self._body = bytearray()
        self._begin()

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up a client, unless there are too many."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, no subclass
        self._deadline = self._loop.time() + self._limits.head_s
        if len(self._listener.connections) >= self._limits.connections:
            self._refuse(RequestRefused("queue_full", "too many connections; try again"))
        self._listener.connections.add(self)
        self._listener.now = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what nobody waits for any more, and the parser, which knows this connection.

        The two would keep each other, and a body of 16 MiB, until cycles are next collected.
        """
        self._finished = True
        self._listener.connections.discard(self)
        self._drop()
        while self._slots:
            self._slots.popleft().give_up()
        del self._parser

    def data_received(self, data: bytes) -> None:
        """Take what came in: a request that is known by its head, or food for the parser."""
        if self._known is not None:
            self._take_known(data)
        elif not self._slots and not self._begun and not self._unfed and not self._finished:
            end = data.find(END) + len(END)
            known = self._cached_heads.get(data[:end])
            if known is None:
                self._raw_head = self._listener.head_cache.find_raw(data)
                self._parse(data)
            elif len(data) - end == known.length <= self._free_bytes:
                self._hand_over(known.head, data[end:], ResponseSlot(self, True))
            else:
                self._known = known
                self._deadline = self._loop.time() + self._limits.body_s
                self._take_known(data[end:])
        else:
            self._parse(data)

    def _take_known(self, data: bytes) -> None:
        """Collect the body of a known head; what follows it is another request."""
        assert self._known is not None
        missing = self._known.length - len(self._held)
        if not self._take(min(len(data), missing)):
            return
        self._held += data[:missing]
        if len(data) < missing:
            return
        head, body = self._known.head, bytes(self._held)
        self._known, self._held = None, bytearray()
        self._hand_over(head, body, ResponseSlot(self, True))
        if len(data) > missing:
            self._parse(data[missing:])

    def _parse(self, data: bytes) -> None:
        """Feed the parser, slice by slice, as long as there is room for requests."""
        if self._finished:
            return
        self.account.give_back(len(self._unfed))
        data, self._unfed = self._unfed + data, b""
        for start in range(0, len(data), SLICE):
            if self._finished:
                return
            if len(self._slots) >= self._limits.pipelined:
                self._keep_unfed(data[start:])
                return
            self._feed(data[start : start + SLICE])
        self._close_if_ended()

    def eof_received(self) -> bool:
        """Answer what was asked before the client closed its side; True keeps ours open."""
        self._ended = True
        return bool(self._slots or self._unfed)

    def pause_writing(self) -> None:
        """Start waiting for a client that reads slowly, and hear no more of it meanwhile."""
        self._write_deadline = self._loop.time() + self._limits.write_s
        self._pause(True)

    def resume_writing(self) -> None:
        """Go on."""
        self._write_deadline = FOREVER
        self._resume()

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if now > self._write_deadline or (self._finished and now > self._deadline):
            self._transport.abort()
        elif now > self._deadline and (self._begun or self._known):
            self._refuse(RequestRefused("client_too_slow", "the request took too long to arrive"))
        elif now > self._deadline:
            self._transport.close()

    # --- the parser's side

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begin()
        self._begun = True
        self._deadline = self._loop.time() + self._limits.head_s

    def on_url(self, url: bytes) -> None:
        """Collect the path, which may come in parts."""
        self._path += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that means something; count all of them, trailers too."""
        self._header_count += 1
        self._count_head(len(name) + len(value) + 4)
        key = name.lower()
        if self._in_body or key not in READ_HEADERS:
            return
        if key in self._headers:
            self._refuse(bad_request("a header is given twice that may come once"))
        self._headers[key] = value

    def on_headers_complete(self) -> None:
        """Judge the head before any of the body is taken."""
        if self._finished:
            return
        self._in_body = True
        self._deadline = self._loop.time() + self._limits.body_s
        version, upgrade = self._parser.get_http_version(), self._parser.should_upgrade()
        try:
            check_head(version, upgrade, self._headers, self._limits)
            if self._listener.greet is not None and _has_body(self._headers):
                self._listener.greet(Head(b"", self._path, self._headers))
        except RequestRefused as refusal:
            self._refuse(refusal)
            return
        if b"expect" in self._headers and not self._slots:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_chunk_header(self) -> None:
        """Count the parts of a chunked body."""
        self._chunks += 1
        if self._chunks > self._limits.chunks:
            self._refuse(RequestRefused("too_large", "the body comes in too many chunks"))

    def on_body(self, body: bytes) -> None:
        """Collect the body up to the limit."""
        if self._finished or not self._take(len(body)):
            return
        self._body += body
        if len(self._body) > self._limits.body_bytes:
            self._refuse(too_large(self._limits.body_bytes))

    def on_message_complete(self) -> None:
        """Hand the request over."""
        if self._finished:
            return
        self._begun = False
        self._deadline = FOREVER
        method = self._parser.get_method()
        keep = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
        head = Head(method, self._path, self._headers)
        if self._raw_head and keep:
            self._listener.head_cache.remember(self._raw_head, head, self._header_count)
        self._raw_head = b""
        body, self._body = self._body, bytearray()
        slot = ResponseSlot(self, keep)
        slot.head_only = method == b"HEAD"
        self._hand_over(head, body, slot)

    # --- in between

    def _take(self, size: int) -> bool:
        """Count bytes of a body before they are kept; refuse the request where no room is left."""
        try:
            self.account.take(size)
        except RequestRefused as refusal:
            self._refuse(refusal)
            return False
        self._held_bytes += size
        return True

    def _keep_unfed(self, data: bytes) -> None:
        """Keep what came in beyond the requests that may wait, and hear no more meanwhile."""
        try:
            self.account.take(len(data))
        except RequestRefused as refusal:
            self._refuse(refusal)
            return
        self._unfed = data
        self._pause(True)

    def _drop(self) -> None:
        """Let go of what came of a request that will not be answered."""
        self.account.give_back(self._held_bytes + len(self._unfed))
        self._held_bytes, self._unfed = 0, b""
        self._body, self._held, self._known = bytearray(), bytearray(), None

    def _begin(self) -> None:
        self._begun = False
        self._in_body = False
        self._path = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._header_count = 0
        self._head_bytes = 0
        self._chunks = 0
        self._raw_bytes = 0

    def _feed(self, part: bytes) -> None:
        """Parse some bytes; a message that does not end must not grow inside the parser."""
        self._raw_bytes += len(part)
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            pass  # refused when its head was complete
        except httptools.HttpParserInvalidMethodError:
            self._refuse(RequestRefused("method_not_allowed", "use GET or POST"))
        except httptools.HttpParserCallbackError:
            log.exception("a request could not be handled")
            self._refuse(RequestRefused("model_failed", FAILED))
        except httptools.HttpParserError:
            self._refuse(bad_request("not a proper HTTP/1.1 request"))
        # Headers, trailers and chunk extensions that do not end; 32 is for a chunk's own header.
        unfinished = self._raw_bytes - len(self._body) - 32 * self._chunks
        if unfinished > self._limits.head_bytes + SLICE:
            self._refuse(RequestRefused("headers_too_large", HEAD_TOO_LARGE))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        too_many = self._header_count > self._limits.headers
        if too_many or self._head_bytes > self._limits.head_bytes:
            self._refuse(RequestRefused("headers_too_large", HEAD_TOO_LARGE))

    def _hand_over(self, head: Head, body: bytes | bytearray, slot: ResponseSlot) -> None:
        """Give a complete request to the handler."""
        if self._held_bytes:
            slot.held_bytes, self._held_bytes = self._held_bytes, 0
        self._slots.append(slot)
        self._deadline = FOREVER
        self._raw_bytes = 0
        try:
            slot.work = self._listener.handler(head, body, slot.respond)
        except RequestRefused as refusal:
            slot.respond(refuse(refusal, new_request_id()))
        except Exception:
            log.exception("a request could not be handled")
            slot.respond(refuse(RequestRefused("model_failed", FAILED), new_request_id()))
        if slot.response is not None:
            slot.work = None

    def _refuse(self, refusal: RequestRefused) -> None:
        """Answer what cannot be read as a request, after the answers before it, and close."""
        if self._finished:
            return
        self._finished = True
        self._drop()
        response = refuse(refusal, new_request_id())
        slot = ResponseSlot(self, False)
        slot.response, slot.linger = response, True
        self._slots.append(slot)
        self._deadline = FOREVER
        self.flush()

    def send_at_once(self, response: Written) -> bool:
        """Write the only response that is waited for, in the usual case: nothing else to see to."""
        slots = self._slots
        if len(slots) != 1 or self._begun or self._unfed or self._ended or self._finished:
            return False
        if self._listener.draining:
            return False
        slots.clear()
        self._transport.write(response)
        self._deadline = self._listener.now + self._limits.idle_s
        return True

    def flush(self) -> None:
        """Write the responses that are ready and whose turn it is."""
        while self._slots and (response := self._slots[0].response) is not None:
            slot = self._slots.popleft()
            last = self._listener.draining and not self._slots
            keep = slot.keep_alive and not last
            if not self._transport.is_closing():
                self._transport.write(render_response(response, keep, slot.head_only))
            if not isinstance(response, bytes) and response.code != "ok":
                self._listener.count(response.code)
            if not keep:
                self._close(slot.linger)
                return
        if not self._slots and not self._begun and self._known is None:
            self._deadline = self._loop.time() + self._limits.idle_s
        self._resume()
        self._close_if_ended()

    def _close(self, linger: bool) -> None:
        """Close; of a request that was not read to its end, read away the rest first."""
        self._finished = True
        self._slots.clear()
        if not linger or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._deadline = self._loop.time() + self._limits.linger_s
        self._pause(False)

    def _close_if_ended(self) -> None:
        """Close when the client has closed its side and has all of its answers."""
        if self._ended and not self._slots and not self._unfed and not self._finished:
            self._close(linger=False)

    def _pause(self, pause: bool) -> None:
        if pause == self._reading and not self._transport.is_closing():
            self._reading = not pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def _resume(self) -> None:
        """Read on, beginning with what has not been parsed yet."""
        if self._write_deadline == FOREVER and len(self._slots) < self._limits.pipelined:
            self._pause(False)
            if self._unfed:
                self._loop.call_soon(self._parse, b"")


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
