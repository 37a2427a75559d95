"""A head that is remembered gets the verdict that llhttp gave and would give again."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.host.guard.caller import Caller
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.http.connection import Connection, Listener
from slipway.host.wire.http.exchange import Body, Head, Limits, Respond, Response
from slipway.host.wire.http.head_cache import HEAD_MAX, HEADS_MAX, HeadCache
from tests.paper_host import PaperHost, PaperTransport, make_contract, request

BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
GOOD = request(BODY)
HEAD = GOOD[: -len(BODY)]
CANARY = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


class Forgetful(HeadCache):
    """Remembers nothing: every byte goes through llhttp."""

    def remember(self, raw: bytes, head: Head, header_count: int) -> None:
        """Let it be."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[PaperHost, PaperHost]]:
    """Serve one model twice: with a memory for heads, and without."""
    limits = Limits(pipelined=4)
    both = [PaperHost(make_contract(x="FP32"), limits=limits) for _ in range(2)]
    both[1].listener.head_cache = Forgetful()
    yield both[0], both[1]
    for host in both:
        host.close()


def count(raw: bytes) -> int:
    return len(re.findall(rb"HTTP/1\.1 \d{3} ", raw))


def check(hosts: tuple[PaperHost, PaperHost], stream: bytes, *cuts: int) -> tuple[bytes, bool]:
    """Send a stream in pieces to both hosts, the one having seen all of it before."""
    remembering, forgetful = hosts
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    chunks = [stream[a:b] for a, b in pairwise(places)]
    remembering.talk(stream)
    remembering.talk(*chunks)
    expected = forgetful.talk(*chunks)
    assert remembering.talk(*chunks) == expected
    assert forgetful.talk(stream)[0].replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == expected[
        0
    ].replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return expected


def test_a_request_by_a_remembered_head_is_not_parsed_again(
    hosts: tuple[PaperHost, PaperHost],
) -> None:
    remembering, _ = hosts
    remembering.forget()
    first = remembering.talk(GOOD)
    assert list(remembering.listener.head_cache.known) == [HEAD]
    known = remembering.listener.head_cache.known[HEAD]
    known.head = Head(b"POST", b"/nowhere", known.head.headers)  # to see it used
    assert remembering.talk(GOOD) != first
    remembering.forget()
    assert remembering.talk(GOOD) == first


def test_a_head_is_remembered_though_its_body_comes_later(
    hosts: tuple[PaperHost, PaperHost],
) -> None:
    remembering, _ = hosts
    remembering.forget()
    remembering.talk(GOOD[:-9], GOOD[-9:] + request(BODY, headers=["X: y"]))
    assert list(remembering.listener.head_cache.known) == [HEAD]


@pytest.mark.parametrize(
    "raw", [HEAD.replace(b"\r\n", b"\n"), HEAD + b"\r\n", HEAD + b"\n", b"\r" + HEAD]
)
def test_only_lines_that_end_one_way_are_remembered_whatever_a_parser_took(raw: bytes) -> None:
    heads = HeadCache()
    head = Head(b"POST", b"/v2/models/m/infer", {b"content-length": b"1"})
    heads.remember(HEAD, head, 2)
    assert list(heads.known) == [HEAD]
    heads.remember(raw, head, 2)
    heads.remember(HEAD, head, 3)
    assert list(heads.known) == [HEAD]


@pytest.mark.parametrize("cut", range(1, len(GOOD), 3))
def test_a_remembered_request_may_be_cut_anywhere(
    hosts: tuple[PaperHost, PaperHost], cut: int
) -> None:
    raw, ended = check(hosts, GOOD * 3, cut, cut + len(GOOD), cut + 2 * len(GOOD))
    assert (count(raw), raw.count(b"200 OK"), ended) == (3, 3, False)


NEVER_REMEMBERED = {
    "chunked": HEAD.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "an expectation": GOOD.replace(b"Host", b"Expect: 100-continue\r\nHost"),
    "the end of its connection": GOOD.replace(b"Host", b"Connection: close\r\nHost"),
    "HTTP/1.0": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 that is kept": GOOD.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n"),
    "a body packed": GOOD.replace(b"Host", b"Content-Encoding: gzip\r\nHost"),
    "a GET": b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no length": b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty lines before": b"\r\n\r\n" + GOOD,
    "no host": GOOD.replace(b"Host: a\r\n", b""),
    "a long head": GOOD.replace(b"Host", b"X: %b\r\nHost" % (b"x" * HEAD_MAX)),
}  # fmt: skip


@pytest.mark.parametrize("case", NEVER_REMEMBERED)
def test_a_head_that_leaves_something_open_is_judged_each_time(
    hosts: tuple[PaperHost, PaperHost], case: str
) -> None:
    hosts[0].forget()
    check(hosts, NEVER_REMEMBERED[case] + GOOD, 20, 60)
    known = hosts[0].listener.head_cache.known
    assert set(known) <= {HEAD}


