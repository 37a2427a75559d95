"""Break requests: their bytes, their JSON, their heads."""

import gzip
import json
import zlib
from copy import deepcopy
from random import Random
from typing import Any

CRLF = b"\r\n"

PIECES = (
    b"", b"\0", b"\xff", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b'"',
    b"\\", b"[", b"]", b"{", b"}", b"-", b"0", b"1", b"e", b".", b"null", b"true", b"NaN", b"1e999",
    b'"data":', b"[1,2]", b'"inputs":', b"\\u0000", b"\\ud800", b"\xed\xa0\x80", b"%00", b"../",
    b"0x10", b"+5", b"99999999999999999999", b"HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 1e308, -0.0, "", "x", "FP32", "BYTES", [], {},
    [[]], [1, 2], ["a"], {"a": 1}, {"data": [1, 2]}, "x" * 300, [None], [[1, 2], [3]],
)  # fmt: skip

HEADERS = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 0x5",
    b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: 5, 5",
    b"Content-Length:", b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked", b"Host: b", b": x",
    b"X: a\r\n b", b"X: a\nY: b", b"X: a\rY: b", b"X: \0", b"NoColon", b"Expect: 100-continue",
    b"Expect: 200-ok", b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade",
    b"Upgrade: h2c", b"Upgrade: websocket", b"Content-Encoding: gzip", b"Content-Encoding: deflate",
    b"Content-Encoding: br", b"Content-Encoding: identity", b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=utf-8", b"Content-Type: application/octet-stream",
    b"Inference-Header-Content-Length: 0", b"Inference-Header-Content-Length: 10",
    b"Inference-Header-Content-Length: 99999999999", b"Inference-Header-Content-Length: -1",
    b"Inference-Header-Content-Length: abc", b"Slipway-Key: a", b"Slipway-Key: \xe9",
    b"Authorization: Bearer x", b"Origin: http://a", b"Traceparent: x", b"X: " + b"y" * 17_000,
    b"\r\n".join(b"X-%d: y" % n for n in range(120)),
)  # fmt: skip

LINES = (
    b"POST /v2/models/%b/infer HTTP/1.0", b"POST /v2/models/%b/infer HTTP/2.0",
    b"POST /v2/models/%b/infer HTTP/1.1 ", b"POST  /v2/models/%b/infer HTTP/1.1",
    b"GET /v2/models/%b HTTP/1.1", b"GET /v2/models/%b/ready HTTP/1.1", b"GET /metrics HTTP/1.1",
    b"GET /v2/models/%b/config HTTP/1.1", b"GET /v2/models/%b/stats HTTP/1.1",
    b"HEAD /v2/models/%b HTTP/1.1", b"PUT /v2/models/%b/infer HTTP/1.1", b"FOO / HTTP/1.1",
    b"POST /v2/models/%b%%2fx/infer HTTP/1.1", b"POST /v2/models/../infer HTTP/1.1",
    b"POST http://a/v2/models/%b/infer HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"PRI * HTTP/2.0",
    b"POST /v2/models/%b/infer?a=b HTTP/1.1", b"POST /v2/models/%b/infer", b"post / http/1.1",
    b"OPTIONS * HTTP/1.1", b"POST /v2/systemsharedmemory/region/a/register HTTP/1.1",
)  # fmt: skip


def frame(path: str, body: bytes, header_length: int | None, *more: bytes) -> bytes:
    """Make a whole request whose length is right."""
    lines = [b"POST %b HTTP/1.1" % path.encode("latin-1", "replace"), b"Host: a", *more]
    if header_length is not None:
        lines.append(b"Inference-Header-Content-Length: %d" % header_length)
    lines += [b"Content-Length: %d" % len(body), b"", body]
    return CRLF.join(lines)


def change_bytes(random: Random, data: bytes) -> bytes:
    """Put in, take out, overwrite or repeat a few bytes."""
    raw = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(raw) + 1)
        what = random.randrange(5)
        if what == 0:
            raw[at:at] = random.choice(PIECES)
        elif what == 1:
            del raw[at : at + random.choice((1, 1, 2, 8, 64))]
        elif what == 2:
            raw[at : at + 1] = bytes([random.randrange(256)])
        elif what == 3:
            raw[at:at] = raw[at : at + random.choice((4, 32))]
        else:
            piece = random.choice(PIECES)
            raw[at : at + len(piece)] = piece
    return bytes(raw)


def change_json(random: Random, text: bytes) -> bytes:
    """Replace, rename, drop or add something anywhere in a document."""
    try:
        document = json.loads(text)
    except ValueError:  # it says on purpose what no JSON may
        return change_bytes(random, text)
    for _ in range(random.choice((1, 1, 2))):
        holders = _holders(document)
        holder = random.choice(holders)
        keys: Any = sorted(holder) if isinstance(holder, dict) else range(len(holder))
        key = random.choice(keys) if keys else None
        what = random.randrange(4)
        if key is None or (what == 0 and isinstance(holder, dict)):
            name = random.choice(("data", "shape", "id", "parameters", "outputs", "zz", ""))
            if isinstance(holder, dict):
                holder[name] = deepcopy(random.choice(VALUES))
            else:
                holder.append(deepcopy(random.choice(VALUES)))
        elif what == 1:
            del holder[key]
        else:
            holder[key] = deepcopy(random.choice(VALUES))
    text = json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "replace")
    if random.random() < 0.1 and b'"name"' in text:  # one key twice
        text = text.replace(b'"name"', b'"name": "x", "name"', 1)
    if random.random() < 0.05:
        text = text.replace(b"[1, 2]", b"[" * 100 + b"1" + b"]" * 100, 1)
    return text


def _holders(value: Any) -> list[Any]:
    found = [value] if isinstance(value, dict | list) else []
    inside = value.values() if isinstance(value, dict) else value if found else ()
    for item in inside:
        found += _holders(item)
    return found


def change_head(random: Random, model: str, data: bytes) -> bytes:
    """Add, double or replace a header, or replace the first line."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(CRLF)
    what = random.randrange(6)
    if what == 0:
        line = random.choice(LINES)
        lines[0] = line.replace(b"%b", model.encode()).replace(b"%%", b"%")
    elif what == 1:
        lines.append(random.choice(lines[1:]))
    elif what == 2:
        del lines[random.randrange(len(lines))]
    elif what == 3:
        at = random.randrange(len(lines))
        lines[at] = change_bytes(random, lines[at])
    else:
        lines.insert(random.randrange(1, len(lines) + 1), random.choice(HEADERS))
    return CRLF.join(lines) + b"\r\n\r\n" + body


def pack(random: Random, body: bytes) -> tuple[bytes, bytes]:
    """Compress a body, rightly or nearly so; return it with its header."""
    coding, packed = random.choice(
        ((b"gzip", gzip.compress(body, 1)), (b"deflate", zlib.compress(body, 1)))
    )
    if random.random() < 0.5:
        packed = change_bytes(random, packed)
    return packed, b"Content-Encoding: " + coding


def chunk(random: Random, data: bytes) -> bytes:
    """Send a body in chunks instead of by its length, rightly or nearly so."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(CRLF) if not line.startswith(b"Content-Length")]
    parts = []
    while body:
        size = random.choice((1, 3, 50, len(body)))
        part, body = body[:size], body[size:]
        size = len(part) + random.choice((0,) * 30 + (1, -1, 1000))
        parts.append(b"%x\r\n%b\r\n" % (max(0, size), part))
    lines.append(b"Transfer-Encoding: chunked")
    return CRLF.join(lines) + b"\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n"
