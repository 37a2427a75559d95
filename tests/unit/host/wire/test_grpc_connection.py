"""HTTP/2 as gRPC needs it: h2 is the client, paper is the wire."""

import struct
from collections import Counter
from random import Random

import h2.config
import h2.connection
import h2.events
import pytest

from slipway.host.guard.caller import Caller, OpenGuard
from slipway.host.request.body_memory import BodyMemory
from slipway.host.wire.grpc import frames
from slipway.host.wire.grpc.connection import GrpcConnection
from slipway.host.wire.grpc.frames import frame
from slipway.host.wire.grpc.head import HeadReader
from slipway.host.wire.grpc.schema import HEALTH, REFLECTION, SERVICE
from tests.grpc_host import KeyGuard, make_request
from tests.grpc_wire import INFER, LIVE, Client, Wire, on_wire


@on_wire
def test_a_call_is_answered() -> None:
    client = Client()
    assert client.call() == {"grpc-status": "0"}
    data = [e.data for e in client.events if isinstance(e, h2.events.DataReceived)]
    assert data == [b"\0\0\0\0\2\x08\1"]
    assert not client.side.streams


@on_wire
def test_bytes_may_come_one_at_a_time() -> None:
    client = Client()
    stream = client.begin()
    client.h2.send_data(stream, b"\0\0\0\0\0", end_stream=True)
    for byte in client.h2.data_to_send():
        client.side.data_received(bytes([byte]))
    client.exchange()
    client.read()
    assert client.end(stream) == {"grpc-status": "0"}


@on_wire
def test_a_message_may_come_in_many_frames_and_end_later() -> None:
    client = Client()
    stream = client.begin()
    for part in (b"\0\0", b"\0", b"\0\0"):
        client.h2.send_data(stream, part)
    client.exchange()
    assert client.end(stream) == {}
    client.h2.end_stream(stream)
    client.exchange()
    assert client.end(stream) == {"grpc-status": "0"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, "3", "bad_request"),
        (b"\0\0\0", {}, "3", "bad_request"),
        (b"\0\0\0\0\2a", {}, "3", "bad_request"),
        (b"\0\0\0\0\0" * 2, {}, "3", "bad_request"),
        (b"\0\0\0\0\1a", {}, "0", None),
        (b"\1\0\0\0\0", {}, "3", "bad_request"),
        (b"\2\0\0\0\0", {"grpc_encoding": "gzip"}, "3", "bad_request"),
        (b"\0\0\0\0\0", {"grpc_encoding": "snappy"}, "12", "method_not_allowed"),
        (b"\0\0\0\0\0", {"grpc_encoding": "gzip"}, "0", None),
        (b"\0\xff\xff\xff\xff", {}, "8", "too_large"),
        (b"\0\0\0\0\0", {"grpc_timeout": "1"}, "3", "bad_request"),
        (b"\0\0\0\0\0", {"grpc_timeout": "-1S"}, "3", "bad_request"),
        (b"\0\0\0\0\0", {"grpc_timeout": "123456789S"}, "3", "bad_request"),
        (b"\0\0\0\0\0", {"grpc_timeout": "99999999H"}, "0", None),
        (b"\0\0\0\0\0", {"content_type": "application/json"}, "3", "unsupported_media_type"),
        (b"\0\0\0\0\0", {"content_type": "application/grpc+json"}, "3", "unsupported_media_type"),
        (b"\0\0\0\0\0", {"content_type": "application/grpc+proto"}, "0", None),
        (b"\0\0\0\0\0", {":method": "GET"}, "3", "bad_request"),
        (b"\0\0\0\0\0", {"x": "a" * 17_000}, "8", "headers_too_large"),
        (b"\0\0\0\0\0", {"slipway_key": "é"}, "0", None),
    ],
)
@on_wire
def test_a_wrong_call_is_refused_alone(
    body: bytes, headers: dict[str, str], status: str, code: str | None
) -> None:
    client = Client()
    path = LIVE if body[4:] != b"\1a" else f"/{SERVICE}/ServerReady"
    end = client.call(path, body, **headers)
    assert (end["grpc-status"], end.get("slipway-code")) == (status, code)
    assert client.call() == {"grpc-status": "0"}


