import dataclasses
import platform
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slipway.bundle.session import open_session
from slipway.errors import BundleRefused
from slipway.host.engine.confine import MACHINES
from slipway.host.engine.probe import Probed, ProbeLimits, probe
from tests.bundles import CPU
from tests.served_models import (
    dense_rows,
    make_dense,
    make_graph,
    make_identity,
    signed_bundle,
    verify_model,
)
from tests.support.pace import limit, within
from tests.unit.bundle.test_session_datatypes import TEXT, random_bits


def unopened(model: bytes):
    """Return a verified bundle that this process did not open, as a host gets it."""
    return dataclasses.replace(verify_model(make_dense(), dense_rows(4)), model=model)


def endless() -> bytes:
    """Make a graph that loops for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 16]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, ["n", 16]),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)
    weights = {"turns": np.array(2**62, np.int64), "yes": np.array(True)}
    shape = ["n", 16]
    return make_graph([loop], [("x", "FP32", shape)], [("y", "FP32", shape)], weights)


def huge(elements: int) -> bytes:
    """Make a graph that asks for memory."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    weights = {"size": np.array([elements], np.int64)}
    shape = ["n", 16]
    return make_graph(nodes, [("x", "FP32", shape)], [("y", "FP32", shape)], weights)


def test_a_sound_model_gets_through():
    with within(5):
        probe(signed_bundle())


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT64", "FP16", "BF16"])
def test_rows_of_any_datatype_reach_the_child(datatype):
    rows = {"x": random_bits(datatype, 5)}
    if datatype in ("FP16", "BF16"):
        rows = {"x": rows["x"] & 0x3FFF} if datatype == "BF16" else {"x": np.ones((5, 3), "f2")}
    probe(verify_model(make_identity(datatype), rows))


def test_text_reaches_the_child():
    probe(verify_model(make_identity("BYTES"), {"x": np.array([[text] for text in TEXT], object)}))


@pytest.mark.parametrize("name", ["SEGV", "ABRT", "KILL"])
def test_a_crash_of_the_child_is_a_refusal_and_nothing_else(name):
    code = (
        f"import os, signal, sys; sys.stdin.buffer.read(); os.kill(os.getpid(), signal.SIG{name})"
    )
    with pytest.raises(BundleRefused, match=r"crashed with signal \d+ in the probe"):
        probe(signed_bundle(), command=[sys.executable, "-I", "-c", code])


