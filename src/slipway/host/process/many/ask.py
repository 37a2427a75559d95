"""Ask a process of this host something over its admin socket."""

import asyncio
import re
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 1.0
"""It answers from memory; one that needs longer is in trouble."""

LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


async def ask(path: Path, target: str, method: str = "GET", timeout_s: float = TIMEOUT_S) -> bytes:
    """Return the body of the answer; raise OSError unless it is a whole 200 in time."""
    request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(request.encode())
            answer = await reader.read()
        finally:
            writer.close()
    return _body(answer)


def _body(answer: bytes) -> bytes:
    """Take the body out; a process that was killed may have sent half of it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or length is None or len(body) != int(length[1]):
        raise OSError(f"the answer begins with {head[:40]!r}")
    return body
