"""Only the guilty job fails, and finding it takes few runs."""

import gc
import math
import time
import weakref
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.host.engine.batch import Shapes
from slipway.host.engine.bisect import Admit, Attempts, is_out_of_memory
from slipway.host.engine.job import Batch, Job, Result
from slipway.host.engine.runner import Copied
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused
from tests.engines import EATS_MEMORY, RAISES, WRONG_ROWS, PaperRunner, answers, job_of


def nothing(job: Job, result: Result) -> None: ...


def jobs_of(*values: float) -> list[Job]:
    return [
        job_of({"x": np.full((1, 2), value, np.float32)}, nothing, n)
        for n, value in enumerate(values)
    ]


def attempt(
    jobs: list[Job], runner: PaperRunner, admit: Admit | None = None
) -> tuple[list[Result], list[Exception]]:
    errors: list[Exception] = []
    return Attempts(runner.run, Shapes(), admit, errors, Batch(1, 0, 0, 0.0)).answer(jobs), errors


def is_answer(job: Job, result: Result) -> bool:
    if isinstance(result, Exception):
        return False
    alone = answers(job.inputs["x"])
    return all(np.array_equal(result[name], alone[name]) for name in alone)


def test_a_good_batch_is_one_run() -> None:
    runner = PaperRunner()
    jobs = jobs_of(1, 2, 3)
    results, errors = attempt(jobs, runner)
    assert all(map(is_answer, jobs, results))
    assert (runner.runs, errors) == ([3], [])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 64), st.sets(st.integers(0, 63), max_size=4), st.sampled_from(["a", "b"]))
def test_only_the_guilty_fail_after_few_runs(size: int, guilty: set[int], kind: str) -> None:
    guilty = {n for n in guilty if n < size}
    bad = RAISES if kind == "a" else EATS_MEMORY
    jobs = jobs_of(*[bad if n in guilty else float(n) for n in range(size)])
    runner = PaperRunner()
    results, _ = attempt(jobs, runner)
    assert {n for n, result in enumerate(results) if isinstance(result, Exception)} == guilty
    assert all(is_answer(jobs[n], results[n]) for n in range(size) if n not in guilty)
    assert len(runner.runs) <= 1 + 2 * len(guilty) * math.ceil(math.log2(size) if size > 1 else 0)


def test_the_guilty_get_what_the_model_raised() -> None:
    results, errors = attempt(jobs_of(1, RAISES), PaperRunner())
    assert isinstance(results[1], ValueError)
    assert len(errors) == 2
    assert results[1].__context__ is None
    assert "raised in PaperRunner.run" in results[1].__notes__[0]


def test_want_of_memory_splits_until_it_fits() -> None:
    runner = PaperRunner(memory_rows=5)
    jobs = jobs_of(*range(16))
    results, _ = attempt(jobs, runner)
    assert all(map(is_answer, jobs, results))
    assert runner.runs == [16, 8, 4, 4, 8, 4, 4]


def test_a_job_that_needs_too_much_memory_by_itself_is_refused_alone() -> None:
    results, _ = attempt(jobs_of(1, EATS_MEMORY, 3), PaperRunner())
    assert isinstance(results[1], RequestRefused)
    assert results[1].code == "out_of_memory"
    assert [isinstance(result, Exception) for result in results] == [False, True, False]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(..)"), 1),
        (RuntimeError("Failed to allocate memory for requested buffer of size 285081600"), True),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=x"), True),
        (RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0"), True),
        (RuntimeError("std::bad_alloc"), True),
        (ValueError("indices element out of data bounds, idx=99"), False),
    ],
)
def test_want_of_memory_is_told_by_what_is_said(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == bool(expected)


def test_outputs_that_cannot_be_divided_are_asked_for_one_by_one() -> None:
    runner = PaperRunner()
    jobs = jobs_of(1, WRONG_ROWS, 3, 4)
    results, errors = attempt(jobs, runner)
    assert [is_answer(*pair) for pair in zip(jobs, results, strict=True)] == [
        True,
        False,
        True,
        True,
    ]
    assert "expected 1 rows" in str(results[1])
    assert runner.runs == [4, 1, 1, 1, 1]
    assert len(errors) == 2


def test_a_model_that_always_loses_rows_answers_nobody() -> None:
    class Loses(PaperRunner):
        def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
            return {"y": inputs["x"][1:]}

    results, _ = attempt(jobs_of(1, 2, 3), Loses())
    assert all(isinstance(result, Exception) for result in results)


def test_an_output_that_is_no_array_is_a_fault_of_the_model() -> None:
    class Odd(PaperRunner):
        def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
            return {"y": [1.0]}  # type: ignore[dict-item]

    results, _ = attempt(jobs_of(1, 2), Odd())
    assert all(isinstance(result, AttributeError) for result in results)


def finite(inputs: Mapping[str, Array]) -> RequestRefused | None:
    return None if np.isfinite(inputs["x"]).all() else RequestRefused("bad_request", "not finite")


def test_what_admission_objects_to_is_refused_and_the_rest_is_one_run() -> None:
    runner = PaperRunner()
    jobs = jobs_of(1, np.nan, 3, np.inf)
    results, errors = attempt(jobs, runner, finite)
    codes = [result.code if isinstance(result, RequestRefused) else "ok" for result in results]
    assert codes == ["ok", "bad_request", "ok", "bad_request"]
    assert is_answer(jobs[0], results[0])
    assert is_answer(jobs[2], results[2])
    assert (runner.runs, errors) == ([2], [])


def test_a_job_that_admission_refuses_never_runs() -> None:
    runner = PaperRunner()
    attempt(jobs_of(np.nan), runner, finite)
    attempt(jobs_of(np.nan, np.nan), runner, finite)
    assert runner.runs == []


def test_an_objection_to_the_company_only_leaves_each_job_its_own_run() -> None:
    def few(inputs: Mapping[str, Array]) -> RequestRefused | None:
        return RequestRefused("bad_request", "too many") if len(inputs["x"]) > 1 else None

    runner = PaperRunner()
    jobs = jobs_of(1, 2)
    results, _ = attempt(jobs, runner, few)
    assert all(map(is_answer, jobs, results))
    assert runner.runs == [1, 1]


def test_a_poisoned_batch_keeps_no_memory() -> None:
    jobs = jobs_of(1, RAISES)
    array = np.zeros(1)
    jobs[1].context = array
    gone = weakref.ref(array)
    results, errors = attempt(jobs, PaperRunner())
    gc.disable()
    try:
        del jobs, array, errors, results
        assert gone() is None
    finally:
        gc.enable()


def test_a_batch_is_told_what_copying_took_here_and_on_a_device() -> None:
    class Slow(Shapes):
        def assemble(self, jobs: Sequence[Job]) -> dict[str, Array]:
            time.sleep(0.002)
            return super().assemble(jobs)

    def run(inputs: dict[str, Array]) -> Mapping[str, Array]:
        return Copied(answers(inputs["x"]), copy_s=5.0)

    batch = Batch(1, 0, 0, 0.0)
    Attempts(run, Slow(), None, [], batch).answer(jobs_of(1.0, 2.0))
    assert 5.002 <= batch.copy_s < 6.0
