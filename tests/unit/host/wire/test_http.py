"""The connection with a handler and a transport of paper: no socket, no model."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from slipway.host.answer.call import Cancellable
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.http.connection import Connection, Listener
from slipway.host.wire.http.exchange import Body, Head, Limits, Respond, Response

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
LIMITS = Limits(body_bytes=1000, chunks=50, pipelined=4)


class PaperTransport(asyncio.Transport):
    """Keeps what is written and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.half_closed = self.aborted = False
        self.reading = True

    @property
    def ended(self) -> bool:
        return self.closed or self.half_closed or self.aborted

    def write(self, data: Any) -> None:
        assert not self.half_closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Work1:
    """Something under way that can be given up."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> bool:
        self.cancelled = True
        return True


class Client:
    """One connection, what it was asked, and the means to answer."""

    def __init__(self, limits: Limits = LIMITS, answer: bool = True) -> None:
        self.requests: list[tuple[Head, bytes]] = []
        self.waiting: list[Respond] = []
        self.works: list[Work1] = []
        self.refused: list[str] = []
        self.answer = answer
        self.listener = Listener(self._handle, limits, self.refused.append)
        self.transport = PaperTransport()
        self.connection = Connection(self.listener)
        self.connection.connection_made(self.transport)

    def _handle(self, head: Head, body: Body, respond: Respond) -> Cancellable | None:
        self.requests.append((head, bytes(body)))
        if self.answer:
            respond(Response(200, head.path))
            return None
        self.waiting.append(respond)
        self.works.append(Work1())
        return self.works[-1]

    def send(self, data: bytes, step: int = 1 << 30) -> "Client":
        for start in range(0, len(data), step):
            self.connection.data_received(data[start : start + step])
        return self

    @property
    def statuses(self) -> list[int]:
        return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.transport.written)]

    @property
    def error(self) -> Any:
        return json.loads(self.transport.written.rpartition(b"\r\n\r\n")[2])


def talk(conversation: Callable[[], Any]) -> Any:
    async def run() -> Any:
        result = conversation()
        await asyncio.sleep(0)
        return result

    return asyncio.run(run())


def sent(data: bytes, limits: Limits = LIMITS, step: int = 1 << 30) -> Client:
    client: Client = talk(lambda: Client(limits).send(data, step))
    return client


@pytest.mark.parametrize("step", [1, 7, 1 << 30])
def test_a_request_is_read_however_it_is_cut(step: int) -> None:
    client = sent(HEAD + b"Content-Length: 3\r\nSlipway-Key: k\r\n\r\nabc", step=step)
    assert client.statuses == [200]
    headers = {b"host": b"a", b"content-length": b"3", b"slipway-key": b"k"}
    assert client.requests == [(Head(b"POST", b"/x", headers), b"abc")]


@pytest.mark.parametrize("step", [1, 5, 1 << 30])
def test_a_chunked_body_is_put_together(step: int) -> None:
    data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=f\r\nde\r\n0\r\nT: x\r\n\r\n"
    client = sent(data, step=step)
    assert [body for _, body in client.requests] == [b"abcde"]


def test_requests_in_one_piece_are_answered_one_after_the_other() -> None:
    client = sent(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
    bodies = [part[:2] for part in client.transport.written.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"/0", b"/1", b"/2"]


def test_answers_keep_the_order_of_the_requests() -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        client.waiting[1](Response(404, b"second"))
        assert client.transport.written == b""
        client.waiting[0](Response(200, b"first"))
        return client

    assert talk(conversation).statuses == [200, 404]


def test_reading_stops_while_too_many_requests_wait_and_goes_on_after() -> None:
    async def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert (len(client.requests), client.transport.reading) == (4, False)
        for respond in client.waiting[:]:
            respond(Response(200, b""))
        await asyncio.sleep(0)
        assert (len(client.requests), client.transport.reading) == (6, True)
        return client

    asyncio.run(conversation())


def test_a_client_that_goes_away_takes_its_waiting_work_along() -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.connection.connection_lost(None)
        client.waiting[0](Response(200, b"too late"))
        return client

    client = talk(conversation)
    assert client.works[0].cancelled
    assert client.transport.written == b""
    assert client.listener.connections == set()


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.connection.eof_received()
        client.waiting[0](Response(200, b""))
        return client

    client = talk(conversation)
    assert client.statuses == [200]
    assert client.transport.closed


def test_a_client_that_half_closes_gets_the_answers_to_all_it_sent() -> None:
    async def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        client.connection.eof_received()
        for n in range(6):
            client.waiting[n](Response(200, b""))
            await asyncio.sleep(0)
        return client

    client = asyncio.run(conversation())
    assert client.statuses == [200] * 6
    assert client.transport.closed


def test_a_client_that_half_closes_between_two_portions_gets_all_of_its_answers() -> None:
    async def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for respond in client.waiting[:]:
            respond(Response(200, b""))
        assert client.connection.eof_received()  # False would close the transport
        await asyncio.sleep(0)
        client.waiting[4](Response(200, b""))
        return client

    client = asyncio.run(conversation())
    assert client.statuses == [200] * 5
    assert client.transport.closed


def test_a_client_that_closes_in_the_middle_of_a_request_is_closed_too() -> None:
    def conversation() -> Client:
        client = Client().send(b"GET / HT")
        assert not client.connection.eof_received()  # False closes the transport
        return client

    assert talk(conversation).statuses == []


def test_a_head_request_gets_no_body() -> None:
    client = sent(b"HEAD /long HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.transport.written.endswith(b"Content-Length: 5\r\n\r\n")


@pytest.mark.parametrize("head", [b"1.0\r\n", b"1.1\r\nHost: a\r\nConnection: close\r\n"])
def test_the_connection_is_closed_where_it_cannot_be_kept(head: bytes) -> None:
    client = sent(b"GET / HTTP/" + head + b"\r\n")
    assert b"Connection: close" in client.transport.written
    assert client.transport.closed


def test_an_error_of_the_handler_is_an_answer_and_the_connection_goes_on() -> None:
    def conversation() -> Client:
        client = Client()

        def fail(head: Head, body: Body, respond: Respond) -> None:
            raise ValueError("/etc/passwd on host7")

        client.listener.handler = fail
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        return client

    client = talk(conversation)
    assert client.statuses == [500, 500]
    assert b"passwd" not in client.transport.written


MALFORMED = {
    "both lengths": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": b"Content-Length: 3, 4\r\n\r\nabc",
    "signed length": b"Content-Length: +3\r\n\r\nabc",
    "negative length": b"Content-Length: -3\r\n\r\nabc",
    "hex length": b"Content-Length: 0x3\r\n\r\nabc",
    "endless length": b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc",
    "empty length": b"Content-Length: \r\n\r\nabc",
    "identity": b"Transfer-Encoding: identity\r\n\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "encoding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "nearly chunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "tab before chunked": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space after a name": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "bare line feed": b"X: a\nContent-Length: 1\r\n\r\na",
    "bare carriage return": b"X: a\rContent-Length: 1\r\n\r\na",
    "empty name": b": x\r\nContent-Length: 1\r\n\r\na",
    "folded header": b"X: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "no colon": b"Xab\r\n\r\n",
    "null character": b"X: a\0b\r\n\r\n",
    "line feed ends a chunk size": b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "hex prefix of a chunk": b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "endless chunk size": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\na\r\n0\r\n\r\n",
    "carriage return in a chunk's extension": (
        b"Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n"
    ),
    "host twice": b"Host: b\r\n\r\n",
    "key twice": b"Slipway-Key: a\r\nslipway-key: b\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_two_parsers_could_read_in_two_ways_is_refused(case: str) -> None:
    client = sent(HEAD + MALFORMED[case] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.statuses == [400]
    assert client.error["code"] == "bad_request"
    assert client.requests == []
    assert client.transport.half_closed


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\nPRI"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "HTTP/2 in words": (400, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/2's preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "chunks in 1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "bare line feeds": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "TLS": (405, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a method of its own": (405, b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an endless method": (405, b"X" * 100_000),
    "WebSocket": (426, HEAD + UPGRADE),
    "HTTP/2 over cleartext": (426, HEAD + H2C),
    "CONNECT": (426, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "brotli": (415, HEAD + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\na"),
    "an expectation": (417, HEAD + b"Expect: 200-ok\r\n\r\n"),
    "one byte too many": (413, HEAD + b"Content-Length: 1001\r\n\r\n"),
    "10 GiB": (413, HEAD + b"Content-Length: 10737418240\r\n\r\n"),
    "101 headers": (431, HEAD + b"X: y\r\n" * 100 + b"\r\n"),
    "a large header": (431, HEAD + b"X: " + b"y" * 16_384 + b"\r\n\r\n"),
    "a large path": (431, b"GET /" + b"y" * 16_384 + b" HTTP/1.1\r\n\r\n"),
    "an endless path": (431, b"GET /" + b"y" * 100_000),
    "an endless header": (431, HEAD + b"X: " + b"y" * 100_000),
    "endless headers": (431, HEAD + (b"X" * 100 + b": y\r\n") * 1000),
    "endless empty lines": (431, b"\r\n" * 50_000),
    "a large chunk": (413, CHUNKED + b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n"),
    "one chunk too many": (413, CHUNKED + b"1\r\na\r\n" * 51),
    "a million chunks": (413, CHUNKED + b"1\r\na\r\n" * 1_000_000),
    "an endless extension": (431, CHUNKED + b"1;" + b"e" * 100_000 + b"\r\na\r\n0\r\n\r\n"),
    "an endless trailer": (431, CHUNKED + b"1\r\na\r\n0\r\nT: " + b"t" * 100_000),
    "200 trailers": (431, CHUNKED + b"1\r\na\r\n0\r\n" + b"T: t\r\n" * 200 + b"\r\n"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_this_host_does_not_do_or_take_has_its_own_status(case: str) -> None:
    status, data = REFUSED[case]
    client = sent(data)
    assert client.statuses == [status]
    assert set(client.error) == {"error", "code", "request_id"}
    assert client.refused == [client.error["code"]]
    assert client.requests == []


ACCEPTED = {
    "the largest body": HEAD + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000,
    "99 more headers": HEAD + b"X: y\r\n" * 99 + b"\r\n",
    "the largest header": HEAD + b"X: " + b"y" * 16_200 + b"\r\n\r\n",
    "as many chunks as may be": CHUNKED + b"1\r\na\r\n" * 49 + b"0\r\n\r\n",
    "gzip, which the handler unpacks": HEAD
    + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
    "chunks up to the largest body": CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_just_keeps_within_a_limit_is_taken(case: str) -> None:
    assert sent(ACCEPTED[case]).statuses == [200]


def test_large_requests_in_a_row_do_not_add_up_to_a_refusal() -> None:
    large = Limits(body_bytes=1_000_000)
    request_ = HEAD + b"Content-Length: 300000\r\n\r\n" + b"a" * 300_000
    assert sent(request_ * 5, large).statuses == [200] * 5


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    data = HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    assert sent(data).transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_answers_before_a_malformed_request_are_sent_first() -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
        assert client.transport.written == b""
        client.waiting[0](Response(200, b""))
        return client

    assert talk(conversation).statuses == [200, 405]


def test_what_follows_a_refused_request_is_read_away_for_a_moment_only() -> None:
    def conversation() -> Client:
        client = Client().send(HEAD + b"Content-Length: 1001\r\n\r\n")
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        assert not client.transport.closed
        client.connection.expire(asyncio.get_running_loop().time() + LIMITS.linger_s + 1)
        return client

    client = talk(conversation)
    assert client.requests == []
    assert client.transport.aborted


@pytest.mark.parametrize(
    ("data", "limit_s", "statuses"),
    [
        (b"", LIMITS.head_s, []),
        (b"GET / HT", LIMITS.head_s, [408]),
        (HEAD + b"Content-Length: 2\r\n\r\na", LIMITS.body_s, [408]),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", LIMITS.idle_s, [200]),
    ],
)
def test_a_client_that_takes_too_long_is_let_go(
    data: bytes, limit_s: float, statuses: list[int]
) -> None:
    def conversation() -> Client:
        client = Client().send(data)
        now = asyncio.get_running_loop().time()
        client.listener.expire(now + limit_s - 0.5)
        assert not client.transport.ended
        client.listener.expire(now + limit_s + 0.5)
        return client

    client = talk(conversation)
    assert client.statuses == statuses
    assert client.transport.ended


@pytest.mark.parametrize("answer", [Response(200, b""), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_gives_the_next_request_no_more_time_for_its_head(answer: Respond) -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX: "
        )
        client.waiting[0](answer)
        now = asyncio.get_running_loop().time()
        client.listener.expire(now + LIMITS.head_s - 0.5)
        assert not client.transport.ended
        client.listener.expire(now + LIMITS.head_s + 0.5)
        return client

    client = talk(conversation)
    assert client.statuses == [200, 408]


def test_a_request_that_is_being_answered_has_all_the_time() -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.listener.expire(asyncio.get_running_loop().time() + 1e6)
        return client

    client = talk(conversation)
    assert not client.transport.ended


def test_a_client_that_does_not_read_its_answers_is_cut_off() -> None:
    def conversation() -> Client:
        client = Client()
        client.connection.pause_writing()
        assert not client.transport.reading
        client.listener.expire(asyncio.get_running_loop().time() + LIMITS.write_s + 1)
        return client

    assert talk(conversation).transport.aborted


def test_a_client_that_reads_again_is_heard_again() -> None:
    def conversation() -> Client:
        client = Client()
        client.connection.pause_writing()
        client.connection.resume_writing()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.listener.expire(asyncio.get_running_loop().time() + LIMITS.write_s + 1)
        return client

    client = talk(conversation)
    assert client.transport.reading
    assert not client.transport.aborted


def test_one_connection_too_many_is_turned_away() -> None:
    def conversation() -> Client:
        client = Client(Limits(connections=1))
        other = Connection(client.listener)
        transport = PaperTransport()
        other.connection_made(transport)
        assert transport.written.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in transport.written
        return client

    talk(conversation)


def test_a_stopping_host_answers_everything_it_took_and_then_closes() -> None:
    def conversation() -> Client:
        client = Client(answer=False).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        client.listener.draining = True
        client.waiting[0](Response(200, b""))
        assert not client.transport.closed
        client.waiting[1](Response(200, b""))
        return client

    client = talk(conversation)
    assert client.statuses == [200, 200]
    assert client.transport.closed


def greeted(data: bytes) -> Client:
    """Talk to a listener that takes strangers for what they are."""

    def refuse(head: Head) -> None:
        raise RequestRefused("unauthenticated", "who are you?")

    def conversation() -> Client:
        client = Client()
        client.listener.greet = refuse
        return client.send(data)

    client: Client = talk(conversation)
    return client


@pytest.mark.parametrize(
    "head", [HEAD + b"Content-Length: 1000\r\n\r\n", CHUNKED, CHUNKED + b"3e8\r\nab"]
)
def test_a_stranger_is_refused_before_the_body_is_taken(head: bytes) -> None:
    client = greeted(head)
    assert (client.statuses, client.requests) == ([401], [])


def test_a_request_without_a_body_is_left_to_the_handler() -> None:
    assert greeted(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").statuses == [200]
