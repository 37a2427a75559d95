"""The bare loop: asyncio on uvloop, httptools, and one run for all that a turn of the loop brought.

No peer that anybody would put into service, but the limit of what Python does by hand: whoever
checks, names, counts or refuses anything is measured against it.
"""

import asyncio
import os

import httptools
import numpy as np
import uvloop
from byhand import BYTES, JSON, RAW, open_run, read_flat, read_raw, write_flat
from settings import PORT, WORKERS

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
BACKLOG = 1024


class Turn:
    """The rows that have arrived since the last run."""

    def __init__(self):
        self.run, self.loop = open_run(), asyncio.get_running_loop()
        self.waiting = []

    def add(self, connection, x, raw):
        """Take a row; the first of a turn asks for the run at the turn's end."""
        if not self.waiting:
            self.loop.call_soon(self.end)
        self.waiting.append((connection, x, raw))

    def end(self):
        """Run all rows at once and answer each."""
        turn, self.waiting = self.waiting, []
        answers = self.run(np.concatenate([x for _, x, _ in turn]))
        for (connection, _, raw), y in zip(turn, answers, strict=True):
            kind, body = (BYTES, y.tobytes()) if raw else (JSON, write_flat(y))
            connection.transport.write(HEAD % (kind.encode(), len(body), body))


class Connection(asyncio.Protocol):
    """One caller."""

    def __init__(self, turn):
        self.turn, self.parser = turn, httptools.HttpRequestParser(self)
        self.parts, self.raw = [], False

    def connection_made(self, transport):
        """Keep where answers go."""
        self.transport = transport

    def data_received(self, data):
        """Parse what came; the parser calls the methods below."""
        self.parser.feed_data(data)

    def on_url(self, url):
        """Read which encoding is asked for."""
        self.raw = url == RAW.encode()

    def on_body(self, part):
        """Keep a part of the body."""
        self.parts.append(part)

    def on_message_complete(self):
        """Hand the row over."""
        body, self.parts = b"".join(self.parts), []
        self.turn.add(self, read_raw(body) if self.raw else read_flat(body), self.raw)


async def serve():
    """Serve until stopped."""
    loop, turn = asyncio.get_running_loop(), Turn()
    listening = await loop.create_server(
        lambda: Connection(turn), "127.0.0.1", PORT, reuse_port=True, backlog=BACKLOG
    )
    await listening.serve_forever()


if __name__ == "__main__":
    for _ in range(WORKERS - 1):  # before anything has threads; the kernel deals out connections
        if os.fork() == 0:
            break
    uvloop.run(serve())
