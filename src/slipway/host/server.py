"""Put one host together, run it, and stop it in good order."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from slipway.bundle.signing import TrustedKeys
from slipway.errors import SlipwayError
from slipway.host.core import Core
from slipway.host.engine.engine import WORKERS
from slipway.host.follow.loading import Loader
from slipway.host.follow.memory import Memory
from slipway.host.follow.reconcile import Parts, Reconciler
from slipway.host.observe.logs import start_logging
from slipway.host.observe.metrics import Metrics
from slipway.host.options import HostOptions, check_options
from slipway.host.wire.admin import Admin
from slipway.host.wire.exchange import Handler, Limits
from slipway.host.wire.http import Connection, Listener
from slipway.host.wire.rest import Rest
from slipway.store.objects import Store

__all__ = ["HostOptions", "serve"]

log = logging.getLogger(__name__)

STOP_S: Final = 30.0
"""The longest wait for accepted requests when the host is told to stop."""

SWEEP_S: Final = 0.5
"""Between two looks at the connections' deadlines."""

BACKLOG: Final = 1024
ADMIN_LIMITS: Final = Limits(body_bytes=0, connections=64)


def serve(options: HostOptions) -> None:
    """Run one host until SIGTERM or SIGINT; raise SlipwayError if it cannot start."""
    check_options(options)
    handler = start_logging()
    try:
        with _own_state(options):
            drained = uvloop.run(_Host(options).run())
    finally:
        handler.close()
    if not drained:
        # A model that runs for ever holds its thread, and an exit would wait for the thread.
        os._exit(1)


@contextlib.contextmanager
def _own_state(options: HostOptions) -> Iterator[None]:
    """Make sure that no other host uses the same state folder."""
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (options.state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SlipwayError(
                f"{options.state}: another host uses this folder; stop it or give --state another"
            ) from None
        yield


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
        self._options = options
        self._metrics = Metrics()
        self._core = Core(self._metrics)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="model")
        self._listeners: list[Listener] = []

    async def run(self) -> bool:
        """Serve until told to stop; return whether every accepted request was answered."""
        options = self._options
        stop = _Stop(asyncio.Event(), asyncio.Event())
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_defect)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.signalled)
        reconciler = self._reconciler()
        rest = Rest(self._core, self._metrics)
        admin = Admin(options.admin_port, lambda: self._status(reconciler))
        servers = [
            await self._listen(options.address, options.port, "--port", rest.handle),
            await self._listen("127.0.0.1", options.admin_port, "--admin-port", admin.handle),
        ]
        reconciler.recall()
        tasks = [asyncio.create_task(reconciler.run()), asyncio.create_task(self._sweep())]
        log.info("host started", extra={"host": options.name, "port": options.port})
        await self._wait(stop.asked, tasks)
        drained = await self._drain(stop.at_once)
        for server in servers:
            server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        log.info("host stopped", extra={"host": options.name, "drained": drained})
        return drained

    def _reconciler(self) -> Reconciler:
        options = self._options
        store = Store(options.store)
        trusted = TrustedKeys.load(options.trusted_keys)
        for role in ("builder", "release"):
            if not (options.trusted_keys / role).is_dir():
                log.warning("no trusted keys: nothing will be served", extra={"role": role})
        return Reconciler(
            Parts(
                fleet=options.fleet,
                store=store,
                trusted=trusted,
                memory=Memory(options.state),
                loader=Loader(store, trusted, options.state, options.threads),
                core=self._core,
                metrics=self._metrics,
                pool=self._pool,
                poll_s=options.poll_s,
            )
        )

    async def _listen(
        self, address: str, port: int, option: str, handler: Handler
    ) -> asyncio.AbstractServer:
        limits = ADMIN_LIMITS if option == "--admin-port" else self._options.limits
        listener = Listener(handler, limits, lambda code: self._metrics.errors.labels(code).inc())
        self._listeners.append(listener)
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(
                lambda: Connection(listener), address, port, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SlipwayError(f"{address}:{port}: {error.strerror}") from None
            raise SlipwayError(
                f"port {port} on {address} is in use; stop what listens there or give {option}"
                " another"
            ) from None

    def _status(self, reconciler: Reconciler) -> dict[str, Any]:
        options = self._options
        address = f"[{options.address}]" if ":" in options.address else options.address
        return {
            "name": options.name,
            "fleet": options.fleet,
            "ready": self._core.ready and not self._core.draining,
            "url": f"http://{address}:{options.port}",
            "models": reconciler.status(),
        }

    async def _sweep(self) -> None:
        """Keep the connections to their deadlines."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            for listener in self._listeners:
                listener.expire(loop.time())

    async def _wait(self, asked: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for the signal; a task that ends by itself is a defect, and ends the host."""
        waiting = asyncio.create_task(asked.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()

    async def _drain(self, at_once: asyncio.Event) -> bool:
        """Refuse what is new and wait for what was accepted; return whether all of it is done."""
        self._core.draining = True
        for listener in self._listeners:
            listener.draining = True
        log.info("stopping", extra={"in_flight": self._core.in_flight})
        loop = asyncio.get_running_loop()
        until = loop.time() + STOP_S
        while self._core.in_flight and loop.time() < until and not at_once.is_set():
            await asyncio.sleep(0.01)
        return self._core.in_flight == 0
