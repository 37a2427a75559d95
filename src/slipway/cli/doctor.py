"""Say what this machine can do, by trying it rather than by asking what is installed."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.cli.project import dry_run_option, find_root, json_option, run_flow, show_json
from slipway.errors import ConfigError, SlipwayError

if TYPE_CHECKING:
    from slipway.gpu.slots import Slots

PACKAGES = (
    "slipway-ml",
    "numpy",
    "pyarrow",
    "fsspec",
    "model-signing",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnx",
    "torch",
    "duckdb",
    "dvc",
    "prefect",
    "great-expectations",
)
"""What decides whether a stage or a host can run here."""

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""int8 kernels differ by these; without a VNNI flavour int8 can be slow or saturate."""

TINY_MODEL = bytes.fromhex(
    "080a3a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a001014"
)
"""y = x + x on one float (opset 20): the least that a provider must be able to run."""

GPU_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
GPU_TIMEOUT_S = 20.0
"""A driver in trouble makes nvidia-smi hang."""

ORT_SILENT = 4
"""ONNX Runtime's severity "fatal": what fails here is told in our words."""

Facts = dict[str, Any]


@click.command()
@click.option("--fix", is_flag=True, help="Mark runs that died on this machine Crashed, first.")
@dry_run_option
@json_option
def doctor(fix: bool, dry_run: bool, as_json: bool) -> int:
    """Show what this machine can do: providers that really run, GPUs and whose turn it is, ports.

    Where configs/backup.yaml says where backups go, it warns of old backups and drills.

    With --fix it first asks the Prefect server at PREFECT_API_URL for runs of this checkout
    that died on this machine without a word (power cut, kill -9, out of memory). Prefect takes
    them for Running and lets no later run in; they are marked Crashed, and the next run starts
    at once. `slipway worker` and `slipway run` do the same when they start.

    \b
      slipway doctor
      slipway doctor --fix --dry-run
      slipway doctor --fix
    """
    if dry_run and not fix:
        raise click.UsageError("--dry-run says what --fix would do: give both")
    code = _fix(dry_run) if fix else 0
    facts = examine()
    if as_json:
        show_json(facts)
        return code
    for topic, found in facts.items():
        click.echo(topic)
        for name, value in found.items():
            click.echo(f"  {name:20} {value}")
    return code


def _fix(dry_run: bool) -> int:
    dry = ["--dry-run"] if dry_run else []
    return run_flow(find_root(), "flows.commands.worker", "--reconcile-only", *dry)


def examine() -> Facts:
    """Gather everything; a check that fails is an answer too."""
    checks: dict[str, Callable[[], Facts]] = {
        "python": _python,
        "packages": _packages,
        "cpu": _cpu,
        "memory": _memory,
        "disk": _disk,
        "gpus": _gpus,
        "gpu slots": _gpu_slots,
        "processes": _processes,
        "providers": _providers,
        "ports": _ports,
        "backups": _backups,
    }
    return {topic: found for topic, check in checks.items() if (found := check())}


def _python() -> Facts:
    return {"version": platform.python_version(), "platform": platform.platform()}


def _packages() -> Facts:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _cpu() -> Facts:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    pairs = [(key.strip(), value.strip()) for key, _, value in (x.partition(":") for x in lines)]
    flags = {flag for key, value in pairs if key in ("flags", "Features") for flag in value.split()}
    return {
        "model": next((value for key, value in pairs if key == "model name"), platform.machine()),
        "cores usable": len(os.sched_getaffinity(0)),
        "flags for int8": ", ".join(f for f in CPU_FLAGS if f in flags) or "none",
    }


def _processes() -> Facts:
    from slipway.processes.containment import namespaces_allowed

    ended = "by the kernel, with a PID namespace for each"
    if not namespaces_allowed():
        ended = "by their runner: this machine lets this user have no PID namespaces"
    return {"stages are ended": ended}