def test_a_child_that_dies_before_it_reads_is_a_refusal():
    verified = dataclasses.replace(signed_bundle(), model=bytes(10_000_000))
    with pytest.raises(BundleRefused, match="ended with exit code 3 in the probe"):
        probe(verified, command=[sys.executable, "-I", "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize("said", ['""', '"[]"', "'{}'", '"[" * 60_000', '"x" * 1_000_000'])
def test_a_child_that_says_nothing_sensible_is_a_refusal(said):
    code = f"import sys; sys.stdin.buffer.read(); sys.stdout.write({said})"
    with pytest.raises(BundleRefused, match="left no report in the probe"):
        probe(signed_bundle(), command=[sys.executable, "-I", "-c", code])


def test_a_graph_without_end_is_refused_when_its_time_is_up():
    with within(4), pytest.raises(BundleRefused, match=r"was not done after 1\.5 s in the probe"):
        probe(unopened(endless()), ProbeLimits(wall_s=1.5))


def test_time_in_which_the_host_was_frozen_is_not_held_against_a_model():
    code = (
        "import os, signal, subprocess, sys, time; sys.stdin.buffer.read();"
        "host = os.getppid(); os.kill(host, signal.SIGSTOP); time.sleep(2.5);"
        "os.kill(host, signal.SIGCONT); sys.stdout.write('{\"refused\": null}')"
    )
    program = (
        "import sys; from slipway.host.engine.probe import ProbeLimits, probe;"
        "from tests.unit.host.engine.test_probe import signed_bundle;"
        f"probe(signed_bundle(), ProbeLimits(wall_s=2.0), [sys.executable, '-I', '-c', {code!r}])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began > 2.5


@pytest.mark.parametrize("elements", [10**13, 2 * 10**9])
def test_a_graph_that_asks_for_more_memory_than_there_may_be_is_refused(elements):
    with pytest.raises(BundleRefused, match="probe"):
        probe(unopened(huge(elements)), ProbeLimits(memory_bytes=2 << 30))


def test_bytes_that_are_no_model_are_refused_with_the_reason():
    with pytest.raises(BundleRefused, match=r"no ONNX file.*\(in the probe\)"):
        probe(unopened(b"\xff" * 100))


def test_a_model_that_fails_on_its_golden_rows_is_refused_with_the_reason():
    weights = numpy_helper.from_array(np.zeros((3, 16), np.float32), "w0")
    model = onnx.load_from_string(make_dense())
    model.graph.initializer[0].CopyFrom(weights)
    del model.graph.input[0].type.tensor_type.shape.dim[1:]
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_param = "m"
    open_session(model.SerializeToString(), CPU, 1)  # can be opened
    with pytest.raises(BundleRefused, match="fails on its golden rows"):
        probe(unopened(model.SerializeToString()))


def test_the_child_sees_nothing_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SLIPWAY_SECRET", "hunter2")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    seen = tmp_path / "seen"
    code = (
        "import os, sys; sys.stdin.buffer.read();"
        f"open({str(seen)!r}, 'w').write(repr(dict(os.environ)));"
        "sys.stdout.write('{\"refused\": null}')"
    )
    probe(signed_bundle(), command=[sys.executable, "-I", "-c", code])
    assert "hunter2" not in seen.read_text()
    assert "LD_LIBRARY_PATH" not in seen.read_text()


def test_a_version_that_got_through_is_known_after_a_restart(tmp_path):
    verified = signed_bundle()
    assert not Probed(tmp_path / "probed").knows(verified)
    Probed(tmp_path / "probed").remember(verified)
    assert Probed(tmp_path / "probed").knows(verified)
    assert (tmp_path / "probed").stat().st_mode & 0o777 == 0o700


def test_another_runtime_or_processor_probes_again(tmp_path, monkeypatch):
    verified, probed = signed_bundle(), Probed(tmp_path)
    probed.remember(verified)
    with monkeypatch.context() as patch:
        patch.setattr("onnxruntime.__version__", "0.1")
        assert not probed.knows(verified)
    with monkeypatch.context() as patch:
        patch.setattr("slipway.host.engine.probe._processor", lambda: "another")
        assert not probed.knows(verified)
    assert probed.knows(verified)


def test_what_is_forgotten_or_damaged_is_probed_again(tmp_path):
    verified, probed = signed_bundle(), Probed(tmp_path)
    probed.remember(verified)
    next(tmp_path.iterdir()).write_text("{}")
    assert not probed.knows(verified)
    probed.remember(verified)
    probed.forget(verified.manifest.version)
    assert not probed.knows(verified)
    probed.forget(verified.manifest.version)


def confined(code: str) -> subprocess.CompletedProcess[str]:
    program = f"from slipway.host.engine.confine import confine; assert confine()\n{code}"
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit(20))


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import os; os.execv('/bin/true', ['true'])",
        "open('/dev/shm/slipway-test', 'w')",
        "import os; os.open('/dev/null', os.O_RDWR)",
        "import os; os.unlink('/dev/shm/slipway-none')",
        "import os; os.rename('/dev/shm/slipway-none', '/dev/shm/slipway-other')",
        "import os; os.kill(os.getppid(), 0)",
    ],
)
@pytest.mark.skipif(platform.machine() not in MACHINES, reason="no filter for this machine")
def test_a_confined_process_cannot_reach_out(code):
    assert "PermissionError" in confined(code).stderr.splitlines()[-1]


@pytest.mark.skipif(platform.machine() not in MACHINES, reason="no filter for this machine")
def test_threads_that_ran_before_are_confined_too():
    code = (
        "import threading\nfrom slipway.host.engine.confine import confine\n"
        "confined, failed = threading.Event(), []\ndef go():\n  confined.wait()\n"
        "  try: open('/dev/null', 'w')\n  except PermissionError as e: failed.append(e)\n"
        "t = threading.Thread(target=go); t.start(); confine(); confined.set(); t.join()\n"
        "print(len(failed))"
    )
    command = [sys.executable, "-I", "-c", code]
    assert (
        subprocess.run(command, capture_output=True, text=True, timeout=limit(20)).stdout == "1\n"
    )


@pytest.mark.skipif(platform.machine() not in MACHINES, reason="no filter for this machine")
def test_a_confined_process_still_reads_computes_and_answers():
    code = (
        "import threading; t = threading.Thread(target=open, args=('/proc/cpuinfo',)); t.start();"
        " t.join(); import ast; print(sum(range(10)))"
    )
    done = confined(code)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "45")
    assert confined("import os; os.abort()").returncode == -6
