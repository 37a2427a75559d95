"""Ten thousand batches with something wrong in most of them: nobody else ever notices."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from slipway.host.engine.engine import Batching, Engine, Workers
from slipway.host.engine.job import NEVER, Job, Result
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused
from tests.engines import (
    EATS_MEMORY,
    RAISES,
    WRONG_ROWS,
    PaperRunner,
    Seen,
    answers,
    on_loop,
    until,
    with_workers,
)

KINDS: Final = ("good", "raises", "wrong", "memory", "admission", "cancelled", "late")
POOL: Final = 512


class Score:
    """What came of every job, by what was wrong with it; answers are compared by the batch."""

    def __init__(self, expected: Mapping[str, Array]) -> None:
        self.expected = expected
        self.count = dict.fromkeys(KINDS, 0)
        self.answered: list[tuple[list[int], Mapping[str, Array]]] = []
        self.failures: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self.finished = 0
        self.due = 0

    def finish(self, job: Job, result: Result) -> None:
        kind, rows = job.context
        self.finished += 1
        if isinstance(result, Exception):
            what = result.code if isinstance(result, RequestRefused) else type(result).__name__
            self.failures[kind].add(what)
        else:
            self.failures[kind].add("answered")
            self.answered.append((rows, result))

    def compare(self) -> None:
        """Every answer so far must have the bits of a solo answer."""
        if not self.answered:
            return
        rows = list(itertools.chain.from_iterable(rows for rows, _ in self.answered))
        for name, alone in self.expected.items():
            got = np.concatenate([answer[name] for _, answer in self.answered])
            assert got.tobytes() == alone[rows].tobytes()
        self.answered.clear()


def no_minus_one(inputs: Mapping[str, Array]) -> RequestRefused | None:
    x: Any = inputs["x"]
    return RequestRefused("bad_request", "no") if -1e6 in x[:, 1].tolist() else None


def paper_pool(random: np.random.Generator) -> tuple[Array, Mapping[str, Array]]:
    """Return rows, and what each is answered by itself."""
    pool = random.random((POOL, 4), np.float32)
    alone = [answers(pool[n : n + 1]) for n in range(POOL)]
    return pool, {name: np.concatenate([each[name] for each in alone]) for name in alone[0]}


def poison(kind: str, x: Any) -> Any:
    if kind not in ("good", "cancelled", "late"):
        x = x.copy()
        place = -1, (1 if kind == "admission" else 0)
        x[place] = {
            "raises": RAISES, "wrong": WRONG_ROWS, "memory": EATS_MEMORY, "admission": -1e6,
        }[kind]  # fmt: skip
    return x


def batches(count: int, random: np.random.Generator) -> list[list[tuple[str, int, int]]]:
    """Draw batches of 1 to 64 jobs: (kind, first row of the pool, rows); some all good."""
    drawn = []
    for _ in range(count):
        jobs = int(random.integers(1, random.choice([5, 9, 65], p=[0.5, 0.3, 0.2])))
        share = random.choice([0.02, 0.05, 0.1, 0.3], p=[0.4, 0.4, 0.15, 0.05])
        bad = random.random(jobs) < share
        kinds = random.integers(1, len(KINDS), jobs)
        starts = random.integers(0, POOL - 3, jobs).tolist()
        rows = np.where(random.random(jobs) < 0.9, 1, 3).tolist()
        names = [KINDS[k] if b else "good" for k, b in zip(kinds.tolist(), bad, strict=True)]
        drawn.append(list(zip(names, starts, rows, strict=True)))
    return drawn


async def feed(
    engine: Engine,
    score: Score,
    drawn: list[list[tuple[str, int, int]]],
    inputs: Callable[[str, int, int], dict[str, Array]],
) -> None:
    for n, batch in enumerate(drawn):
        for kind, start, rows in batch:
            score.count[kind] += 1
            deadline = 0.0 if kind == "late" else NEVER
            context = (kind, list(range(start, start + rows)))
            job = Job(inputs(kind, start, rows), rows, score.finish, context, deadline=deadline)
            engine.submit(job)
            if kind == "cancelled":
                job.cancel()
            else:
                score.due += 1
        await asyncio.sleep(0)
        if score.finished < score.due - 128:
            await until(lambda: score.finished == score.due)
        if n % 32 == 0:
            score.compare()
    await until(lambda: score.finished == score.due)
    score.compare()


def verdicts(score: Score) -> dict[str, set[str]]:
    return {kind: score.failures[kind] for kind in KINDS if score.count[kind]}


EXPECTED: Final = {
    "good": {"answered"},
    "raises": {"ValueError"},
    "wrong": {"WrongRows"},
    "memory": {"out_of_memory"},
    "admission": {"bad_request"},
    "cancelled": set(),
    "late": {"queue_timeout"},
}


def run_paper(count: int, seed: int, workers: Workers | None) -> Any:
    async def run(workers: Workers | None = workers) -> None:
        random = np.random.default_rng(seed)
        pool, expected = paper_pool(random)
        score, seen = Score(expected), Seen()
        runner = PaperRunner()
        engine = Engine(runner, workers, Batching(max_rows=192), seen, no_minus_one)

        def inputs(kind: str, start: int, rows: int) -> dict[str, Array]:
            return {"x": poison(kind, pool[start : start + rows])}

        await feed(engine, score, batches(count, random), inputs)
        assert verdicts(score) == EXPECTED
        assert all(score.count[kind] > count / 50 for kind in KINDS)
        if workers is None:
            assert len(seen.batches) >= 0.98 * count

    return run


def test_ten_thousand_poisoned_batches_on_the_loop() -> None:
    on_loop(run_paper(10_000, 11, None))


def test_poisoned_batches_in_threads() -> None:
    with_workers(run_paper(1_000, 12, None))


class GatherRunner:
    """A real model: one index out of range makes ONNX Runtime raise for the whole batch."""

    def __init__(self, table: Array) -> None:
        index = helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", table.shape[1]])
        graph = helper.make_graph(
            [helper.make_node("Gather", ["table", "i"], ["y"], axis=0)],
            "gather", [index], [y], [numpy_helper.from_array(table, "table")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        return {"y": self._session.run(None, inputs)[0]}

    run_alone = run

    def close(self) -> None: ...


def test_a_real_gather_out_of_range_fails_one_row() -> None:
    async def run(workers: Workers | None) -> None:
        random = np.random.default_rng(13)
        table = random.random((POOL, 8), np.float32)
        score = Score({"y": table})
        engine = Engine(GatherRunner(table), workers, Batching(max_rows=192), Seen())

        def inputs(kind: str, start: int, rows: int) -> dict[str, Array]:
            ids = np.arange(start, start + rows, dtype=np.int64)
            ids[-1] += 10**6 if kind == "raises" else 0
            return {"i": ids}

        drawn = [
            [(kind if kind in ("cancelled", "late", "raises") else "good", *rest)
             for kind, *rest in batch]
            for batch in batches(300, random)
        ]  # fmt: skip
        await feed(engine, score, drawn, inputs)  # type: ignore[arg-type]
        assert verdicts(score) == {
            **{kind: EXPECTED[kind] for kind in ("good", "cancelled", "late")},
            "raises": {"InvalidArgument"},
        }

    on_loop(run, None)
    with_workers(run)
