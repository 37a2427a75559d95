"""Triton's perf_analyzer, as it comes in tritonclient's wheel, against a real host."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import MISSING, find_python
from tests.pinned_host import Bundles, PinnedHost, X
from tests.support.pace import limit

pytestmark = pytest.mark.slow  # a dozen measurements of a second and more

LINE = re.compile(r"throughput: ([\d.]+) infer/sec, latency (\d+) usec")
QUICK = ("--measurement-interval", "300", "--max-trials", "20", "--stability-percentage", "999")
"""Short windows, none of which is unstable: what is tested is the protocol, not the speed."""


@pytest.fixture(scope="module")
def perf_analyzer() -> list[str]:
    """The program, with the CUDA runtime that it is linked against; it needs no GPU."""
    python = find_python("triton")
    if python is None:
        pytest.skip(MISSING)
    home = Path(python).parents[1]
    runtime = next(home.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib"), None)
    environment = {"LD_LIBRARY_PATH": str(runtime)} if runtime else {}
    command = ["env", *(f"{key}={value}" for key, value in environment.items())]
    command.append(str(home / "bin/perf_analyzer"))
    tried = subprocess.run([*command, "--version"], capture_output=True, text=True)
    if "cannot open shared object file" in tried.stderr:
        pytest.skip(f"apt-get install libb64-0d: {tried.stderr.strip()}")
    assert "Perf Analyzer Version" in tried.stdout + tried.stderr
    return command


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PinnedHost]:
    folder = tmp_path_factory.mktemp("host")
    bundles = Bundles(folder)
    paths = [bundles.path(kind) for kind in ("mlp", "types")]
    with PinnedHost(folder / "a", paths, bundles.keys) as started:
        yield started


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write three rows as perf_analyzer reads them."""
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    data = [{"x": {"content": [x + n for x in X], "shape": [64]}} for n in range(3)]
    path.write_text(json.dumps({"data": data}))
    return str(path)


def measure(
    command: list[str], host: PinnedHost, face: str, *words: str, model: str = "mlp"
) -> list[float]:
    """Run it; return the throughput of each step of the sweep."""
    port = host.grpc_port if face == "grpc" else host.port
    asked = [*command, "-m", model, "-u", f"127.0.0.1:{port}", "-i", face, *QUICK, *words]
    done = subprocess.run(
        asked, capture_output=True, text=True, timeout=limit(60), env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed" not in done.stdout + done.stderr
    return [float(found[1]) for found in LINE.finditer(done.stdout)]


@pytest.mark.parametrize("rows_at_once", [1, 4])
@pytest.mark.parametrize("face", ["http", "grpc"])
def test_a_sweep_runs(
    perf_analyzer: list[str], host: PinnedHost, rows: str, face: str, rows_at_once: int
) -> None:
    sweep = ("--concurrency-range", "1:8:7", "-b", str(rows_at_once), "--input-data", rows)
    found = measure(perf_analyzer, host, face, *sweep)
    assert len(found) == 2
    assert min(found) > 0


@pytest.mark.parametrize(
    "words",
    [
        ("http", "--input-tensor-format", "json", "--output-tensor-format", "json"),
        ("http", "--async", "--concurrency-range", "4"),
        ("grpc", "--async", "--concurrency-range", "4"),
        ("http", "--request-rate-range", "200", "--request-distribution", "poisson"),
        ("grpc", "--async", "--request-rate-range", "200"),
        ("grpc", "--grpc-compression-algorithm", "gzip"),
    ],
    ids=" ".join,
)
def test_its_other_ways_of_asking_work(
    perf_analyzer: list[str], host: PinnedHost, words: tuple[str, ...]
) -> None:
    (found,) = measure(perf_analyzer, host, *words)
    assert found > 0


@pytest.mark.parametrize("face", ["http", "grpc"])
def test_it_sends_every_datatype(perf_analyzer: list[str], host: PinnedHost, face: str) -> None:
    words = ("-b", "2", "--input-data", "zero", "--concurrency-range", "2")
    (found,) = measure(perf_analyzer, host, face, *words, model="types")
    assert found > 0
