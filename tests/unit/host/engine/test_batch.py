"""Several jobs' rows in one array and back, with and without padding."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.host.engine.batch import Pad, Shapes, WrongRows
from slipway.host.engine.job import Job, Result
from slipway.host.request.message import Array
from tests.engines import job_of

PADDED = Shapes(pads={"ids": Pad(1, 7.0, (4, 8)), "mask": Pad(1, 0.0, (4, 8))}, cuts={"tokens": 1})


def nothing(job: Job, result: Result) -> None: ...


def job(**inputs: Array) -> Job:
    return job_of(inputs, nothing, None)


def words(rows: int, length: int, start: int = 0) -> Job:
    ids = np.arange(start, start + rows * length, dtype=np.int64).reshape(rows, length)
    return job(ids=ids, mask=np.ones((rows, length), np.int64), w=np.zeros((rows, 3), np.float32))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.sampled_from(["<f4", "<i8", "O"]))
def test_each_job_gets_its_own_rows_back(sizes: list[int], dtype: str) -> None:
    jobs = []
    for n, size in enumerate(sizes):
        x = np.arange(size * 2).reshape(size, 2) + 100 * n
        jobs.append(job(x=x.astype(str).astype(object) if dtype == "O" else x.astype(dtype)))
    inputs = Shapes().assemble(jobs)
    for outputs in ({"x": inputs["x"]}, {"x": inputs["x"], "n": np.arange(sum(sizes))}):
        parts = Shapes().divide(outputs, jobs)
        for each, part in zip(jobs, parts, strict=True):
            assert part["x"].dtype == each.inputs["x"].dtype
            assert np.array_equal(part["x"], each.inputs["x"])


@pytest.mark.parametrize("values", [np.zeros((2, 1)), np.zeros((4, 1)), np.float32(1.0)])
def test_outputs_with_other_rows_than_the_batch_are_nobodys(values: Any) -> None:
    jobs = [job(x=np.zeros((1, 2))), job(x=np.zeros((2, 2)))]
    with pytest.raises(WrongRows, match="expected 3 rows"):
        Shapes().divide({"ok": np.zeros(3), "y": np.asarray(values)}, jobs)


def test_a_whole_that_is_not_rows_is_passed_on_as_it_is() -> None:
    shapes = Shapes(batchable=False)
    one = job(x=np.zeros((5, 2)))
    assert shapes.assemble([one])["x"] is one.inputs["x"]
    assert shapes.divide({"y": np.float32(3)}, [one])[0]["y"] == 3


def test_lengths_of_one_bucket_share_a_group_and_others_do_not() -> None:
    groups = [PADDED.group(words(1, length).inputs) for length in (2, 4, 5, 8, 9)]
    assert groups[0] == groups[1] == ((4,), (4,), (3,))
    assert groups[2] == groups[3] == ((8,), (8,), (3,))
    assert groups[4] == ((9,), (9,), (3,))  # longer than any bucket: as it is


def test_the_end_is_filled_with_the_value_of_the_input() -> None:
    inputs = PADDED.assemble([words(1, 2), words(2, 4, start=50)])
    assert inputs["ids"].tolist() == [[0, 1, 7, 7], [50, 51, 52, 53], [54, 55, 56, 57]]
    assert inputs["mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert inputs["ids"].dtype == np.int64
    assert inputs["w"].shape == (3, 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=6))
def test_padding_comes_off_again(sizes: list[tuple[int, int]]) -> None:
    jobs = [words(rows, length, 100 * n) for n, (rows, length) in enumerate(sizes)]
    inputs = PADDED.assemble(jobs)
    outputs = {"tokens": inputs["ids"] * 2, "first": inputs["ids"][:, 0]}
    for each, part in zip(jobs, PADDED.divide(outputs, jobs), strict=True):
        assert np.array_equal(part["tokens"], each.inputs["ids"] * 2)
        assert part["tokens"].flags.c_contiguous
        assert np.array_equal(part["first"], each.inputs["ids"][:, 0])


def test_an_output_that_lost_the_padded_length_is_a_fault() -> None:
    one = words(1, 3)
    with pytest.raises(WrongRows, match="expected 4 in dimension 1"):
        PADDED.divide({"tokens": np.zeros((1, 3))}, [one])


def test_an_axis_behind_others_is_padded_too() -> None:
    shapes = Shapes(pads={"x": Pad(2, -1.0, (4,))}, cuts={"y": 2})
    one, two = job(x=np.ones((1, 2, 3), np.float32)), job(x=np.ones((2, 2, 4), np.float32))
    inputs = shapes.assemble([one, two])
    assert inputs["x"].shape == (3, 2, 4)
    assert inputs["x"][0, :, 3].tolist() == [-1, -1]
    parts = shapes.divide({"y": inputs["x"]}, [one, two])
    assert [part["y"].shape for part in parts] == [(1, 2, 3), (2, 2, 4)]