@pytest.mark.parametrize("path", ["", "/", "/\xff\xfe/x", "/x" * 4000, LIVE + "/", LIVE.lower()])
@on_wire
def test_there_is_nothing_at_any_other_path(path: str) -> None:
    client = Client()
    assert client.call(path)["grpc-status"] == "12"
    assert client.call() == {"grpc-status": "0"}


@on_wire
def test_a_stranger_is_refused_before_the_message_comes() -> None:
    client = Client(KeyGuard(good=Caller("good")))
    for path in (*client.service.methods, "/nowhere"):
        if path == f"/{HEALTH}/Check":
            continue
        stream = client.begin(path)
        client.exchange()
        assert client.end(stream)["grpc-status"] == "16", path
    assert not client.side.streams


@on_wire
def test_only_the_hosts_own_health_is_for_everyone() -> None:
    client = Client(KeyGuard(good=Caller("good")))
    check = f"/{HEALTH}/Check"
    assert client.call(check)["grpc-status"] == "0"
    assert client.call(check, b"\0\0\0\0\3\x0a\1m")["grpc-status"] == "16"
    assert client.call(check, b"\0\0\0\0\3\x0a\1m", authorization="Bearer good") == {
        "grpc-status": "0"
    }


@on_wire
def test_a_header_that_counts_comes_once() -> None:
    client = Client()
    stream = client.h2.get_next_available_stream_id()
    twice = [(b"authorization", b"a")] * 2
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", LIVE.encode()), *twice]
    client.h2.send_headers(stream, fields, end_stream=True)
    client.exchange()
    assert client.end(stream)["slipway-code"] == "bad_request"


@on_wire
def test_a_callers_rights_are_looked_up_again_when_keys_change() -> None:
    guard = KeyGuard(good=Caller("good"))
    client = Client(guard)
    for _ in range(3):
        assert client.call(authorization="Bearer good") == {"grpc-status": "0"}
    guard.callers.clear()
    guard.generation += 1
    assert client.call(authorization="Bearer good")["grpc-status"] == "16"


@on_wire
def test_equal_headers_are_judged_once() -> None:
    heads = HeadReader(OpenGuard(), 16_384)
    first = heads.read(b"\x83\x86\x84\x41\x01x")
    kept = heads.read(b"\x83\x86\x84\xbe")
    assert heads.read(b"\x83\x86\x84\xbe") is kept
    assert kept is not first
    heads.read(b"\x40\x01y\x01z")  # the table has moved on: the same bytes mean something else
    assert heads.read(b"\x83\x86\x84\xbe") is not kept


def sent(client: Client, data: bytes) -> int | None:
    client.side.data_received(data)
    return client.gone()


BROKEN = {
    "a frame over the limit": struct.pack(">HBBBI", 0x40, 1, 77, 0, 0) + bytes(0x4001),
    "data before its call": frame(frames.DATA, 0, 1, b"x"),
    "an even stream": frame(frames.HEADERS, 4, 2, b"\x83"),
    "stream zero": frame(frames.HEADERS, 4, 0, b"\x83"),
    "headers that are none": frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"),
    "an index beyond the table": frame(frames.HEADERS, 4, 1, b"\xfe"),
    "a table that is too large": frame(frames.HEADERS, 4, 1, b"\x3f\xff\xff\xff\x0f"),
    "a bare continuation": frame(frames.CONTINUATION, 4, 1, b"\x83"),
    "something within headers": frame(frames.HEADERS, 0, 1, b"\x83") + frame(6, 0, 0, bytes(8)),
    "data within headers": frame(frames.HEADERS, 0, 1, b"\x83") + frame(0, 0, 1, b"x"),
    "headers of two streams": frame(frames.HEADERS, 0, 1) + frame(9, 4, 3),
    "padding beyond its frame": frame(frames.HEADERS, 12, 1, b"\x05\x83"),
    "a push": frame(frames.PUSH_PROMISE, 4, 1, bytes(4)),
    "a short ping": frame(frames.PING, 0, 0, bytes(7)),
    "crooked settings": frame(frames.SETTINGS, 0, 0, bytes(5)),
    "a window beyond measure": frame(frames.SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
    "an empty grant": frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)),
    "a grant beyond measure": frame(8, 0, 0, struct.pack(">I", 2**31 - 1)),
    "a reset of nothing": frame(frames.RST_STREAM, 0, 9, bytes(4)),
    "endless headers": frame(1, 0, 1, b"\x83") + frame(9, 0, 1, b"\x83") * 100,
    "a large block": frame(1, 0, 1, bytes(16_384)) + frame(9, 0, 1, bytes(16_384)) * 4,
    "a header bomb": frame(1, 4, 1, b"\x40\x01a\x7f\x80\x1e" + bytes(3967) + b"\xbe" * 10_000),
    "pings without end": frame(frames.PING, 0, 0, bytes(8)) * 1100,
    "settings without end": frame(frames.SETTINGS, 0, 0) * 1100,
    "unknown frames without end": frame(77, 0, 0) * 1100,
    "priorities without end": frame(frames.PRIORITY, 0, 1, bytes(5)) * 1100,
}


