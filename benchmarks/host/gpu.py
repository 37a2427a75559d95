"""The encoder in fp16 on a GPU: our host against bare ONNX Runtime with CUDA.

Requests carry as many rows as the bare session does best with, so that what is compared is the
way to the GPU and back and not the parsing of a hundred thousand requests per second.
"""

import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks.host import payloads
from benchmarks.host.machine import foreign_share, reading
from benchmarks.host.peers.specs import SPECS, rows
from benchmarks.host.records import Record
from benchmarks.host.servers import Running
from benchmarks.host.wrk import run_wrk

MODEL = "encoder-fp16"
CUDA = "CUDAExecutionProvider"
SIZES = (8, 16, 32, 64, 128, 256)
CONNECTIONS = (4, 16)
"""Enough to hide the way there and back, few enough not to queue."""


def why_not(path: Path, provider: str = CUDA) -> str | None:
    """Say why there is nothing to measure; None where a session really runs on the GPU.

    The list of available providers names CUDA where it does not work, and a session falls back
    to the CPU without a word: so one is made and asked.
    """
    if provider not in ort.get_available_providers():
        return f"this ONNX Runtime has no {provider}"
    try:
        ort.set_default_logger_severity(4)  # what it would complain about is our answer
        with redirect_stdout(StringIO()):  # so is what this prints
            ort.preload_dlls()
        providers = ort.InferenceSession(str(path), providers=[provider]).get_providers()
    except Exception as error:  # ONNX Runtime raises types of its own, not all of them public
        return f"no session on {provider}: {str(error).splitlines()[0]}"
    return None if providers[0] == provider else f"{provider} fell back to {providers[0]}"


def bare_rates(path: Path, seconds: float, provider: str = CUDA) -> dict[int, float]:
    """Measure rows per second of bare runs, with input and output bound, for every batch size."""
    session = ort.InferenceSession(str(path), providers=[provider])
    return {size: bare_rate(session, size, seconds) for size in SIZES}


def bare_rate(session: Any, size: int, seconds: float) -> float:
    """Run one batch size for some seconds; rows cross to the GPU each time, as a host's must."""
    x, name = rows("encoder", size), SPECS["encoder"].input
    for _ in range(3):
        session.run(None, {name: x})
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        binding = session.io_binding()
        binding.bind_cpu_input(name, x)
        binding.bind_output("y")
        session.run_with_iobinding(binding)
        binding.copy_outputs_to_cpu()
        done += size
    return done / (time.perf_counter() - start)


def compare(running: Running, rates: dict[int, float], seconds: int, folder: Path) -> Record:
    """Load our host with requests of the best batch size, and with single rows beside it."""
    best = max(rates, key=lambda size: rates[size])
    client_s, seen, start = 0.0, {}, reading(running.pids())
    for count, connections in [(best, c) for c in CONNECTIONS] + [(1, 64)]:
        request = payloads.request(running.server.model, "binary", count)
        warm = run_wrk(running.server.url, request, connections, 1, folder)
        load = run_wrk(running.server.url, request, connections, seconds, folder)
        client_s += warm.client_cpu_s + load.client_cpu_s
        seen[f"{count} rows, {connections} connections"] = load.rps * count
    foreign = foreign_share(start, reading(running.pids()), client_s)
    ours = max(rate for name, rate in seen.items() if name.startswith(f"{best} "))
    return {
        "what": "gpu", "server": running.server.name, "model": running.server.model,
        "best_batch": best, "bare_rows_per_s": rates[best], "our_rows_per_s": ours,
        "of_bare": ours / rates[best], "foreign": foreign, "all_ours": seen,
        "all_bare": {str(size): rate for size, rate in rates.items()},
    }  # fmt: skip
