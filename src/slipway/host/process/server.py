"""Put one host together, run it, and stop it in good order."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import uvloop

from slipway.host.answer.core import Core
from slipway.host.engine.cache import Cache
from slipway.host.engine.cores import count_cores
from slipway.host.engine.engine import Workers
from slipway.host.engine.spin import Spin
from slipway.host.follow.starting import Running
from slipway.host.guard.access import open_admin_socket, open_guard, open_tls
from slipway.host.guard.policy import check_policy
from slipway.host.observe.logs import start_logging
from slipway.host.observe.metrics import Metrics
from slipway.host.process.following import make_follower
from slipway.host.process.many.ask import ask
from slipway.host.process.many.parent import live_with
from slipway.host.process.notify import ALIVE, READY, STOPPING, notify, reloading, watchdog_s
from slipway.host.process.options import MIB, HostOptions, admin_socket, check_options, take_share
from slipway.host.process.recording import Recording
from slipway.host.process.state import own_state
from slipway.host.request.body_memory import BodyMemory
from slipway.host.request.routes import ADMIN_ROUTES, DATA_ROUTES
from slipway.host.wire.grpc.server import GrpcServer
from slipway.host.wire.http.admin import Admin, AdminParts
from slipway.host.wire.http.connection import Connection, Listener
from slipway.host.wire.http.exchange import Handler, Limits
from slipway.host.wire.http.rest import Rest
from slipway.host.wire.listen import BACKLOG, listen

__all__ = ["HostOptions", "serve"]

log = logging.getLogger(__name__)

STOP_S: Final = 30.0
"""The longest wait for accepted requests when the host is told to stop."""

SWEEP_S: Final = 0.5
"""Between two looks at the connections' deadlines, at files that may have changed, and signs of
life for the service manager."""

SWITCH_S: Final = 0.0005
"""The longest that a thread which runs a model keeps the loop from Python; the default is ten
times as long, and an answer waits for it."""

GC_ALLOCATIONS: Final = 50_000
"""Between two collections of cycles. A request leaves none, and at the default of 700 they are
searched for after every few requests."""

JOIN_S: Final = 30.0
"""The longest that a process waits for its models before it joins others that answer."""

WHOLE_S: Final = 3.0
"""For the metrics of all processes; the supervisor waits a second for each, and its turn."""

ADMIN_LIMITS: Final = Limits(body_bytes=0, connections=64)


class Follower(Protocol):
    """What decides which versions serve."""

    def recall(self) -> None:
        """Take up what is remembered."""

    async def run(self) -> None:
        """Keep the core at what should serve, until cancelled."""

    def reload(self) -> None:
        """Look again soon."""

    def status(self) -> dict[str, Any]:
        """Return the models' part of `/status`."""


def serve(options: HostOptions) -> None:
    """Run one host until SIGTERM or SIGINT; raise SlipwayError if it cannot start."""
    check_options(options)
    if options.part is not None:
        live_with(options.part.supervisor)
        options = take_share(options, count_cores())
    handler = start_logging()
    sys.setswitchinterval(SWITCH_S)
    try:
        with own_state(options.state):
            drained = uvloop.run(_Host(options).run())
    finally:
        handler.close()
    if not drained or threading.active_count() > 1:
        # A thread that runs a model may never end, and one that still opens a model must not come
        # back from C++ into an interpreter that is being taken down: that aborts the process.
        os._exit(0 if drained else 1)


@dataclass
class _Stop:
    """What the signals say."""

    asked: asyncio.Event
    at_once: asyncio.Event

    def signalled(self) -> None:
        """Stop in good order; when asked again, at once."""
        (self.at_once if self.asked.is_set() else self.asked).set()


