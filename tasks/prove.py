"""Hold every precision to the gates on the golden set, time them, and choose one.

Writes `gates.json` and the chosen precision's `golden.arrow`, both without any time in them.
Latencies go into a report beside the outputs. When no precision passes there is no
`gates.json`: the line stops here, and nothing after it can run by mistake.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from slipway.bundle.format import canonical_json
from slipway.bundle.golden import Golden, replay, write_golden
from slipway.bundle.session import Session, open_session
from slipway.errors import BundleRefused, GateError
from tasks import columns, graph
from tasks import gates as judge
from tasks.columns import Arrays
from tasks.gates import FP32, Gate, Limits
from tasks.progress import track
from tasks.timing import Clock, time_models

if TYPE_CHECKING:
    from slipway.config import ProveConfig

GATES = "gates.json"
GOLDEN = "golden.arrow"

REPLAY_ROWS = 256
"""Rows per batch; hosts re-run the golden set in the same."""


@dataclass
class Examination:
    """The golden rows, what they are held to, and what each precision answered so far."""

    table: pa.Table
    labels: np.ndarray
    rows: Arrays
    edges: Arrays
    limits: Limits
    torch_parity: Gate
    answers: dict[str, np.ndarray] = field(default_factory=dict)


def run(
    config: "ProveConfig",
    clock: Clock = time.perf_counter_ns,
    *,
    fp32: Path,
    int8_static: Path,
    int8_dynamic: Path,
    golden: Path,
    gates: Path,
    reports: Path,
) -> None:
    """Measure, judge, choose, write; raise GateError when nothing passes."""
    folders = {FP32: fp32, "int8-static": int8_static, "int8-dynamic": int8_dynamic}
    exam = prepare_examination(config, fp32, golden)
    results = examine_all(config, folders, exam)
    passing = [name for name, result in results.items() if result["verdict"] == "pass"]
    if not passing:
        raise GateError(
            "no precision passes its gates, so nothing is published:\n" + judge.as_table(results)
        )
    models = {name: folders[name] / graph.MODEL for name in exam.answers}
    latency = time_models(config, models, exam.rows, reports, clock)["latency"]
    rounds = {name: entry["rounds_p50_ms"] for name, entry in latency.items()}
    chosen = judge.choose(passing, rounds, config.cheaper_by_min)
    assert chosen is not None, "something passes"
    write_golden(
        gates / GOLDEN,
        exam.table,
        exam.labels,
        {graph.PROBABILITY: exam.answers[chosen]},
        {graph.PROBABILITY: config.tolerance},
        chosen,
    )
    written = {
        "model": reports.name,  # the runner calls that folder like the pipeline
        "chosen": chosen,
        "provider": config.provider,
        "precisions": judge.explain_choice(results, chosen),
    }
    (gates / GATES).write_bytes(canonical_json(written))


def prepare_examination(config: "ProveConfig", fp32: Path, golden: Path) -> Examination:
    """Read the golden rows as the model takes them."""
    raw = columns.read_columns(fp32)
    table, labels = columns.read_golden_rows(golden, raw)
    export = json.loads((fp32 / "export.json").read_text("utf-8"))
    return Examination(
        table,
        labels,
        columns.as_arrays(table),
        columns.as_arrays(raw.edges()),
        Limits(**{limit.name: getattr(config, limit.name) for limit in fields(Limits)}),
        judge.at_most("parity with torch", max(export["parity"].values()), export["limit"]),
    )


def examine_all(
    config: "ProveConfig", folders: Mapping[str, Path], exam: Examination
) -> dict[str, dict[str, Any]]:
    """Examine fp32 and then, against its answers, every other precision."""
    results = {}
    with track(len(folders), "prove") as update:
        for done, (name, folder) in enumerate(folders.items(), start=1):
            results[name] = _examine_folder(config, name, folder, exam)
            update(done)
    return results


def _examine_folder(
    config: "ProveConfig", precision: str, folder: Path, exam: Examination
) -> dict[str, Any]:
    model = folder / graph.MODEL
    if not model.is_file():
        return judge.not_made(json.loads((folder / "result.json").read_text("utf-8"))["reason"])
    try:
        # two sessions: what one answers, another one must answer again
        first, second = (open_session(model, config.provider, config.threads) for _ in range(2))
    except BundleRefused as error:
        if precision == FP32:
            raise  # nothing to compare with: that is no verdict about a precision
        return judge.unusable(str(error))
    return judge.verdict(examine(precision, first, second, exam))


def examine(precision: str, first: Session, second: Session, exam: Examination) -> list[Gate]:
    """Measure one precision on the golden rows; keeps its answers in the examination."""
    answers = _answer_all(first, exam.rows)
    exam.answers[precision] = answers
    limits = exam.limits
    gates = (
        [exam.torch_parity]
        if precision == FP32
        else judge.comparisons(answers, exam.answers[FP32], exam.labels, limits)
    )
    moved = judge.measure_invariance(
        lambda rows: first.run(rows)[graph.PROBABILITY],
        columns.take(exam.rows, slice(0, judge.INVARIANCE_ROWS)),
        exam.edges,
    )
    return [
        *gates,
        *judge.floors(answers, exam.labels, limits),
        judge.at_most("batch invariance", moved, limits.invariance_max),
        judge.at_most("reproducibility", _repeat(second, answers, exam), limits.tolerance),
    ]


def _answer_all(session: Session, rows: Arrays) -> np.ndarray:
    starts = range(0, columns.count_rows(rows), REPLAY_ROWS)
    parts = (columns.take(rows, slice(start, start + REPLAY_ROWS)) for start in starts)
    return np.concatenate([session.run(part)[graph.PROBABILITY] for part in parts])


def _repeat(session: Session, answers: np.ndarray, exam: Examination) -> float:
    """Let a fresh session re-run the golden set exactly as a host will."""
    expected = {graph.PROBABILITY: answers}
    tolerance = {graph.PROBABILITY: exam.limits.tolerance}
    golden = Golden(exam.rows, exam.labels, expected, tolerance, precision="")
    return replay(session.run, golden, REPLAY_ROWS).largest[graph.PROBABILITY]
