"""Start and stop the hosts of a local fleet as processes of their own.

A host is started in a session of its own and with its own log, so that it outlives the
command or flow that started it, and no Ctrl-C there reaches it.
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.fleet.client import HostClient
from slipway.fleet.inventory import Fleet, Host
from slipway.fleet.launch.launcher import LIVE_WAIT_S, POLL_S, STOP_WAIT_S, Say
from slipway.fleet.processes import Process, alive, identify, listener, stop

REFUSED_WAIT_S = 3.0
"""Hosts that run take up a new key within about a second; one that refuses longer means it."""

RELEASED_WAIT_S = 1.0
"""How long the port of a host that was killed may be held by threads that are still ending."""

LOG_TAIL_LINES = 8
"""How much of its log is shown when a host did not come up."""

Command = Callable[[Fleet, Host], list[str]]


@dataclass(frozen=True)
class LocalLauncher:
    """Start hosts as processes of this machine."""

    command: Command = field(default_factory=lambda: _command)
    """Spells out one host's command line."""
    refused_wait_s: float = REFUSED_WAIT_S
    """How long a host may refuse the key that it is asked with."""

    def up(
        self, fleet: Fleet, client: HostClient, say: Say, wait_s: float = LIVE_WAIT_S
    ) -> list[str]:
        """Start every host that does not run yet and wait until all are live; return those started.

        All ports are looked at before anything starts, and what was started is stopped again
        when one host does not come up: a fleet runs as a whole or says why not.
        """
        with _only_one(fleet):
            commands = {host.name: self.command(fleet, host) for host in fleet.hosts}
            missing = [h for h in fleet.hosts if not _runs(fleet, h, commands[h.name])]
            _refuse_ports_in_use(missing)
            started: dict[str, Process] = {}
            try:
                for host in missing:
                    process = _start(fleet, host, commands[host.name])
                    started[host.name] = process
                    say(f"host {host.name}: started as process {process.pid}, {host.url}")
                _wait_until_live(fleet, client, wait_s, self.refused_wait_s)
            except BaseException:
                stop(list(started.values()), STOP_WAIT_S)
                for name in started:
                    _pid_file(fleet, name).unlink(missing_ok=True)
                raise
        return list(started)

    def down(self, fleet: Fleet, say: Say, grace_s: float = STOP_WAIT_S) -> list[str]:
        """Stop every host of the fleet that `up` started; return those that ran."""
        with _only_one(fleet):
            files = sorted(fleet.state.glob("*.pid"))  # also of hosts that left the inventory
            running = {f.stem: p for f in files if (p := read_process(fleet, f.stem)) is not None}
            killed = stop(list(running.values()), grace_s)
            for name, process in running.items():
                how = f"killed after {grace_s:.0f} s" if process in killed else "stopped"
                say(f"host {name}: {how}")
            for file in files:
                file.unlink(missing_ok=True)
        return list(running)


