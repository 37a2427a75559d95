"""Hold every precision to the gates on the golden set, time them, and choose one.

Writes `gates.json` and the chosen precision's `golden.arrow`, both without any time in them.
Latencies go into a report beside the outputs. When no precision passes there is no
`gates.json`: the line stops here, and nothing after it can run by mistake.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.bundle.datatypes import Datatype
from slipway.bundle.format import canonical_json
from slipway.bundle.gate import INVARIANCE, PARITY, PASS, Gate, at_most, verdict
from slipway.bundle.golden import REPLAY_ROWS, Golden, replay, write_golden
from slipway.bundle.session import Session, open_session
from slipway.errors import BundleRefused, GateError
from slipway.precision import PRECISIONS, REFERENCE
from slipway.problem import PROBLEMS
from tasks import columns, graph
from tasks import gates as judge
from tasks.columns import Arrays
from tasks.gates import Standard
from tasks.progress import track
from tasks.timing import Clock, time_models

if TYPE_CHECKING:
    from slipway.config import ProveConfig

GATES = "gates.json"
GOLDEN = "golden.arrow"


@dataclass
class Examination:
    """The golden rows, what they are held to, and what each precision answered so far."""

    standard: Standard
    rows: Arrays
    edges: Arrays
    torch_parity: Gate
    datatypes: dict[str, Datatype]
    answers: dict[str, np.ndarray] = field(default_factory=dict)

    def golden(self, answers: np.ndarray, precision: str) -> Golden:
        """Return the golden set with these answers as what is expected."""
        return Golden(
            inputs=self.rows,
            labels=self.standard.labels,
            expected={graph.PROBABILITY: answers},
            tolerance={graph.PROBABILITY: self.standard.limits.tolerance},
            precision=precision,
            datatypes=self.datatypes,
        )


def run(
    config: "ProveConfig",
    clock: Clock = time.perf_counter_ns,
    *,
    precisions: Mapping[str, Path],
    golden: Path,
    gates: Path,
    reports: Path,
) -> None:
    """Measure, judge, choose, write; raise GateError when nothing passes."""
    exam = prepare_examination(config, precisions[REFERENCE], golden)
    results = examine_all(config, precisions, exam)
    passing = [name for name, result in results.items() if result["verdict"] == PASS]
    if not passing:
        raise GateError(
            "no precision passes its gates, so nothing is published:\n" + judge.as_table(results)
        )
    models = {name: precisions[name] / graph.MODEL for name in exam.answers}
    latency = time_models(config, models, rows=exam.rows, reports=reports, clock=clock)["latency"]
    rounds = {name: entry["rounds_p50_ms"] for name, entry in latency.items()}
    chosen = judge.choose(passing, rounds, config.cheaper_by_min)
    assert chosen is not None, "something passes"
    write_golden(gates / GOLDEN, exam.golden(exam.answers[chosen], chosen))
    written = {
        "model": reports.name,  # the runner calls that folder like the pipeline
        "chosen": chosen,
        "provider": config.provider,
        "precisions": judge.explain_choice(results, chosen),
    }
    (gates / GATES).write_bytes(canonical_json(written))


def prepare_examination(config: "ProveConfig", reference: Path, golden: Path) -> Examination:
    """Read the golden rows as the model takes them."""
    raw = columns.read_columns(reference)
    table, labels = columns.read_golden_rows(golden, raw)
    export = json.loads((reference / "export.json").read_text("utf-8"))
    return Examination(
        Standard(PROBLEMS[raw.problem], labels, config),
        columns.as_arrays(table),
        edges=columns.as_arrays(raw.edges()),
        torch_parity=at_most(
            f"{PARITY} with torch", max(export["parity"].values()), export["limit"]
        ),
        datatypes={**{i.name: i.datatype for i in raw.inputs}, graph.PROBABILITY: "FP32"},
    )


def examine_all(
    config: "ProveConfig", folders: Mapping[str, Path], exam: Examination
) -> dict[str, dict[str, Any]]:
    """Examine the reference and then, against its answers, every other precision."""
    results = {}
    with track(len(folders), "prove") as update:
        for done, name in enumerate((n for n in PRECISIONS if n in folders), start=1):
            results[name] = _examine_folder(config, name, folders[name], exam)
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
        if precision == REFERENCE:
            raise  # nothing to compare with: that is no verdict about a precision
        return judge.unusable(str(error))
    return verdict(examine(precision, first, second, exam))


def examine(precision: str, first: Session, second: Session, exam: Examination) -> list[Gate]:
    """Measure one precision on the golden rows; keeps its answers in the examination."""
    answers = _answer_all(first, exam.rows)
    exam.answers[precision] = answers
    standard, limits = exam.standard, exam.standard.limits
    gates = (
        [exam.torch_parity]
        if precision == REFERENCE
        else judge.comparisons(standard, answers, exam.answers[REFERENCE])
    )
    moved = judge.measure_invariance(
        lambda rows: first.run(rows)[graph.PROBABILITY],
        columns.take(exam.rows, slice(0, judge.INVARIANCE_ROWS)),
        exam.edges,
    )
    return [
        *gates,
        *judge.floors(standard, answers),
        at_most(INVARIANCE, moved, limits.invariance_max),
        at_most("reproducibility", _repeat(second, answers, exam), limits.tolerance),
    ]


def _answer_all(session: Session, rows: Arrays) -> np.ndarray:
    starts = range(0, columns.count_rows(rows), REPLAY_ROWS)
    parts = (columns.take(rows, slice(start, start + REPLAY_ROWS)) for start in starts)
    return np.concatenate([session.run(part)[graph.PROBABILITY] for part in parts])


def _repeat(session: Session, answers: np.ndarray, exam: Examination) -> float:
    """Let a fresh session re-run the golden set exactly as a host will."""
    golden = exam.golden(answers, precision="")
    return replay(session.run, golden, REPLAY_ROWS).largest[graph.PROBABILITY]
