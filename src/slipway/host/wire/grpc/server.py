"""Listen for gRPC in the host's own event loop."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from slipway.host.answer.call import Begin
from slipway.host.answer.core import Core
from slipway.host.guard.caller import Guard
from slipway.host.request.body_memory import BodyMemory
from slipway.host.wire.grpc.connection import GrpcConnection
from slipway.host.wire.grpc.health import Health
from slipway.host.wire.grpc.limits import GrpcLimits
from slipway.host.wire.grpc.service import Service
from slipway.host.wire.listen import listen

SWEEP_S: Final = 0.5
"""Between two looks at the connections' time limits."""


class GrpcServer:
    """The gRPC port of one host."""

    def __init__(
        self,
        core: Core,
        guard: Guard,
        limits: GrpcLimits | None = None,
        tls: ssl.SSLContext | None = None,
        begin: Begin | None = None,
        refused: Callable[[str], None] | None = None,
        memory: BodyMemory | None = None,
    ) -> None:
        self._limits = limits or GrpcLimits()
        self._tls = tls
        """A context of its own: its ALPN says h2."""
        self._health = Health(core)
        self._memory = memory or BodyMemory()
        self._service = Service(core, guard, self._health, begin=begin, refused=refused)
        self._connections: set[GrpcConnection] = set()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self, address: str, port: int, reuse_port: bool = False) -> int:
        """Listen, with others if wished; return the port, which the system chooses if it was 0."""
        handshake_s = self._limits.handshake_s if self._tls is not None else None
        self._server = await listen(
            self._connect,
            address,
            port,
            "--grpc-port",
            ssl=self._tls,
            ssl_handshake_timeout=handshake_s,
            reuse_port=reuse_port,
        )
        self._sweep()
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let the accepted ones finish, and end what is left after a while."""
        self._health.close()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        while self._connections and loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.sleep(0)  # for the ends of aborted connections

    def _connect(self) -> GrpcConnection:
        return GrpcConnection(self._service, self._limits, self._connections, self._memory)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for connection in list(self._connections):
            connection.expire(loop.time())
        self._sweeping = loop.call_later(SWEEP_S, self._sweep)