def read_process(fleet: Fleet, name: str) -> Process | None:
    """Return a host's process when it runs; a recycled pid is not taken for it."""
    try:
        process = Process.model_validate_json(_pid_file(fleet, name).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return process if alive(process) else None


def log_file(fleet: Fleet, name: str) -> Path:
    """Name the file that a host's output goes to."""
    return fleet.state / f"{name}.log"


def port_problem(address: str, port: int) -> str | None:
    """Say why a host could not listen there now, None when it could."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger in TIME_WAIT are no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"in use by {listener(port)}"
            return f"not to be had: {error.strerror}"
    return None


def _command(fleet: Fleet, host: Host) -> list[str]:
    """Spell out one host's command line; -P keeps the current folder off its import path."""
    options: dict[str, object] = {
        "--name": host.name,
        "--fleet": fleet.name,
        "--address": host.address,
        "--port": host.port,
        "--admin-port": host.admin_port,
        "--store": fleet.store,
        "--trusted-keys": fleet.trusted_keys,
        "--state": fleet.state / host.name,
    }
    if host.grpc_port is not None:
        options["--grpc-port"] = host.grpc_port
    if fleet.api_keys is not None:
        options["--api-keys"] = fleet.api_keys
    if fleet.tls is not None:
        options |= {"--tls-cert": fleet.tls.certificate, "--tls-key": fleet.tls.key}
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-P", "-m", "slipway.cli", "host", *words]


def _runs(fleet: Fleet, host: Host, command: list[str]) -> bool:
    """Tell whether the host runs, with the settings that the inventory gives it now."""
    process = read_process(fleet, host.name)
    # Not compared: the interpreter, which is python or python3 by how slipway was called.
    if process is not None and process.command[1:] != command[1:]:
        raise SlipwayError(
            f"host {host.name} runs as process {process.pid} with other settings than"
            f" configs/fleets/{fleet.name}.yaml gives; stop it first: slipway fleet down"
            f" {fleet.name}"
        )
    return process is not None


def _refuse_ports_in_use(hosts: list[Host]) -> None:
    """Raise SlipwayError for ports that others hold; a host that was killed lets go in a moment."""
    deadline = time.monotonic() + RELEASED_WAIT_S
    while problems := _ports_in_use(hosts):
        if time.monotonic() > deadline:
            raise SlipwayError(
                "; ".join(problems) + "; no host was started. Stop that process or give the host"
                " another port in configs/fleets/"
            )
        time.sleep(POLL_S)


def _ports_in_use(hosts: list[Host]) -> list[str]:
    return [
        f"port {port} of host {host.name} is {problem}"
        for host in hosts
        for address, port in host.listeners
        if (problem := port_problem(address, port)) is not None
    ]


def _start(fleet: Fleet, host: Host, command: list[str]) -> Process:
    """Start one host in its own session and note down who it is."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        sys.executable,
        command,
        _environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_file(fleet, host.name)), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    process = identify(pid, command)
    if process is None:
        raise _did_not_come_up(fleet, host, "ended at once")
    _write(_pid_file(fleet, host.name), process.model_dump_json().encode())
    return process


def _environment() -> dict[str, str]:
    """Leave out what belongs to the flow that happens to start the host."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SLIPWAY_"))}


def _wait_until_live(
    fleet: Fleet, client: HostClient, wait_s: float, refused_wait_s: float
) -> None:
    started = time.monotonic()
    waiting = list(fleet.hosts)
    while waiting:
        waited_s = time.monotonic() - started
        for host in list(waiting):
            status = client.status(host)
            if status is not None and status.problem is not None:
                if waited_s > min(refused_wait_s, wait_s):
                    raise SlipwayError(f"host {host.name}: {status.problem}")
            elif status is not None and (status.name, status.fleet) == (host.name, fleet.name):
                waiting.remove(host)
            elif read_process(fleet, host.name) is None:
                raise _did_not_come_up(fleet, host, "ended while starting")
        if waiting and waited_s > wait_s:
            raise _did_not_come_up(fleet, waiting[0], f"was not live after {wait_s:.0f} s")
        if waiting:
            time.sleep(POLL_S)


def _did_not_come_up(fleet: Fleet, host: Host, what: str) -> SlipwayError:
    log = log_file(fleet, host.name)
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    tail = "\n  ".join(["", *lines[-LOG_TAIL_LINES:]])
    return SlipwayError(f"host {host.name} {what}; the end of {log}:{tail}")


@contextlib.contextmanager
def _only_one(fleet: Fleet) -> Iterator[None]:
    """Let one command at a time start or stop this fleet's hosts."""
    fleet.state.mkdir(parents=True, exist_ok=True)
    with (fleet.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pid_file(fleet: Fleet, name: str) -> Path:
    return fleet.state / f"{name}.pid"


def _write(path: Path, data: bytes) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_bytes(data)
    aside.replace(path)


LOCAL = LocalLauncher()