def _log_defect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong where nobody waits for a result; the host goes on."""
    log.error(context["message"], exc_info=context.get("exception"))


class _Host:
    """The parts of one running host."""

    def __init__(self, options: HostOptions) -> None:
        check_policy((*DATA_ROUTES, *ADMIN_ROUTES))
        self._options = options
        self._metrics = Metrics()
        self._core = Core(self._metrics)
        self._part = options.part
        self._guard = open_guard(options.access, self._part.count if self._part else 1)
        self._tls = {"http": open_tls(options.access), "grpc": open_tls(options.access, "h2")}
        self._recording = Recording(options, self._core, self._metrics, self._guard)
        work = options.work
        self._workers = Workers(work.cores or count_cores())
        cache = Cache(work.cache_mib * MIB) if work.cache_mib else None
        self._cache = cache
        running = Running(
            self._workers,
            self._metrics,
            cache,
            max_rows=work.max_rows,
            max_delay_us=work.max_delay_us,
            queue_jobs=work.queue,
            p95_ms=work.p95_ms,
            # a lone core has better things to do than to stay awake
            spin=Spin(work.spin_us / 1e6) if self._workers.threads > 1 else None,
        )
        self._bodies = BodyMemory(work.body_memory_mib * MIB)
        self._follower: Follower = make_follower(options, self._core, running, self._metrics)
        self._listeners: dict[str, Listener] = {}
        self._servers: list[asyncio.Server] = []
        self._joined = False
        self._join_until = 0.0
        self._grpc: GrpcServer | None = None

    async def run(self) -> bool:
        """Serve until told to stop; return whether every accepted request was answered."""
        options = self._options
        stop = _Stop(asyncio.Event(), asyncio.Event())
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_defect)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.signalled)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self._open()
        self._follower.recall()
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS, 20, 100)
        tasks = [asyncio.create_task(self._follower.run()), asyncio.create_task(self._keep())]
        self._recording.record("start", "")
        log.info("host started", extra={"host": options.name, "port": options.port})
        notify(READY)
        await self._wait(stop.asked, tasks)
        notify(STOPPING)
        drained = await self._drain(stop.at_once)
        for server in self._servers:
            server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._workers.close()
        self._workers.join(1.0)
        self._recording.record("stop", "")
        self._recording.close()
        log.info("host stopped", extra={"host": options.name, "drained": drained})
        return drained

    async def _open(self) -> None:
        """Listen everywhere; a port that is taken is known before anything else happens.

        The admin listener comes last: who is answered there knows that the others listen, but
        for a process that joins others only when its models are loaded.
        """
        options, access = self._options, self._options.access
        self._join_until = asyncio.get_running_loop().time() + JOIN_S
        if self._part is None or not self._part.late:
            await self._join()
        admin = Admin(
            AdminParts(
                guard=self._guard,
                status=self._status,
                reload=self._reload,
                record=self._recording.record_later,
                port=None if access.admin_socket else options.admin_port,
                metrics=self._metrics.render,
            )
        )
        connect = self._listener("admin", admin.handle, ADMIN_LIMITS)
        if access.admin_socket is not None:
            loop = asyncio.get_running_loop()
            bound = open_admin_socket(access.admin_socket)
            server = await loop.create_unix_server(connect, sock=bound, backlog=BACKLOG)
        else:
            place = (access.admin_address, options.admin_port)
            server = await listen(connect, *place, "--admin-port")
        self._servers.append(server)

    async def _join(self) -> None:
        """Listen for requests, on ports that the processes of one host share."""
        self._joined = True
        options, address, shared = self._options, self._options.access.address, bool(self._part)
        tls = {name: tls.context if tls else None for name, tls in self._tls.items()}
        begin = self._recording.begin
        whole = None
        if self._part is not None:
            supervisor = admin_socket(options.state.parent, None)
            whole = partial(ask, supervisor, "/metrics", timeout_s=WHOLE_S)
        rest = Rest(
            self._core,
            self._metrics.render,
            self._guard,
            options.limits,
            begin=begin,
            whole=whole,
        )
        connect = self._listener("http", rest.handle, options.limits)
        self._listeners["http"].greet = rest.greet
        place = (address, options.port)
        self._servers.append(
            await listen(
                connect,
                *place,
                "--port",
                ssl=tls["http"],
                ssl_handshake_timeout=options.limits.head_s if tls["http"] else None,
                reuse_port=shared,
            )
        )
        if options.grpc_port is not None:
            self._grpc = GrpcServer(
                self._core,
                self._guard,
                tls=tls["grpc"],
                begin=begin,
                refused=self._refused,
                memory=self._bodies,
            )
            await self._grpc.start(address, options.grpc_port, shared)

    def _listener(
        self, name: str, handler: Handler, limits: Limits
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Return what makes the connections of a port."""
        listener = Listener(handler, limits, self._refused, memory=self._bodies)
        self._listeners[name] = listener
        return lambda: Connection(listener)

    def _refused(self, code: str) -> None:
        self._metrics.errors.labels(code).inc()

    def _status(self) -> dict[str, Any]:
        options = self._options
        address = options.access.address
        shown = f"[{address}]" if ":" in address else address
        scheme = "https" if self._tls["http"] else "http"
        return {
            "name": options.name,
            "fleet": options.fleet,
            "ready": self._core.ready and not self._core.draining,
            "url": f"{scheme}://{shown}:{options.port}",
            "grpc": f"{shown}:{options.grpc_port}" if options.grpc_port else None,
            "models": self._follower.status(),
        }

    def _reload(self) -> None:
        """Read keys, certificates and bundles again, and open the logs anew."""
        log.info("reloading")
        reloading()
        self._recording.reload()
        for tls in self._tls.values():
            if tls is not None:
                tls.reload()
        self._follower.reload()
        notify(READY)

    async def _keep(self) -> None:
        """Keep connections to their deadlines, files to what is on the disk, and show life."""
        loop = asyncio.get_running_loop()
        watched = watchdog_s() is not None
        steps: list[Callable[[], None]] = [self._recording.poll, self._count]
        steps += [tls.poll for tls in self._tls.values() if tls is not None]
        while True:
            await asyncio.sleep(SWEEP_S)
            if not self._joined and (self._core.ready or loop.time() > self._join_until):
                await self._join()
            for listener in self._listeners.values():
                listener.expire(loop.time())
            for step in steps:
                try:
                    step()
                except Exception:
                    log.exception("housekeeping failed; trying again")
            if watched:
                notify(ALIVE)

    def _count(self) -> None:
        metrics = self._metrics
        metrics.body_bytes.set(self._bodies.held_bytes)
        for name, listener in self._listeners.items():
            metrics.connections.labels(name).set(len(listener.connections))
        for name, tls in self._tls.items():
            if tls is not None:
                metrics.tls_days.labels(name).set(tls.days_left)
        if self._cache is not None:
            metrics.cache_bytes.set(self._cache.used_bytes)

    async def _wait(self, asked: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for the signal; a task that ends by itself is a defect, and ends the host."""
        waiting = asyncio.create_task(asked.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()

    async def _drain(self, at_once: asyncio.Event) -> bool:
        """Refuse what is new and wait for what was accepted; return whether all of it is done."""
        self._core.draining = True
        for listener in self._listeners.values():
            listener.draining = True
        log.info("stopping", extra={"in_flight": self._core.in_flight})
        loop = asyncio.get_running_loop()
        until = loop.time() + STOP_S
        while self._core.in_flight and loop.time() < until and not at_once.is_set():
            await asyncio.sleep(0.01)
        if self._grpc is not None:
            await self._grpc.stop(0 if at_once.is_set() else max(0.0, until - loop.time()))
        return self._core.in_flight == 0
