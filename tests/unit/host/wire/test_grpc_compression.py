"""Compressed messages: what is taken, what is sent, and what a bomb does."""

import gzip
import random
import zlib
from collections.abc import Callable
from typing import Any

import h2.events
import numpy as np
import pytest

from slipway.host.guard.caller import Caller
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.grpc.envelope import LARGEST, SMALLEST, open_envelope, seal
from slipway.host.wire.grpc.schema import HEALTH, REFLECTION, message_class
from tests.grpc_host import KeyGuard, make_request
from tests.grpc_wire import INFER, LIVE, Client, on_wire

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
BOTH = pytest.mark.parametrize("encoding", PACK)
LIMIT = 1_000_000


def put(body: bytes, flag: int = 1) -> bytes:
    """Put bytes behind a message's prefix."""
    return bytes([flag]) + len(body).to_bytes(4, "big") + body


def ask(rows: int) -> bytes:
    """Make a request whose answer has that many rows."""
    values = np.zeros((rows, 2), np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 2]}
    request = make_request(inputs=[tensor], raw_input_contents=[values.tobytes()])
    return bytes(request.SerializeToString())


def infer(client: Client, body: bytes, **headers: str) -> tuple[dict[str, str], bytes]:
    """Call ModelInfer; return the first headers of the answer and its bytes."""
    client.engine.hold = True
    client.call(INFER, body, **headers)
    client.engine.run()
    client.read()
    client.exchange()
    begun = [e for e in client.events if isinstance(e, h2.events.ResponseReceived)]
    data = [e.data for e in client.events if isinstance(e, h2.events.DataReceived)]
    return {k.decode(): v.decode() for k, v in begun[-1].headers or []}, b"".join(data)


def read_rows(message: bytes) -> int:
    return int(message_class("ModelInferResponse").FromString(message).outputs[0].shape[0])


@BOTH
@on_wire
def test_a_compressed_question_is_answered_in_the_same_way(encoding: str) -> None:
    headers, data = infer(
        Client(), put(PACK[encoding](ask(500))), grpc_encoding=encoding,
        grpc_accept_encoding="identity, deflate,gzip",
    )  # fmt: skip
    assert headers["grpc-encoding"] == encoding
    assert headers["grpc-accept-encoding"] == "identity, deflate, gzip"
    assert (data[0], int.from_bytes(data[1:5], "big")) == (1, len(data) - 5)
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}[encoding]
    assert read_rows(unpack(data[5:])) == 500
    assert len(data) < 500


@BOTH
@on_wire
def test_a_message_in_many_frames_is_put_together_before_it_is_unpacked(encoding: str) -> None:
    client = Client()
    stream = client.begin(LIVE, grpc_encoding=encoding)
    for byte in put(PACK[encoding](b"")):
        client.h2.send_data(stream, bytes([byte]))
    client.exchange()
    assert client.end(stream) == {}
    client.h2.end_stream(stream)
    client.exchange()
    assert client.end(stream) == {"grpc-status": "0"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"grpc_accept_encoding": "identity, deflate, gzip"},
        {"grpc_encoding": "identity", "grpc_accept_encoding": "gzip"},
        {"grpc_encoding": "gzip"},
        {"grpc_encoding": "gzip", "grpc_accept_encoding": "identity, deflate"},
        {"grpc_encoding": "gzip", "grpc_accept_encoding": "identity, xgzip"},
    ],
    ids=str,
)
@on_wire
def test_the_answer_is_plain_unless_the_client_sends_and_takes_the_same(
    headers: dict[str, str],
) -> None:
    packed = headers.get("grpc_encoding") == "gzip"
    body = put(gzip.compress(ask(500))) if packed else put(ask(500), 0)
    begun, data = infer(Client(), body, **headers)
    assert "grpc-encoding" not in begun
    assert begun["grpc-accept-encoding"] == "identity, deflate, gzip"
    assert (data[0], read_rows(data[5:])) == (0, 500)


@on_wire
def test_a_client_that_may_compress_need_not() -> None:
    headers = {"grpc_encoding": "gzip", "grpc_accept_encoding": "gzip"}
    begun, data = infer(Client(), put(ask(1), 0), **headers)
    assert begun["grpc-encoding"] == "gzip"
    assert (data[0], read_rows(data[5:])) == (0, 1)  # so small an answer gains nothing


@pytest.mark.parametrize("size", [0, SMALLEST - 1, LARGEST + 1])
def test_what_gains_nothing_or_takes_long_goes_plain(size: int) -> None:
    assert seal(bytes(size), b"gzip") == put(bytes(size), 0)


@pytest.mark.parametrize("size", [SMALLEST, LARGEST])
def test_what_is_between_goes_compressed(size: int) -> None:
    sent = seal(bytes(size), b"gzip")
    assert sent == put(sent[5:])
    assert gzip.decompress(sent[5:]) == bytes(size)


def test_what_grows_by_it_goes_plain() -> None:
    noise = random.Random(1).randbytes(SMALLEST)
    assert seal(noise, b"deflate") == put(noise, 0)