@pytest.mark.parametrize("case", BROKEN)
@on_wire
def test_who_breaks_the_protocol_is_sent_away(case: str) -> None:
    client = Client()
    assert sent(client, BROKEN[case]) is not None


@pytest.mark.parametrize(
    "late",
    [frame(frames.DATA, 0, 1, b"x"), frame(frames.HEADERS, 5, 1, b"\x83")],
    ids=["data", "headers"],
)
@on_wire
def test_nothing_comes_after_a_calls_end(late: bytes) -> None:
    client = Client()
    client.engine.hold = True
    body = make_request().SerializeToString()
    stream = client.begin(INFER)
    client.h2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    client.exchange()
    assert client.core.in_flight == 1
    assert sent(client, late) == frames.STREAM_CLOSED
    assert client.core.in_flight == 0


@on_wire
def test_who_does_not_greet_is_sent_away() -> None:
    client = Client()
    other = GrpcConnection(client.service, client.limits, client.members, client.memory)
    wire = Wire()
    other.connection_made(wire)
    other.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.closed


@on_wire
def test_calls_that_are_reset_at_once_end_the_connection() -> None:
    client = Client(burst=100)
    begun = frame(frames.HEADERS, 4, 1, b"\x83\x86\x84")
    flood = b"".join(
        begun[:5] + n.to_bytes(4, "big") + begun[9:] + frames.reset(n, frames.CANCEL)
        for n in range(1, 300, 2)
    )
    client.side.data_received(flood)
    assert bytes(client.wire.written).endswith(frames.ENHANCE_YOUR_CALM.to_bytes(4, "big"))
    assert (client.wire.closed, client.side.streams) == (True, {})


@on_wire
def test_calls_that_are_given_up_after_a_while_end_nothing() -> None:
    client = Client(burst=10, early_s=0.0)
    for _ in range(50):
        stream = client.begin()
        client.h2.reset_stream(stream)
        client.exchange()
    assert client.call() == {"grpc-status": "0"}


@on_wire
def test_a_client_that_gives_up_frees_its_place() -> None:
    client = Client()
    client.engine.hold = True
    body = make_request().SerializeToString()
    stream = client.begin(INFER)
    client.h2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    client.exchange()
    assert (client.core.in_flight, len(client.engine.jobs)) == (1, 1)
    client.h2.reset_stream(stream)
    client.exchange()
    assert (client.core.in_flight, client.engine.jobs[0].cancelled) == (0, True)


@on_wire
def test_a_connection_that_is_lost_frees_all_its_places() -> None:
    client = Client()
    client.engine.hold = True
    body = make_request().SerializeToString()
    for _ in range(5):
        stream = client.begin(INFER)
        client.h2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    client.exchange()
    assert client.core.in_flight == 5
    client.side.connection_lost(None)
    assert (client.core.in_flight, client.members) == (0, set())


@on_wire
def test_more_calls_than_allowed_are_refused_without_harm() -> None:
    client = Client(streams=2)
    client.begin()
    client.begin()
    client.exchange()
    third = frame(frames.HEADERS, 4, 5, b"\x83\x86\x84")
    client.side.data_received(third)
    assert bytes(client.wire.written) == frames.reset(5, frames.REFUSED_STREAM)
    assert list(client.side.streams) == [1, 3]


