"""Listen on a port; one that is taken is refused with what to do about it."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Final

from slipway.errors import SlipwayError

BACKLOG: Final = 1024


async def listen(
    connect: Callable[[], asyncio.BaseProtocol],
    address: str,
    port: int,
    option: str,
    **more: Any,
) -> asyncio.Server:
    """Listen; raise SlipwayError, which names the option, if that cannot be.

    With `reuse_port` among `more`, other processes of this user may listen there too, and the
    kernel gives each new connection to one of them.
    """
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(connect, address, port, backlog=BACKLOG, **more)
    except OSError as error:
        raise refuse_port(error, address, port, option) from None


def refuse_port(error: OSError, address: str, port: int, option: str) -> SlipwayError:
    """Say why a port cannot be had."""
    if error.errno != errno.EADDRINUSE:
        return SlipwayError(f"{address}:{port}: {error.strerror}")
    return SlipwayError(
        f"port {port} on {address} is in use; stop what listens there or give {option} another"
    )