LENGTH = b"Content-Length: %d\r\n" % len(BODY)
TWO_WAYS = {
    "both lengths": (LENGTH, LENGTH + b"Transfer-Encoding: chunked\r\n"),
    "both lengths, turned": (LENGTH, b"Transfer-Encoding: chunked\r\n" + LENGTH),
    "length twice": (LENGTH, LENGTH * 2),
    "two lengths": (LENGTH, LENGTH + b"Content-Length: 0\r\n"),
    "a list of lengths": (LENGTH, b"Content-Length: 0, %d\r\n" % len(BODY)),
    "signed length": (b"Length: ", b"Length: +"),
    "hex length": (b"Length: ", b"Length: 0x"),
    "negative length": (b"Length: ", b"Length: -"),
    "bare line feed": (b"Host: a\r\n", b"Host: a\n"),
    "bare line feed at the end": (b"\r\n\r\n", b"\r\n\n"),
    "bare carriage return": (b"Host: a\r\n", b"Host: a\r"),
    "carriage return in a value": (b"Host: a", b"Host: a\rb"),
    "folded header": (b"Host: a\r\n", b"Host: a\r\n b\r\n"),
    "folded by a tab": (b"Host: a\r\n", b"Host: a\r\n\tb\r\n"),
    "empty name": (b"Host", b": x\r\nHost"),
    "no colon": (b"Host", b"Xab\r\nHost"),
    "space after a name": (b"Content-Length:", b"Content-Length :"),
    "space before a name": (b"Content-Length:", b" Content-Length:"),
    "null in a value": (b"Host: a", b"Host: a\0"),
    "host twice": (b"Host: a\r\n", b"Host: a\r\nHost: b\r\n"),
    "key twice": (b"Host", b"Slipway-Key: a\r\nslipway-key: b\r\nHost"),
    "nearly chunked": (LENGTH, b"Transfer-Encoding: xchunked\r\n"),
    "identity": (LENGTH, b"Transfer-Encoding: identity\r\n"),
    "chunked with a tab before": (LENGTH, b"Transfer-Encoding:\x0bchunked\r\n"),
}


@pytest.mark.parametrize("case", TWO_WAYS)
@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_smuggled_behind_a_head_that_is_nearly_a_remembered_one(
    hosts: tuple[PaperHost, PaperHost], case: str, whole: bool
) -> None:
    old, new = TWO_WAYS[case]
    assert HEAD.count(old) == 1
    bad = GOOD.replace(old, new)
    cuts = () if whole else range(1, len(GOOD) + len(bad), 7)
    raw, ended = check(hosts, GOOD + bad + CANARY, *cuts)
    assert (count(raw), raw.count(b"HTTP/1.1 200 OK"), raw.count(b"HTTP/1.1 400 ")) == (2, 1, 1)
    assert ended


def test_a_body_that_looks_like_a_request_is_a_body(hosts: tuple[PaperHost, PaperHost]) -> None:
    inside = request(CANARY + GOOD)
    starts = len(inside) - len(GOOD)
    for cuts in ((30, len(inside) - 3, len(inside) + 2), (starts,), (starts, len(inside))):
        raw, _ = check(hosts, inside + GOOD, *cuts)
        assert (count(raw), raw.count(b"400 Bad"), raw.count(b"200 OK")) == (2, 1, 1)


def test_remembered_requests_wait_in_line_like_all_others() -> None:
    waiting: list[Respond] = []

    def hold(head: Head, body: Body, respond: Respond) -> None:
        waiting.append(respond)

    async def run() -> None:
        listener = Listener(hold, Limits(pipelined=4), lambda code: None)
        connection, transport = Connection(listener), PaperTransport()
        connection.connection_made(transport)
        connection.data_received(GOOD)
        assert HEAD in listener.head_cache.known
        for _ in range(9):
            connection.data_received(GOOD)
        assert len(waiting) == 4
        for n in range(10):
            waiting[n](Response(200, b"%d" % n))
            await asyncio.sleep(0)
        assert re.findall(rb"\r\n\r\n(\d)", transport.written) == [b"%d" % n for n in range(10)]

    asyncio.run(run())


PIECES = st.sampled_from(
    [
        GOOD, GOOD, GOOD, GOOD[: len(HEAD)], BODY, BODY[:10], b"\r\n", b"\n", b"\r", b"\r\n\r\n",
        b" ", b"0\r\n\r\n", CANARY, request(b""), request(BODY, headers=["X: y"]),
        request(BODY, headers=["Connection: keep-alive"]), request(BODY, len(BODY)),
        request(BODY, path="/v2/models/n/infer"), request(BODY, method="PUT"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), GOOD.replace(b"\r\n", b"\n"),
        *(GOOD.replace(old, new) for old, new in TWO_WAYS.values()),
        *(each for name, each in NEVER_REMEMBERED.items() if name != "an expectation"),
    ]
)  # fmt: skip
CUTS = st.lists(st.integers(0, 2000), max_size=4)


