"""What bodies may take together, and that nothing of a cut upload stays."""

import asyncio
import gc
import gzip
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import h2.config
import h2.connection
import h2.settings
import httptools
import numpy as np
import pytest

from slipway.host.answer.call import Call, Cancellable
from slipway.host.engine.job import Job
from slipway.host.request.body_memory import BodyAccount, BodyMemory
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.grpc.connection import GrpcConnection
from slipway.host.wire.grpc.schema import SERVICE
from slipway.host.wire.grpc.stream import Stream
from slipway.host.wire.http.connection import Connection, Listener, ResponseSlot
from slipway.host.wire.http.exchange import Body, Head, Limits, Respond, Response
from tests.grpc_host import KeyGuard, make_request
from tests.paper_host import PaperTransport, SocketHost, make_contract

ROWS: Final = 30_000
VALUES: Final = np.random.default_rng(0).random((ROWS, 2), dtype=np.float32)
JSON: Final = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%d,2],"data":[%b]}]}' % (
    ROWS,
    b",".join(b"%.7f" % value for value in VALUES.reshape(-1)),
)
SMALL: Final = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'

PARTS: Final = (
    *(Connection, ResponseSlot, httptools.HttpRequestParser),
    *(GrpcConnection, Stream, Call, Job),
)
"""What a connection and its requests are made of."""

CUTS: Final = 30
"""Uploads of each kind."""


@pytest.fixture
def make_host() -> Iterator[Callable[..., SocketHost]]:
    hosts: list[SocketHost] = []

    def make(**parts: Any) -> SocketHost:
        hosts.append(SocketHost(make_contract(x="FP32", max_rows=ROWS), **parts))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(make_host: Callable[..., SocketHost]) -> SocketHost:
    return make_host(memory=BodyMemory(3_000_000))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def post(body: bytes, *headers: bytes) -> bytes:
    lines = (b"POST /v2/models/m/infer HTTP/1.1", b"Host: a", *headers)
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", b"")) + body


def chunked(body: bytes) -> bytes:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [body[start : start + 5000] for start in range(0, len(body), 5000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def message(rows: int) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 2]}
    raw = VALUES[:rows].tobytes()
    data: bytes = make_request(inputs=[tensor], raw_input_contents=[raw]).SerializeToString()
    return data