@on_wire
def test_messages_that_never_end_are_bounded_over_all_connections() -> None:
    client = Client(memory=BodyMemory(1000, free_bytes=0))
    first, second = client.begin(), client.begin()
    client.h2.send_data(first, b"\0\0\1\0\0" + bytes(800))
    client.h2.send_data(second, b"\0\0\1\0\0" + bytes(800))
    client.exchange()
    assert client.end(first) == {}
    assert client.end(second)["slipway-code"] == "queue_full"
    client.h2.reset_stream(first)
    client.exchange()
    assert client.memory.held_bytes == 0


@on_wire
def test_an_answer_waits_for_the_clients_window_and_comes_whole() -> None:
    client = Client(message_bytes=2**20)
    client.h2.update_settings({4: 1000})  # initial window
    client.exchange()
    client.read()
    rows = 1000
    body = make_request(
        inputs=[{"name": "x", "datatype": "FP32", "shape": [rows, 2]}],
        raw_input_contents=[bytes(rows * 8)],
    ).SerializeToString()
    client.engine.submit = lambda job: (client.engine.jobs.append(job), client.engine.run())[0]  # type: ignore[method-assign]
    stream = client.begin(INFER)
    client.h2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    client.exchange()

    def got() -> int:
        return sum(len(e.data) for e in client.events if isinstance(e, h2.events.DataReceived))

    assert got() == 1000
    assert list(client.side.blocked) == [stream]
    client.h2.increment_flow_control_window(50_000, stream)
    client.exchange()
    assert got() > rows * 8
    assert client.end(stream)["grpc-status"] == "0"
    assert not client.side.blocked


@on_wire
def test_time_limits_end_what_does_not_go_on() -> None:
    client = Client(body_s=10, idle_s=100, ping_s=50, ping_timeout_s=5)
    stream = client.begin()
    client.exchange()
    now = client.side.now()
    client.side.expire(now + 9)
    client.read()
    assert client.end(stream) == {}
    client.side.expire(now + 11)
    client.read()
    assert client.end(stream)["slipway-code"] == "client_too_slow"
    client.side.expire(now + 99)
    assert not client.wire.closed
    client.side.expire(now + 101)
    assert client.gone() == frames.NO_ERROR


@on_wire
def test_a_dead_client_with_an_open_call_is_noticed() -> None:
    client = Client(body_s=1000, ping_s=50, ping_timeout_s=5)
    client.begin()
    client.exchange()
    now = client.side.now()
    client.side.expire(now + 51)
    assert client.wire.written[3] == frames.PING
    client.side.expire(now + 60)
    assert client.wire.aborted


@on_wire
def test_a_client_that_does_not_greet_or_read_is_let_go() -> None:
    client = Client(handshake_s=10, write_s=20)
    silent, wire = (
        GrpcConnection(client.service, client.limits, client.members, client.memory),
        Wire(),
    )
    silent.connection_made(wire)
    silent.expire(silent.now() + 11)
    assert wire.aborted
    client.side.pause_writing()
    assert not client.wire.reading
    client.side.expire(client.side.now() + 21)
    assert client.wire.aborted


@on_wire
def test_a_client_beyond_the_limit_is_not_taken() -> None:
    client = Client(connections=1)
    extra, wire = (
        GrpcConnection(client.service, client.limits, client.members, client.memory),
        Wire(),
    )
    extra.connection_made(wire)
    assert wire.aborted


@on_wire
def test_a_draining_connection_answers_what_it_took_and_closes() -> None:
    client = Client()
    stream = client.begin()
    client.exchange()
    client.side.drain()
    late = frame(frames.HEADERS, 4, stream + 2, b"\x83\x86\x84")
    client.side.data_received(late)
    assert frames.reset(stream + 2, frames.REFUSED_STREAM) in bytes(client.wire.written)
    client.side.data_received(frame(frames.DATA, 1, stream, b"\0\0\0\0\0"))
    assert b"grpc-status\x010" in bytes(client.wire.written)
    assert client.wire.closed


@on_wire
def test_a_second_message_is_refused_before_the_call_ends() -> None:
    client = Client()
    stream = client.begin()
    client.h2.send_data(stream, b"\0\0\0\0\0")
    client.exchange()
    assert client.end(stream) == {}
    client.h2.send_data(stream, b"\0\0\0\0\0")
    client.exchange()
    assert client.end(stream)["slipway-code"] == "bad_request"