@settings(max_examples=80, deadline=None)
@given(pieces=st.lists(PIECES, min_size=1, max_size=7), cuts=CUTS)
@example(pieces=[b"\r\n", GOOD, b"\r\n", GOOD], cuts=[1, 2])
@example(pieces=[GOOD] * 7, cuts=[])
def test_any_requests_in_a_row_cut_anywhere_get_the_same_with_and_without_memory(
    hosts: tuple[PaperHost, PaperHost], pieces: list[bytes], cuts: list[int]
) -> None:
    check(hosts, b"".join(pieces), *cuts)


@settings(max_examples=80, deadline=None)
@given(at=st.integers(0, len(HEAD)), gone=st.integers(0, 3), put=st.binary(max_size=3), cuts=CUTS)
def test_any_change_of_a_remembered_head_gets_what_llhttp_says(
    hosts: tuple[PaperHost, PaperHost], at: int, gone: int, put: bytes, cuts: list[int]
) -> None:
    changed = HEAD[:at] + put + HEAD[at + gone :] + BODY
    check(hosts, GOOD + changed + GOOD, *cuts)


def test_the_memory_of_heads_is_bounded(hosts: tuple[PaperHost, PaperHost]) -> None:
    host = hosts[0]
    host.forget()
    most = 0
    for n in range(HEADS_MAX + 20):
        host.talk(request(BODY, headers=[f"X-{n}: {'x' * 100}"]))
        most = max(most, len(host.listener.head_cache.known))
    assert most == HEADS_MAX
    assert max(map(len, host.listener.head_cache.known)) <= HEAD_MAX


class Keys:
    """Knows one secret until it is changed."""

    def __init__(self) -> None:
        self.generation = 0
        self.callers = {b"Bearer one": Caller("one", models=frozenset({"m"}))}

    def identify(self, authorization: bytes | None) -> Caller:
        if authorization not in self.callers:
            raise RequestRefused("unauthenticated", "who are you?")
        return self.callers[authorization]


def test_a_key_that_is_taken_back_opens_no_remembered_head() -> None:
    keys = Keys()
    host = PaperHost(make_contract(x="FP32"), make_contract("n", x="FP32"), guard=keys)
    asked: dict[str, Any] = {"body": BODY, "headers": ["Authorization: Bearer one"]}
    other = {**asked, "path": "/v2/models/n/infer"}
    assert [host.ask(**asked)[0] for _ in range(3)] == [200] * 3
    assert [host.ask(**other)[0] for _ in range(3)] == [403] * 3
    keys.callers[b"Bearer one"] = Caller("one", models=frozenset({"n"}))
    keys.generation += 1
    assert [host.ask(**asked)[0] for _ in range(3)] == [403] * 3
    assert [host.ask(**other)[0] for _ in range(3)] == [200] * 3
    keys.callers = {}
    keys.generation += 1
    assert [host.ask(**asked)[0] for _ in range(3)] == [401] * 3
    host.close()


def test_a_key_that_expires_opens_no_remembered_head() -> None:
    keys = Keys()
    with closing(PaperHost(make_contract(x="FP32"), guard=keys)) as host:
        asked: dict[str, Any] = {"body": BODY, "headers": ["Authorization: Bearer one"]}
        assert [host.ask(**asked)[0] for _ in range(3)] == [200] * 3
        object.__setattr__(keys.callers[b"Bearer one"], "expires", 1.0)  # as time would
        assert [host.ask(**asked)[0] for _ in range(2)] == [401] * 2


def test_a_model_that_is_gone_is_not_found_by_a_remembered_head(
    hosts: tuple[PaperHost, PaperHost],
) -> None:
    host = hosts[0]
    before = host.core.models
    assert [host.ask(BODY)[0] for _ in range(2)] == [200] * 2
    host.core.models = {}
    assert [host.ask(BODY)[0] for _ in range(2)] == [404] * 2
    host.core.models = before
    assert host.ask(BODY)[0] == 200


def test_empty_lines_between_remembered_requests_never_add_up_to_a_refusal(
    hosts: tuple[PaperHost, PaperHost],
) -> None:
    raw, ended = hosts[0].talk(*[GOOD, b"\r\n" * 100] * 400)
    assert (raw.count(b"200 OK"), ended) == (400, False)


def test_a_connection_that_was_used_before_the_first_look_at_deadlines_may_idle() -> None:
    host = PaperHost(make_contract(x="FP32"))

    async def run() -> bool:
        connection, transport = Connection(host.listener), PaperTransport()
        connection.connection_made(transport)
        for _ in range(4):
            connection.data_received(GOOD)
            await asyncio.sleep(0.001)
        now = host.loop.time()
        host.listener.expire(now + host.listener.limits.idle_s - 2)
        early = transport.ended
        host.listener.expire(now + host.listener.limits.idle_s + 2)
        return (early, transport.ended) == (False, True)

    host.loop.time = lambda loop=host.loop, real=host.loop.time: real() + 1e6  # type: ignore[method-assign,misc]
    assert host.loop.run_until_complete(run())
    host.close()