def grpc(rows: int = ROWS, encoding: str = "") -> bytes:
    """Return all that a client sends that makes one call."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=False))
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    client.increment_flow_control_window(2**30)  # the answer is as large as the request
    client.remote_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = 2**30
    client.remote_settings.acknowledge()
    client.outbound_flow_control_window = 2**30
    headers = {":method": "POST", ":scheme": "http", ":authority": "x",
               ":path": f"/{SERVICE}/ModelInfer", "content-type": "application/grpc"}  # fmt: skip
    if encoding:
        headers["grpc-encoding"] = encoding
    client.send_headers(1, list(headers.items()))
    data = message(rows)
    data = gzip.compress(data, 1) if encoding else data
    framed = bytes([bool(encoding)]) + len(data).to_bytes(4, "big") + data
    for start in range(0, len(framed), 16_384):
        client.send_data(1, framed[start : start + 16_384])
    client.end_stream(1)
    sent: bytes = client.data_to_send()
    return sent


UPLOADS: Final[dict[str, Callable[[], bytes]]] = {
    "length": lambda: post(JSON),
    "chunked": lambda: chunked(JSON),
    "gzip": lambda: post(gzip.compress(JSON, 1), b"Content-Encoding: gzip"),
    "pipelined": lambda: post(SMALL) * 3000,
    "grpc": grpc,
    "grpc gzip": lambda: grpc(encoding="gzip"),
}


def connect(host: SocketHost, kind: str) -> socket.socket:
    port = host.grpc_port if kind.startswith("grpc") else host.port
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def reset_at_close(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def count_parts() -> Counter[str]:
    found = (type(each) for each in gc.get_objects() if type(each) in PARTS)
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in found)


def until(true: Callable[[], bool], timeout_s: float = 60) -> bool:
    """Wait for a condition; return whether it came."""
    end = time.monotonic() + timeout_s
    while not (met := true()) and time.monotonic() < end:
        time.sleep(0.01)
    return met


def hear(client: socket.socket, *words: bytes) -> bool:
    """Read until all words have come; return whether they did before the server closed."""
    data = b""
    while not all(word in data for word in words) and (more := client.recv(65_536)):
        data += more
    return all(word in data for word in words)


def answered(client: socket.socket, kind: str) -> bool:
    return hear(client, b"slipway-version" if kind.startswith("grpc") else b"HTTP/1.1 200 ")


@pytest.mark.parametrize("kind", UPLOADS)
def test_nothing_of_a_cut_upload_stays(host: SocketHost, no_collector: None, kind: str) -> None:
    random, data = Random(kind), UPLOADS[kind]()
    before = count_parts()
    for n in range(CUTS):
        client = connect(host, kind)
        client.sendall(data[: random.randrange(1, len(data))])
        if n % 2:
            reset_at_close(client)
        client.close()
    assert until(lambda: host.call(lambda: len(host.listener.connections)) == 0)
    assert until(lambda: host.call(lambda: len(host._grpc._connections)) == 0)
    assert until(lambda: host.call(count_parts) == before), host.call(count_parts) - before
    assert host.memory.held_bytes == 0
    assert host.problems == []


@pytest.mark.parametrize("kind", UPLOADS)
def test_nothing_of_an_answered_upload_stays(
    host: SocketHost, no_collector: None, kind: str
) -> None:
    before = count_parts()
    data = UPLOADS[kind]() if kind != "pipelined" else post(SMALL) * 20
    for _ in range(3):
        with connect(host, kind) as client:
            client.sendall(data)
            assert answered(client, kind)
            assert until(lambda: host.memory.held_bytes == 0)
    assert until(lambda: host.call(count_parts) == before), host.call(count_parts) - before


@pytest.mark.parametrize("kind", ["length", "chunked", "grpc"])
def test_open_uploads_beyond_the_room_are_refused_and_small_requests_answered(
    host: SocketHost, kind: str
) -> None:
    held = []
    data, part = UPLOADS[kind](), 200_000
    for _ in range(host.memory.size_bytes // part + 1):
        held.append(connect(host, kind))
        held[-1].sendall(data[:part])
    free = host.memory.size_bytes - part
    assert until(lambda: host.memory.held_bytes > free), host.memory.held_bytes
    with connect(host, "length") as client:
        client.sendall(post(JSON))
        assert hear(client, b"HTTP/1.1 503 ", b"Retry-After: 1", b"queue_full")
    with connect(host, "grpc") as client:
        client.sendall(grpc())
        assert hear(client, b"queue_full")
    with connect(host, "length") as client:
        for body in (post(SMALL)[:-10], SMALL[-10:]):  # in two pieces, as many clients send it
            client.sendall(body)
        assert answered(client, "length")
    with connect(host, "grpc") as client:
        client.sendall(grpc(rows=1))
        assert answered(client, "grpc")
    assert host.memory.held_bytes <= host.memory.size_bytes
    for each in held:
        each.close()
    assert until(lambda: host.memory.held_bytes == 0), host.memory.held_bytes
    with connect(host, "length") as client:
        client.sendall(post(JSON))
        assert answered(client, "length")


def test_an_upload_that_takes_too_long_gives_its_room_back(
    make_host: Callable[..., SocketHost],
) -> None:
    limits = Limits(body_s=0.01, linger_s=0.01)
    host = make_host(limits=limits)
    with connect(host, "length") as client:
        client.sendall(post(JSON)[:200_000])
        assert hear(client, b" 408 ")
        assert until(lambda: host.memory.held_bytes == 0)


def test_a_body_counts_until_its_request_is_answered() -> None:
    memory = BodyMemory(1_000_000)

    async def conversation() -> tuple[int, int]:
        waiting: list[Respond] = []

        def handle(head: Head, body: Body, respond: Respond) -> Cancellable | None:
            waiting.append(respond)
            return None

        connection = Connection(Listener(handle, Limits(), [].append, memory=memory))
        connection.connection_made(PaperTransport())
        connection.data_received(post(JSON))
        held = memory.held_bytes
        waiting[0](Response(200, b""))
        return held, memory.held_bytes

    held, after = asyncio.run(conversation())
    assert (held, after) == (len(JSON) - memory.free_bytes, 0)


def test_a_connection_that_is_lost_with_work_under_way_leaves_nothing(
    make_host: Callable[..., SocketHost], no_collector: None
) -> None:
    host = make_host()
    before = count_parts()
    loaded = host.core.models["m"].stable
    assert loaded is not None
    jobs: list[Job] = []
    loaded.engine.submit = jobs.append  # type: ignore[method-assign]  # it never answers
    for kind in ("length", "chunked", "grpc"):
        with connect(host, kind) as client:
            client.sendall(UPLOADS[kind]())
            assert until(lambda: len(jobs) == 1)
            assert host.memory.held_bytes > 0
            reset_at_close(client)
        assert until(lambda: jobs[0].cancelled)
        assert until(lambda: host.memory.held_bytes == 0)
        jobs.clear()
    assert until(lambda: host.call(count_parts) == before), host.call(count_parts) - before


def test_a_strangers_connection_leaves_nothing(
    make_host: Callable[..., SocketHost], no_collector: None
) -> None:
    host = make_host(guard=KeyGuard())
    before = count_parts()
    for kind in ("length", "grpc"):
        with connect(host, kind) as client:
            client.sendall(UPLOADS[kind]())
            assert hear(client, b"unauthenticated")
    assert until(lambda: host.call(count_parts) == before), host.call(count_parts) - before
    assert host.memory.held_bytes == 0


def test_accounts_add_up_whatever_is_taken_and_given_back() -> None:
    random = Random(1)
    memory = BodyMemory(size_bytes=1000, free_bytes=100)
    accounts = [(BodyAccount(memory), [0]) for _ in range(20)]
    codes: list[str] = []
    for _ in range(20_000):
        account, taken = random.choice(accounts)
        size = random.randrange(200)
        if random.random() < 0.5:
            try:
                account.take(size)
                taken[0] += size
            except RequestRefused as refusal:
                codes.append(refusal.code)
        else:
            size = min(size, taken[0])
            account.give_back(size)
            taken[0] -= size
        assert memory.held_bytes == sum(max(0, n - 100) for _, (n,) in accounts) <= 1000
    assert set(codes) == {"queue_full"}
