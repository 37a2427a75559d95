"""Run one host as several processes, and speak for all of them.

One Python process keeps one core busy, which is enough for every model but the smallest. The
supervisor answers no requests: it starts the processes that do, starts again what ends, passes
signals on, and has the admin listener. It knows no model, and loads nothing that could crash it.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from slipway.host.follow.background import in_background
from slipway.host.guard.access import open_admin_socket, open_guard
from slipway.host.guard.caller import Guard, OpenGuard
from slipway.host.guard.gate import AccessGate
from slipway.host.observe.audit import Audit
from slipway.host.observe.logs import start_logging
from slipway.host.process.many.ask import ask
from slipway.host.process.many.child import Child, next_wait_s
from slipway.host.process.many.ports import hold_port
from slipway.host.process.many.status import merge_status
from slipway.host.process.many.totals import ProcessTotals
from slipway.host.process.notify import ALIVE, READY, STOPPING, notify, reloading, watchdog_s
from slipway.host.process.options import HostOptions, admin_socket, check_options
from slipway.host.process.state import own_state
from slipway.host.wire.http.admin import Admin, AdminParts
from slipway.host.wire.http.connection import Connection, Listener
from slipway.host.wire.http.exchange import Limits
from slipway.host.wire.listen import BACKLOG, listen

log = logging.getLogger(__name__)

STOP_S: Final = 33.0
"""The longest wait for processes that were told to stop; each gives itself 30 s."""

AT_ONCE_S: Final = 3.0
"""The same when they were told twice: time to write what is recorded."""

SWEEP_S: Final = 0.5
"""Between two looks at the processes."""

ADMIN_LIMITS: Final = Limits(body_bytes=0, connections=64)


def supervise(options: HostOptions, words: Sequence[str]) -> None:
    """Run a host of several processes until SIGTERM or SIGINT; `words` is its command line.

    Raise SlipwayError if it cannot start, SystemExit if a process has said why already.
    """
    check_options(options)
    handler = start_logging()
    address = options.access.address
    try:
        with contextlib.ExitStack() as held:
            held.enter_context(own_state(options.state))
            held.enter_context(hold_port(address, options.port, "--port"))
            if options.grpc_port is not None:
                held.enter_context(hold_port(address, options.grpc_port, "--grpc-port"))
            code = uvloop.run(_Supervisor(options, words).run())
    finally:
        handler.close()
    if code:
        sys.exit(code)


class _Supervisor:
    """The processes of one host, and the listener that speaks for them."""

    def __init__(self, options: HostOptions, words: Sequence[str]) -> None:
        self._options = options
        self._guard = open_guard(options.access)
        self._audit = Audit(options.records.audit_log or options.state / "audit.jsonl")
        self._children = [Child(options, words, number) for number in range(options.processes)]
        self._totals = ProcessTotals(
            options.processes, lambda number: ask(self._children[number].socket, "/metrics")
        )
        self._listeners: list[Listener] = []
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        servers = await self._open()
        self._audit.record("start", caller="")
        tasks = [asyncio.create_task(self._keep())]
        code = await self._start(tasks)
        if code == 0 and not self._stop.is_set():
            log.info("host started", extra={"host": self._options.name, **self._pids()})
            notify(READY)
            code = await self._wait(tasks)
        self._stop.set()
        notify(STOPPING)
        code = await self._end() or code
        for server in servers:
            server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._audit.record("stop", caller="")
        self._audit.close()
        log.info("host stopped", extra={"host": self._options.name, "code": code})
        return code

    async def _start(self, tasks: list[asyncio.Task[None]]) -> int:
        """Start the processes and wait until all answer; return 0, or the code of the first.

        The first starts alone: what is wrong with the options is wrong for all, and told once.
        """
        first = self._children[0]
        await first.start(late=False)
        up = await self._unless_stopped(first.up())
        if up is False:
            code = first.code or 1
            log.error("the first process ended", extra={"code": code})
            return code if code > 0 else 1
        if up:
            tasks += [asyncio.create_task(self._run(child)) for child in self._children]
            await self._unless_stopped(self._all_up())
        return 0

    async def _run(self, child: Child) -> None:
        """Keep one place taken: start a process again whenever it ends."""
        wait_s = 0.0
        if child.code is None and child.pid is None:
            await child.start(late=True)
        while True:
            code = await child.wait()
            wait_s = next_wait_s(wait_s, child.lived_s)
            if self._stop.is_set():
                return
            log.error(
                "a process ended; starting another",
                extra={"number": child.number, "code": code, "wait_s": wait_s},
            )
            self._totals.restarted(child.number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)
                return
            await child.start(late=any(other.answered for other in self._children))
            if self._stop.is_set():  # told while it was being started
                child.signal(signal.SIGTERM)

    async def _open(self) -> list[asyncio.Server]:
        """Listen where the outside asks, and where the processes of this host do."""
        access = self._options.access
        place = (access.admin_address, self._options.admin_port)
        inside = admin_socket(self._options.state, None)
        inside.parent.mkdir(mode=0o700, exist_ok=True)
        servers = [await self._listen_unix(inside, OpenGuard())]
        if access.admin_socket is not None:
            servers.append(await self._listen_unix(access.admin_socket, self._guard))
        else:
            connect = self._face(self._guard, self._options.admin_port)
            servers.append(await listen(connect, *place, "--admin-port"))
        return servers

    async def _listen_unix(self, path: Path, guard: Guard) -> asyncio.Server:
        bound = open_admin_socket(path)
        loop = asyncio.get_running_loop()
        connect = self._face(guard, None)
        return await loop.create_unix_server(connect, sock=bound, backlog=BACKLOG)

    def _face(self, guard: Guard, port: int | None) -> Callable[[], asyncio.BaseProtocol]:
        """Return what makes the connections of an admin listener."""
        admin = Admin(
            AdminParts(
                guard=guard,
                status=self._status,
                reload=self._reload,
                record=self._record,
                port=port,
                metrics=self._totals.collect,
            )
        )
        listener = Listener(admin.handle, ADMIN_LIMITS, self._totals.refuse)
        self._listeners.append(listener)
        return lambda: Connection(listener)

    async def _status(self) -> Mapping[str, Any]:
        """Ask all processes."""
        statuses = await asyncio.gather(*(child.look() for child in self._children))
        restarts = self._totals.restarts
        return {
            **merge_status(self._options.name, self._options.fleet, statuses),
            "processes": [
                {
                    "pid": child.pid,
                    "ready": bool(status and status["ready"]),
                    "restarts": restarts[child.number],
                }
                for child, status in zip(self._children, statuses, strict=True)
            ],
        }

    def _record(self, event: str, caller: str) -> asyncio.Future[None]:
        return in_background(partial(self._audit.record, event, caller=caller), "audit")

    async def _reload(self) -> None:
        """Let all processes read their files again; done when all have answered."""
        log.info("reloading")
        self._reload_own()
        await asyncio.gather(*(child.reload() for child in self._children))

    def _hang_up(self) -> None:
        """Pass SIGHUP on."""
        reloading()
        self._reload_own()
        self._signal(signal.SIGHUP)
        notify(READY)

    def _reload_own(self) -> None:
        if isinstance(self._guard, AccessGate):
            self._guard.reload()

    async def _keep(self) -> None:
        """Look at the processes, and show life while none of them is stuck."""
        loop = asyncio.get_running_loop()
        watched = watchdog_s() is not None
        while True:
            await asyncio.sleep(SWEEP_S)
            for listener in self._listeners:
                listener.expire(loop.time())
            if isinstance(self._guard, AccessGate):
                self._guard.poll()
            await asyncio.gather(*(child.look() for child in self._children))
            stuck = [child.number for child in self._children if child.stuck]
            if stuck and not self._stop.is_set():
                log.warning("processes do not answer", extra={"processes": stuck})
            elif watched:
                notify(ALIVE)

    async def _all_up(self) -> None:
        while not all(child.answered for child in self._children):
            await asyncio.sleep(0.05)

    async def _unless_stopped(self, work: Awaitable[Any]) -> Any:
        """Wait for something, but not when told to stop; None then."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    async def _wait(self, tasks: list[asyncio.Task[None]]) -> int:
        """Wait for the signal; a task that ends by itself is a defect, and ends the host."""
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in done - {stop}:
            log.error("the supervisor failed", exc_info=task.exception())
        return 0 if stop in done else 1

    async def _end(self) -> int:
        """Stop all processes in good order; return 0 if each answered all that it accepted."""
        running = [child for child in self._children if child.pid is not None]
        log.info("stopping", extra=self._pids())
        self._signal(signal.SIGTERM)
        ended = asyncio.gather(*(child.wait() for child in running))
        at_once = asyncio.ensure_future(self._at_once.wait())
        waiting: list[asyncio.Future[Any]] = [ended, at_once]
        await asyncio.wait(waiting, timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not ended.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait([ended], timeout=AT_ONCE_S)
        self._signal(signal.SIGKILL)
        # A process that is told before it listens has nothing to finish.
        return int(any(code not in (0, -signal.SIGTERM) for code in await ended))

    def _signal(self, number: int) -> None:
        for child in self._children:
            child.signal(number)

    def _stop_signalled(self) -> None:
        """Stop in good order; when asked again, at once."""
        (self._at_once if self._stop.is_set() else self._stop).set()

    def _pids(self) -> dict[str, Any]:
        return {"processes": [child.pid for child in self._children]}
