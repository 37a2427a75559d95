import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from slipway.bundle.session import Tuning, device_memory_bytes, open_session
from slipway.errors import BundleRefused
from slipway.host.engine import devices, sessions
from slipway.host.engine.binding import BoundRunner, CaptureGate, Device, fill
from slipway.host.engine.devices import Gpu
from slipway.host.engine.memory import resident_bytes
from slipway.host.engine.sessions import (
    CPU,
    CUDA,
    TENSORRT,
    PlainRunner,
    SessionSettings,
    alike,
    open_runner,
    tune,
)
from tests.served_models import (
    dense_rows,
    make_dense,
    make_graph,
    make_identity,
    signed_bundle,
    verify_model,
)
from tests.support.pace import limit
from tests.unit.bundle.test_session_datatypes import NUMBERS, random_bits

HOST = Device("cpu", 0, lambda array: lambda: None)


def bound(model: bytes, lanes: int = 1, batchable: bool = True, device: Device = HOST):
    opened = [open_session(model, CPU, 1)]
    return BoundRunner(opened, lanes, device, batchable=batchable, graphs=False)


def threads_and_files() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def graph_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("graphs")]


def test_a_verified_model_is_opened_measured_and_answers():
    verified = signed_bundle()
    runner, measured = open_runner(verified, SessionSettings())
    inputs, expected = next(verified.golden.batches(7))
    answers = runner.run(inputs)
    assert answers["probability"] == pytest.approx(expected["probability"], abs=1e-6)
    assert 0 < measured.row_s < 0.05
    assert 4 <= measured.best_rows <= 256
    assert measured.inline
    assert not measured.wide  # no second session for a model that small


def test_a_model_whose_answers_differ_here_is_refused():
    rows = dense_rows(8)
    wrong = {"y": np.zeros((8, 16), np.float32)}
    verified = verify_model(make_dense(), rows, expected=wrong)
    with pytest.raises(BundleRefused, match="differently on this machine"):
        open_runner(verified, SessionSettings())


def test_a_provider_that_is_not_there_is_refused():
    if device_memory_bytes(CUDA):
        pytest.skip("has a GPU")
    for provider in (CUDA, TENSORRT):
        verified = verify_model(make_dense(), dense_rows(4), provider=provider)
        with pytest.raises(BundleRefused, match=f"must run on {provider}|Please install TensorRT"):
            open_runner(verified, SessionSettings())


def test_closing_tells_who_counts_memory():
    closed = []
    runner, _ = open_runner(signed_bundle(), SessionSettings(), lambda: closed.append(True))
    assert closed == []
    runner.close()
    assert closed == [True]


def test_many_threads_get_each_their_own_answers():
    verified = verify_model(make_dense(64, 8), dense_rows(64, 64))
    runner, _ = open_runner(verified, SessionSettings())

    def ask(n):
        inputs = dense_rows(1 + n % 5, 64, seed=n)
        return runner.run(inputs)["y"], open_session(verified.model, CPU, 1).run(inputs)["y"]

    with ThreadPoolExecutor(8) as pool:
        for answer, alone in pool.map(ask, range(100)):
            assert answer == pytest.approx(alone, abs=1e-5)