def _memory() -> Facts:
    table = Path("/proc/meminfo").read_text("ascii").splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (row.partition(":") for row in table)}
    facts = {"total": _gib(kib["MemTotal"] * 1024), "available": _gib(kib["MemAvailable"] * 1024)}
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text("ascii").strip()) != "max":
        facts["limit of this container"] = _gib(int(text))
    return facts


def _disk() -> Facts:
    usage = shutil.disk_usage(Path.cwd())
    return {"free here": _gib(usage.free), "total": _gib(usage.total)}


def _gpus() -> Facts:
    if shutil.which(GPU_QUERY[0]) is None:
        return {"none": "nvidia-smi is not installed"}
    try:
        done = subprocess.run(
            GPU_QUERY, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"unknown": f"nvidia-smi does not work: {error}"}
    if done.returncode:
        return {"unknown": f"nvidia-smi says: {(done.stderr or done.stdout).strip()}"}
    return {f"gpu {i}": row.strip() for i, row in enumerate(done.stdout.splitlines())}


def _gpu_slots(slots: "Slots | None" = None) -> Facts:
    """Say which stage has each GPU, and which wait for it; other users' are not seen."""
    from slipway.gpu.slots import Slots, holders, queue

    slots = slots or Slots.here()
    if not slots.devices:
        return {"none": "this machine has no NVIDIA device: stages run without a turn"}
    tickets = queue(slots.folder)
    taken = holders(tickets)
    facts: Facts = {}
    for name in dict.fromkeys([*(device.name for device in slots.devices), *taken]):
        first, *waiting = [*map(str, taken.get(name, [])), ""]
        queued = [f"waiting: {ticket}" for ticket in waiting if ticket]
        facts[name] = "; ".join([first or "free", *queued])
    if unread := [ticket.number for ticket in tickets if not ticket.devices]:
        facts["not readable"] = f"tickets {unread} in {slots.folder}; all wait for their end"
    return facts


def _providers() -> Facts:
    """Open and run a tiny session on each provider that ONNX Runtime claims to have.

    It lists CUDA and TensorRT wherever they were compiled in, and falls back to the CPU in
    silence where they do not work.
    """
    try:
        import numpy as np
        import onnxruntime as ort

        from slipway.bundle.session import open_session
    except ImportError as error:
        return {"none": f"cannot be imported: {error}; pip install 'slipway-ml[host]'"}
    ort.set_default_logger_severity(ORT_SILENT)
    facts: Facts = {}
    for provider in ort.get_available_providers():
        try:
            session = open_session(TINY_MODEL, provider, threads=1)
            answer = session.run({"x": np.array([1.5], dtype=np.float32)})
            facts[provider] = "runs" if answer["y"].tolist() == [3.0] else f"wrong: {answer}"
        except SlipwayError as error:
            reason = str(error).removeprefix("model.onnx: ")
            facts[provider] = f"does not run: {reason}"
        except Exception as error:
            facts[provider] = f"does not run: {type(error).__name__}: {error}"
    return facts


def _ports() -> Facts:
    """Look at the ports of the local fleet."""
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.launch.local import port_problem, read_process

    try:
        fleet = load_fleet(find_root(), "local")
    except ConfigError as error:
        return {"unknown": str(error)}
    facts = {}
    for host in fleet.hosts:
        ours = read_process(fleet, host.name)
        for address, port in host.listeners:
            problem = port_problem(address, port)
            facts[str(port)] = f"host {host.name} runs" if ours and problem else problem or "free"
    return facts


def _backups() -> Facts:
    """Tell how old the newest backup and drill are; nothing where the project plans none."""
    from slipway.backups import find_config, warnings

    try:
        root = find_root()
    except ConfigError:
        return {}
    try:
        config = find_config(root)
    except ConfigError as error:
        return {"unknown": str(error)}
    return dict(warnings(root, config, datetime.now(UTC))) if config else {}


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