@on_wire
def test_every_refusal_is_counted() -> None:
    client = Client()
    codes: list[str] = []
    client.side.refused = codes.append
    client.call("/nowhere")
    client.call(INFER)
    assert codes == ["method_not_allowed", "model_not_found"]


@on_wire
def test_a_defect_of_ours_is_told_in_fixed_words() -> None:
    client = Client()
    client.core.models = None  # type: ignore[assignment]
    end = client.call(f"/{HEALTH}/Check", b"\0\0\0\0\3\x0a\1m")
    assert (end["grpc-status"], end["grpc-message"]) == ("13", "the host failed on this request")


@on_wire
def test_reflection_answers_each_message_until_the_client_ends() -> None:
    client = Client()
    stream = client.begin(f"/{REFLECTION}/ServerReflectionInfo")
    ask = b"\0\0\0\0\3\x3a\1x"
    for _ in range(2):
        client.h2.send_data(stream, ask)
        client.exchange()
    data = [e.data for e in client.events if isinstance(e, h2.events.DataReceived)]
    assert len(data) == 2
    assert SERVICE.encode() in data[0]
    client.h2.end_stream(stream)
    client.exchange()
    assert client.end(stream) == {"grpc-status": "0"}


def mangle(random: Random, data: bytes) -> bytes:
    """Change, drop, repeat or add a few bytes."""
    made = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(made) + 1)
        kind = random.randrange(4)
        if kind == 0 and at < len(made):
            made[at] = random.randrange(256)
        elif kind == 1:
            del made[at : at + random.randint(1, 9)]
        elif kind == 2:
            made[at:at] = made[at : at + random.randint(1, 40)]
        else:
            made[at:at] = random.randbytes(random.randint(1, 9))
    return bytes(made)


@on_wire
def test_mangled_bytes_end_at_most_their_own_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    random = Random(7)
    client = Client()
    client.engine.submit = lambda job: (client.engine.jobs.append(job), client.engine.run())[0]  # type: ignore[method-assign]
    body = make_request().SerializeToString()
    path = INFER.encode()
    block = b"\x83\x86\x44" + bytes([len(path)]) + path + b"\x0f\x10\x10application/grpc"
    good = b"".join(
        (
            frame(frames.SETTINGS, 0, 0, struct.pack(">HI", 4, 70_000)),
            frame(frames.HEADERS, 4, 1, block),
            frame(frames.DATA, 1, 1, b"\0" + len(body).to_bytes(4, "big") + body),
            frame(frames.HEADERS, 0, 3, block[:9]),
            frame(frames.CONTINUATION, 4, 3, block[9:]),
            frame(frames.WINDOW_UPDATE, 0, 3, struct.pack(">I", 7)),
            frame(frames.DATA, 8, 3, b"\2\0\0\0\0\0\0\0"),
            frame(frames.PING, 0, 0, bytes(8)),
            frame(frames.RST_STREAM, 0, 3, bytes(4)),
        )
    )
    for _ in range(1500):
        side, wire = (
            GrpcConnection(client.service, client.limits, client.members, client.memory),
            Wire(),
        )
        side.connection_made(wire)
        data = frames.PREFACE + mangle(random, good)
        half = random.randrange(len(data))
        side.data_received(data[:half])
        side.data_received(data[half:])
        side.connection_lost(None)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert (client.core.in_flight, client.memory.held_bytes, len(client.members)) == (0, 0, 1)
    assert client.call() == {"grpc-status": "0"}


@on_wire
def test_mangled_messages_are_answered_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    random = Random(7)
    client = Client()
    client.engine.submit = lambda job: (client.engine.jobs.append(job), client.engine.run())[0]  # type: ignore[method-assign]
    typed = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, 2],
        "contents": {"fp32_contents": [1, 2]},
    }
    parameters = {"priority": {"int64_param": 1}, "timeout": {"uint64_param": 10**6}}
    goods = [
        make_request(id="1", outputs=[{"name": "y_x"}], parameters=parameters),
        make_request(inputs=[typed], raw_input_contents=[]),
    ]
    ends = Counter[str]()
    for n in range(1000):
        body = mangle(random, goods[n % 2].SerializeToString())
        ends[client.call(INFER, b"\0" + len(body).to_bytes(4, "big") + body)["grpc-status"]] += 1
    assert set(ends) == {"0", "3", "5"}
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