class Recorder:
    """A session that notes who ran it, and with which options."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, bool]] = []

    def run(self, inputs, options=None):
        self.runs.append((len(inputs["x"]), options is not None))
        return inputs


def test_only_a_lone_row_goes_to_the_wide_session():
    narrow, wide = Recorder(), Recorder()
    runner = PlainRunner(narrow, 8, wide)
    for rows in (1, 2):
        runner.run(dense_rows(rows))
        runner.run_alone(dense_rows(rows))
    assert [rows for rows, _ in wide.runs] == [1]
    assert [rows for rows, _ in narrow.runs] == [1, 2, 2]


def test_a_batch_of_an_unusual_size_gives_its_memory_back():
    narrow = Recorder()
    runner = PlainRunner(narrow, 8)
    for rows in (8, 9):
        runner.run(dense_rows(rows))
    assert narrow.runs == [(8, False), (9, True)]


def test_memory_that_one_large_request_took_is_given_back():
    model, large = make_dense(256, 4), dense_rows(20_000, 256)

    def grown(usual_rows: int) -> int:
        runner = PlainRunner(open_session(model, CPU, 1), usual_rows)
        runner.run(dense_rows(8, 256))
        before = resident_bytes()
        for _ in range(3):
            runner.run(large)
        return resident_bytes() - before

    assert grown(usual_rows=8) < grown(usual_rows=20_000) / 2


def test_a_wide_session_is_kept_where_it_gains(monkeypatch):
    monkeypatch.setattr(sessions.measure, "gains", lambda narrow, wide, sample: True)
    monkeypatch.setattr(sessions.measure, "WIDE_ROW_S", 0.0)
    verified = verify_model(make_dense(), dense_rows(8))
    before = threads_and_files()[0]
    runner, measured = open_runner(verified, SessionSettings(cores=3))
    assert measured.wide
    assert threads_and_files()[0] == before + 2
    row = dense_rows(1)
    assert runner.run_alone(row)["y"] == pytest.approx(runner.run(row)["y"], abs=1e-6)
    runner.close()
    assert threads_and_files()[0] == before


def test_a_wide_session_that_gains_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(sessions.measure, "gains", lambda narrow, wide, sample: False)
    monkeypatch.setattr(sessions.measure, "WIDE_ROW_S", 0.0)
    before = threads_and_files()[0]
    _, measured = open_runner(verify_model(make_dense(), dense_rows(8)), SessionSettings(cores=3))
    assert not measured.wide
    assert threads_and_files()[0] == before


def test_answers_are_alike_within_what_the_proof_allows():
    contract = verify_model(make_dense(), dense_rows(2), invariance=1e-3).contract
    one = {"y": np.array([1.0, 2.0], np.float32)}
    near, far = ({"y": one["y"] + np.float32(d)} for d in (0.0009, 0.002))
    assert alike(one, near, contract)
    assert not alike(one, far, contract)
    exact = verify_model(make_dense(), dense_rows(2), invariance=0.0).contract
    assert alike(one, one, exact)
    assert not alike(one, near, exact)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_bound_buffers_carry_every_datatype_bit_for_bit(datatype):
    runner = bound(make_identity(datatype))
    for rows in (3, 4, 7, 3):
        values = random_bits(datatype, rows)
        answer = runner.run({"x": values})["y"]
        assert answer.dtype == values.dtype
        assert answer.shape == values.shape
        assert answer.tobytes() == values.tobytes()


def test_bound_answers_are_those_of_a_plain_run():
    model = make_dense(32, 3)
    runner, session = bound(model, lanes=2), open_session(model, CPU, 1)
    for rows in (1, 2, 3, 5, 8, 64, 3):
        inputs = dense_rows(rows, 32, seed=rows)
        assert runner.run(inputs)["y"] == pytest.approx(session.run(inputs)["y"], abs=1e-6)


@pytest.mark.parametrize("rows", [4, 3])  # 3 are filled up to 4 and cut back
def test_a_bound_run_says_how_long_it_copied(rows):
    runner = bound(make_dense())
    runner.run(dense_rows(rows))
    begun = time.perf_counter()
    answers = runner.run(dense_rows(rows))
    assert 0 < answers.copy_s < time.perf_counter() - begun
    assert len(answers["y"]) == rows


def test_an_answer_is_not_overwritten_by_the_next_run():
    runner = bound(make_identity("FP32"))
    first = runner.run({"x": np.ones((2, 3), np.float32)})["y"]
    runner.run({"x": np.zeros((2, 3), np.float32)})
    assert first.tolist() == [[1.0] * 3] * 2


def test_lanes_run_side_by_side_and_never_share_buffers():
    runner = bound(make_identity("INT64"), lanes=3)

    def ask(n):
        values = np.full((1 + n % 4, 5), n, np.int64)
        return runner.run({"x": values})["y"].tolist() == values.tolist()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


def test_a_lane_comes_back_after_a_run_that_failed_and_holds_nothing_of_it():
    pinned, freed = [], []

    def pin(array):
        pinned.append(array)
        return lambda: freed.append(array)

    runner = bound(make_dense(), device=Device("cpu", 0, pin))
    for _ in range(3):
        with pytest.raises(Exception, match=r"Got invalid dimensions|INVALID_ARGUMENT|Gemm|MatMul"):
            runner.run({"x": np.zeros((2, 5), np.float32)})
    assert len(freed) == len(pinned) == 3
    assert runner.run(dense_rows(2))["y"].shape == (2, 16)


def test_too_many_shapes_run_without_buffers(monkeypatch):
    monkeypatch.setattr("slipway.host.engine.binding.SLOTS_MAX", 2)
    runner = bound(make_identity("FP32"), batchable=False)
    for width in (1, 2, 3, 4):
        values = np.full((1, width), 5, np.float32)
        assert runner.run({"x": values})["y"].tolist() == values.tolist()


def test_an_output_whose_shape_depends_on_the_values_is_fetched_whole():
    node = helper.make_node("NonZero", ["x"], ["y"])
    model = make_graph([node], [("x", "INT64", ["n"])], [("y", "INT64", [1, "k"])])
    runner = bound(model, batchable=False)
    for values in ([0, 1, 1], [1, 1, 1], [0, 0, 1]):
        found = runner.run({"x": np.array(values, np.int64)})["y"]
        assert found.tolist() == [np.flatnonzero(values).tolist()]


def test_every_buffer_is_pinned_once_and_freed():
    pinned, freed = [], []

    def pin(array):
        pinned.append(array)
        return lambda: freed.append(array)

    runner = bound(make_dense(), lanes=2, device=Device("cpu", 0, pin))
    runner.warm([dense_rows(n) for n in (1, 2, 4)])
    for rows in (1, 2, 3, 4):
        runner.run(dense_rows(rows))
    assert len(pinned) == 2 * 3 * 2  # lanes, shapes, one input and one output
    assert freed == []
    runner.close()
    assert len(freed) == len(pinned)


def test_batches_are_filled_to_powers_of_two_with_their_last_row():
    assert fill({"x": np.array([1, 2, 3])}, 3)["x"].tolist() == [1, 2, 3, 3]
    whole = {"x": np.array([1, 2])}
    assert fill(whole, 2) is whole


def test_while_one_captures_nobody_runs():
    gate, seen, inside = CaptureGate(), [], threading.Event()

    def run():
        inside.wait(limit(5))
        with gate.shared():
            seen.append("run")

    thread = threading.Thread(target=run)
    thread.start()
    with gate.alone():
        inside.set()
        thread.join(0.05)
        seen.append("captured")
    thread.join(limit(5))
    assert seen == ["captured", "run"]
    with gate.shared(), gate.shared():
        pass


def test_engines_are_kept_by_model_gpu_and_tensorrt(tmp_path, monkeypatch):
    gpu = Gpu("NVIDIA H200 / SXM", "9.0")
    monkeypatch.setattr(devices, "find_gpu", lambda device_id: gpu)
    monkeypatch.setattr(devices, "find_tensorrt", lambda: 101300)
    first, second = (
        tune(TENSORRT, SessionSettings(engines=tmp_path), digest).provider
        for digest in ("a" * 64, "b" * 64)
    )
    folder = tmp_path / f"{'a' * 64}-NVIDIA_H200_SXM-sm90-trt101300"
    assert first["trt_engine_cache_path"] == first["trt_timing_cache_path"] == str(folder)
    assert first["trt_engine_cache_enable"] == "1"
    assert second["trt_engine_cache_path"] != str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (
        "trt_engine_cache_path" not in tune(CUDA, SessionSettings(engines=tmp_path), "a").provider
    )


def test_no_engine_is_kept_where_nobody_can_say_what_it_is_good_for(tmp_path):
    if devices.find_gpu():
        pytest.skip("has a GPU")
    assert devices.find_tensorrt() is None
    options = tune(TENSORRT, SessionSettings(engines=tmp_path), "a" * 64).provider
    assert options == {"device_id": "0"}
    assert list(tmp_path.iterdir()) == []


def test_without_a_driver_nothing_is_pinned_and_nothing_fails():
    devices.pin(np.zeros(10))()


class PretendedGpu:
    """Opens models on the CPU under a GPU provider's name, and notes what was asked.

    ONNX Runtime's CPU provider passes over what it does not know, so the whole way of a GPU
    runs: lanes, threads, fixed outputs and ids of graphs.
    """

    def __init__(self, graphs: bool = True) -> None:
        self.asked: list[Tuning] = []
        self._graphs = graphs

    def open(self, model, provider, threads, tuning=None):
        if tuning:
            self.asked.append(tuning)
            if tuning.session and not self._graphs:
                raise BundleRefused("fallback to CPU EP has been explicitly disabled")
        session = open_session(model, CPU, threads)
        session.providers = [provider, CPU]
        return session

    def put(self, monkeypatch) -> "PretendedGpu":
        monkeypatch.setattr(sessions, "open_session", self.open)
        monkeypatch.setattr(sessions, "_device", lambda settings: HOST)
        return self


def test_a_gpu_runs_bound_lanes_with_graphs_each_in_a_session_of_its_own(monkeypatch):
    gpu = PretendedGpu().put(monkeypatch)
    verified = verify_model(make_dense(32, 3), dense_rows(40, 32), provider=CUDA)
    closed = []
    runner, measured = open_runner(
        verified, SessionSettings(instances=2), lambda: closed.append(True)
    )
    assert isinstance(runner, BoundRunner)
    assert runner.graphs
    plain, *captured = gpu.asked
    assert "enable_cuda_graph" not in plain.provider
    assert [tuning.provider["enable_cuda_graph"] for tuning in captured] == ["1", "1"]
    assert captured[0].session == {"session.disable_cpu_ep_fallback": "1"}
    assert measured.best_rows & (measured.best_rows - 1) == 0
    assert len(graph_threads()) == 2
    for rows in (1, 3, 8, 5):
        inputs = dense_rows(rows, 32, seed=rows)
        expected = open_session(verified.model, CPU, 1).run(inputs)["y"]
        assert runner.run(inputs)["y"] == pytest.approx(expected, abs=1e-6)
        assert runner.run_alone(inputs)["y"].shape == (rows, 32)
    runner.close()
    assert closed == [True]
    assert not graph_threads()


def test_a_model_that_needs_the_cpu_is_bound_without_graphs(monkeypatch):
    PretendedGpu(graphs=False).put(monkeypatch)
    verified = verify_model(make_dense(), dense_rows(8), provider=CUDA)
    runner, _ = open_runner(verified, SessionSettings(instances=2))
    assert isinstance(runner, BoundRunner)
    assert not runner.graphs
    assert runner.run(dense_rows(3))["y"].shape == (3, 16)


def test_text_runs_plainly_on_a_gpu(monkeypatch):
    gpu = PretendedGpu().put(monkeypatch)
    rows = {"x": np.array([["a"], ["b"]], object)}
    runner, _ = open_runner(
        verify_model(make_identity("BYTES"), rows, provider=CUDA), SessionSettings()
    )
    assert isinstance(runner, PlainRunner)
    assert runner.run(rows)["y"].tolist() == [["a"], ["b"]]
    assert len(gpu.asked) == 1  # no second session for graphs that cannot be


def test_buffers_that_fail_are_done_without(monkeypatch):
    PretendedGpu().put(monkeypatch)
    nowhere = Device("cuda", 0, lambda array: lambda: None)
    monkeypatch.setattr(sessions, "_device", lambda settings: nowhere)
    verified = verify_model(make_dense(), dense_rows(8), provider=CUDA)
    runner, _ = open_runner(verified, SessionSettings())
    if not device_memory_bytes(CUDA):
        assert isinstance(runner, PlainRunner)
    assert runner.run(dense_rows(3))["y"].shape == (3, 16)


def test_what_is_bound_re_runs_the_golden_set(monkeypatch):
    PretendedGpu().put(monkeypatch)
    monkeypatch.setattr(
        BoundRunner, "run", lambda self, inputs: {"y": np.zeros((len(inputs["x"]), 16), np.float32)}
    )
    runner, _ = open_runner(
        verify_model(make_dense(), dense_rows(8), provider=CUDA), SessionSettings()
    )
    assert isinstance(runner, PlainRunner)


@pytest.mark.gpu
def test_a_gpu_answers_through_cuda_graphs_as_plainly():
    if not device_memory_bytes(CUDA):
        pytest.skip("no GPU here")
    verified = verify_model(make_dense(64, 4), dense_rows(40, 64), provider=CUDA)
    runner, measured = open_runner(verified, SessionSettings(instances=2))
    assert isinstance(runner, BoundRunner)
    assert runner.graphs
    plain = open_session(verified.model, CUDA, 1)
    for rows in (1, 2, 3, 4, measured.best_rows, 3, 1):
        inputs = dense_rows(rows, 64, seed=rows)
        assert runner.run(inputs)["y"] == pytest.approx(plain.run(inputs)["y"], abs=1e-3)


def test_loading_and_unloading_leaves_nothing_behind():
    model, rows = make_dense(64, 3), dense_rows(8, 64)

    def switch(times):
        for _ in range(times):
            session = open_session(model, CPU, 1)
            runner = PlainRunner(session, 8, open_session(model, CPU, 2))
            runner.run(rows)
            runner.run_alone(dense_rows(1, 64))
            runner.close()

    switch(100)
    before, resident = threads_and_files(), resident_bytes()
    switch(1000)
    assert threads_and_files() == before
    assert resident_bytes() - resident < 5 << 20
