"""Talk to a host under test: many requests on one connection, or one broken stream on its own."""

import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import orjson

from slipway.host.request.refusal import STATUS
from slipway.host.wire.grpc.schema import SERVICE, message_class
from tests.support.pace import limit

HANG_S = 2.0
"""What takes longer hangs."""

PLANNED = frozenset({"queue_timeout", "queue_full"})
"""5xx that a request may get by its own wish, or because too many wait."""

LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
CODE = re.compile(rb'"code":"([a-z_]+)"')
LEAKS = re.compile(rb"Traceback|site-packages|onnxruntime|numpy|0x7f[0-9a-f]{4}|\.py\b")


@dataclass
class Reply:
    """One response."""

    status: int
    code: str
    """`ok`, or the error's."""
    head: bytes
    body: bytes


class Defect(Exception):
    """What a host must never do."""


class Wire:
    """One HTTP connection that is kept as long as the host keeps it."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket: socket.socket | None = None
        self._read = b""
        self.opened = 0

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._read = None, b""

    def ask_all(self, requests: Sequence[bytes]) -> list[Reply]:
        """Send requests at once; return their replies. What a refusal cut off is sent again."""
        replies: list[Reply] = []
        while len(replies) < len(requests):
            connection = self._connect()
            missing = len(requests) - len(replies)
            with suppress(ConnectionError):  # refused before the end; the reply is there
                connection.sendall(b"".join(requests[len(replies) :]))
            for n in range(missing):
                reply = self._receive(connection)
                if reply is None:
                    if not n:
                        raise Defect("closed without an answer")
                    break
                replies.append(reply)
                if b"\r\nConnection: close\r\n" in reply.head:
                    break
            if len(replies) < len(requests):
                self.close()
        return replies

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, limit(HANG_S))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened += 1
        return self._socket

    def _receive(self, connection: socket.socket) -> Reply | None:
        while True:
            found = take(self._read)
            if found is not None:
                reply, self._read = found
                return reply
            try:
                data = connection.recv(1 << 18)
            except TimeoutError:
                raise Defect(f"no answer in {HANG_S} s") from None
            except ConnectionResetError:
                data = b""
            if not data:
                if self._read:
                    raise Defect("half an answer")
                self.close()
                return None
            self._read += data


def stream(port: int, data: bytes) -> list[Reply]:
    """Send bytes of whatever kind on a connection of their own; return all that is answered."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), limit(HANG_S)) as connection:
        with suppress(ConnectionError):  # the host may close first
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := connection.recv(1 << 18):
                parts.append(part)
        except TimeoutError:
            raise Defect("neither answered nor closed") from None
        except ConnectionResetError:
            pass  # what came before it counts
    if time.perf_counter() - began > limit(HANG_S):
        raise Defect(f"took over {HANG_S} s")
    raw, replies = b"".join(parts).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), []
    heads_only = data.startswith(b"HEAD ")
    while raw:
        found = take(raw, bodiless=heads_only and not replies)
        if found is None:
            raise Defect(f"no proper HTTP: {raw[:200]!r}")
        reply, raw = found
        replies.append(reply)
    return replies


def take(raw: bytes, bodiless: bool = False) -> tuple[Reply, bytes] | None:
    """Take one response from the front of what came, judged; None if it is not all there."""
    end = raw.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    head = raw[:end]
    length = LENGTH.search(head)
    if length is None or not head.startswith(b"HTTP/1.1 "):
        raise Defect(f"no proper HTTP: {head[:200]!r}")
    stop = end + (0 if bodiless else int(length[1]))
    if len(raw) < stop:
        return None
    reply = judge(head, raw[end:stop], bodiless)
    return reply, raw[stop:]


def judge(head: bytes, body: bytes, bodiless: bool) -> Reply:
    """Raise Defect for an answer that no request may get."""
    status = int(head[9:12])
    if status == 200:
        return Reply(status, "ok", head, body)
    if bodiless:
        return Reply(status, "", head, body)
    found = CODE.search(body)
    code = found[1].decode() if found else ""
    document: Any = orjson.loads(body)
    if STATUS.get(code) != status or type(document.get("error")) is not str:
        raise Defect(f"an error that is none of ours: {head!r} {body!r}")
    if status >= 500 and code not in PLANNED:
        raise Defect(f"unplanned {status}: {body!r}")
    if LEAKS.search(body):
        raise Defect(f"an error tells too much: {body!r}")
    return Reply(status, code, head, body)


class Grpc:
    """The gRPC port of a host."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._infer = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message_class("ModelInferRequest").SerializeToString,
            response_deserializer=message_class("ModelInferResponse").FromString,
        )

    def ask_all(self, requests: Sequence[Any]) -> list[tuple[str, Any]]:
        """Send messages at once; return each one's code and response."""
        waiting = [self._infer.future(request, timeout=limit(30)) for request in requests]
        began, answers = time.perf_counter(), []
        for call in waiting:
            error = call.exception()
            if error is None:
                answers.append(("ok", call.result()))
                continue
            metadata = dict(error.trailing_metadata() or ())
            code = str(metadata.get("slipway-code", error.code()))
            if code not in STATUS or (STATUS[code] >= 500 and code not in PLANNED):
                raise Defect(f"unplanned over gRPC: {error.code()} {error.details()!r}")
            answers.append((code, None))
        if time.perf_counter() - began > limit(HANG_S):
            raise Defect(f"gRPC took over {HANG_S} s")
        return answers

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