@on_wire
def test_an_unknown_encoding_is_unimplemented_and_the_known_ones_are_named() -> None:
    client = Client()
    stream = client.begin(LIVE, grpc_encoding="snappy")
    client.h2.send_data(stream, put(b"x"), end_stream=True)
    client.exchange()
    end = client.end(stream)
    assert end["grpc-status"] == "12"
    assert end["grpc-accept-encoding"] == "identity, deflate, gzip"
    assert end["grpc-message"] == "messages may be identity, deflate, gzip"


@BOTH
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_limit_holds_for_what_is_unpacked(encoding: str, extra: int) -> None:
    packed = PACK[encoding](bytes(LIMIT + extra))
    if extra <= 0:
        assert len(open_envelope(1, packed, encoding.encode(), LIMIT)) == LIMIT + extra
        return
    with pytest.raises(RequestRefused, match="a message has more than 1000000 bytes") as refusal:
        open_envelope(1, packed, encoding.encode(), LIMIT)
    assert refusal.value.code == "too_large"


@BOTH
@on_wire
def test_a_bomb_is_refused_and_hurts_no_other_call(encoding: str) -> None:
    client = Client(message_bytes=LIMIT)
    bomb = PACK[encoding](bytes(10 * LIMIT))
    assert len(bomb) < LIMIT / 90
    end = client.call(INFER, put(bomb), grpc_encoding=encoding)
    assert (end["grpc-status"], end["slipway-code"]) == ("8", "too_large")
    assert client.call() == {"grpc-status": "0"}


@BOTH
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: b"",
        lambda packed: packed[:-1],
        lambda packed: packed + b"x",
        lambda packed: packed * 2,
        lambda packed: b"x" + packed,
        lambda packed: packed[:-8] + bytes(8),
    ],
    ids=["nothing", "cut", "longer", "twice", "other", "wrong sum"],
)
@on_wire
def test_what_cannot_be_unpacked_is_refused(encoding: str, damage: Callable[..., bytes]) -> None:
    client = Client()
    end = client.call(LIVE, put(damage(PACK[encoding](b"\x0a\1a"))), grpc_encoding=encoding)
    assert (end["grpc-status"], end["slipway-code"]) == ("3", "bad_request")
    assert end["grpc-message"] == "the message is not what 'grpc-encoding' says"
    assert client.call() == {"grpc-status": "0"}


@on_wire
def test_one_encoding_is_not_the_other() -> None:
    client = Client()
    for said, other in (("gzip", "deflate"), ("deflate", "gzip")):
        end = client.call(LIVE, put(PACK[other](b"")), grpc_encoding=said)
        assert end["slipway-code"] == "bad_request"


@pytest.mark.parametrize("flag", [2, 0x80, 0xFF])
@on_wire
def test_a_flag_is_0_or_1_and_nothing_else(flag: int) -> None:
    client = Client()
    end = client.call(LIVE, put(gzip.compress(b""), flag), grpc_encoding="gzip")
    assert (end["grpc-status"], end["slipway-code"]) == ("3", "bad_request")


@on_wire
def test_a_stranger_has_nothing_unpacked() -> None:
    client = Client(KeyGuard(good=Caller("good")))
    check = f"/{HEALTH}/Check"
    packed = put(gzip.compress(b"\x0a\1m"))
    end = client.call(check, packed, grpc_encoding="gzip")
    assert end["grpc-message"] == "a compressed message needs 'grpc-encoding'"
    end = client.call(check, packed, grpc_encoding="gzip", authorization="Bearer good")
    assert end == {"grpc-status": "0"}
    assert client.call(check, grpc_encoding="gzip") == {"grpc-status": "0"}


@on_wire
def test_each_message_of_a_stream_says_for_itself_whether_it_is_compressed() -> None:
    client = Client()
    question = b"\x3a\1x"  # list_services
    stream = client.begin(f"/{REFLECTION}/ServerReflectionInfo", grpc_encoding="gzip")
    sent = put(gzip.compress(question)) + put(question, 0) + put(gzip.compress(question))
    client.h2.send_data(stream, sent, end_stream=True)
    client.exchange()
    data = b"".join(e.data for e in client.events if isinstance(e, h2.events.DataReceived))
    assert client.end(stream) == {"grpc-status": "0"}
    assert data.count(HEALTH.encode()) == 3


@BOTH
@on_wire
def test_equal_heads_are_judged_by_what_they_say_of_encodings(encoding: str) -> None:
    client = Client()
    given: dict[str, Any] = {"grpc_encoding": encoding}
    for _ in range(3):  # the third comes as the second did, and is remembered
        assert client.call(LIVE, put(PACK[encoding](b"")), **given) == {"grpc-status": "0"}
        assert client.call(LIVE, put(b"", 0)) == {"grpc-status": "0"}
        assert client.call(LIVE, put(PACK[encoding](b"")))["slipway-code"] == "bad_request"
