"""Hold every candidate to the gates on the golden set, time them, and choose one.

A candidate is one family at one precision. Families that lose too much on the rows that choose
are out; of the others' candidates that pass their gates, the first stays unless a later one is
clearly cheaper. Writes `gates.json` and the chosen candidate's `golden.arrow`, both without any
time in them. Latencies go into a report beside the outputs. When no candidate passes there is no
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
from slipway.bundle.golden import REPLAY_ROWS, Golden, Tensors, replay, write_golden
from slipway.bundle.session import Session, open_session
from slipway.errors import BundleRefused, GateError
from tasks import columns, graph
from tasks import gates as judge
from tasks.candidates import CandidateModel, in_order
from tasks.columns import Arrays, Columns
from tasks.gates import Standard
from tasks.models import is_off
from tasks.progress import track
from tasks.timing import Clock, time_models

if TYPE_CHECKING:
    from slipway.config import ProveConfig

GATES = "gates.json"
GOLDEN = "golden.arrow"


@dataclass
class Examination:
    """The golden rows, what they are held to, and what each candidate answered so far."""

    standard: Standard
    rows: Arrays
    edges: Arrays
    raw: dict[str, Columns]
    """What each family takes and gives."""
    parity: dict[str, Gate]
    """How far each family's graph is from what was trained."""
    answers: dict[CandidateModel, Tensors] = field(default_factory=dict)

    def judged(self, candidate: CandidateModel) -> np.ndarray:
        """Return what labels judge of a candidate's answers."""
        return self.answers[candidate][self.raw[candidate.family].answering.judged]

    def golden(self, candidate: CandidateModel) -> Golden:
        """Return the golden set with a candidate's answers as what is expected."""
        raw, limits = self.raw[candidate.family], self.standard.limits
        outputs = raw.answering.outputs("")
        datatypes: dict[str, Datatype] = {i.name: i.datatype for i in raw.inputs}
        return Golden(
            inputs=self.rows,
            labels=np.array(raw.predicted.decode(self.standard.labels), object),
            expected=self.answers[candidate],
            tolerance={
                o.name: limits.tolerance * self.standard.scale if o.datatype == "FP32" else 0.0
                for o in outputs
            },
            precision=str(candidate),
            datatypes={**datatypes, **{o.name: o.datatype for o in outputs}},
            weights=self.standard.weights,
            decision=raw.answering.decision(),
        )


def run(
    config: "ProveConfig",
    clock: Clock = time.perf_counter_ns,
    *,
    candidates: Mapping[CandidateModel, Path],
    evaluation: Path,
    golden: Path,
    gates: Path,
    reports: Path,
) -> None:
    """Measure, judge, choose, write; raise GateError when nothing passes."""
    folders = in_order({c: f for c, f in candidates.items() if not is_off(f)}, config.prefer)
    exam = prepare_examination(config, folders, golden)
    results = examine_all(config, folders, exam)
    out = families_out(config, evaluation)
    passing = [c for c, r in results.items() if r["verdict"] == PASS and c.family not in out]
    if not passing:
        raise GateError(
            "no candidate passes its gates, so nothing is published:\n" + judge.as_table(results)
        )
    models = {str(c): folders[c] / graph.MODEL for c in exam.answers}
    latency = time_models(config, models, rows=exam.rows, reports=reports, clock=clock)["latency"]
    rounds = {c: latency[str(c)]["rounds_p50_ms"] for c in passing}
    chosen = judge.choose(passing, rounds, config.cheaper_by_min)
    assert chosen is not None, "something passes"
    write_golden(gates / GOLDEN, exam.golden(chosen))
    written = {
        "model": reports.name,  # the runner calls that folder like the pipeline
        "chosen": str(chosen),
        "provider": config.provider,
        "precisions": judge.explain_choice(results, chosen, out),
    }
    (gates / GATES).write_bytes(canonical_json(written))


def families_out(config: "ProveConfig", evaluation: Path) -> dict[str, str]:
    """Say of each family that loses too much on the rows that choose by how much."""
    found = json.loads((evaluation / "choice.json").read_text("utf-8"))
    return {
        name: judge.behind(family["loss"], str(found["best"]), config.family_margin)
        for name, family in found["families"].items()
        if found["best"] is not None and not judge.stays(family["loss"], config.family_margin)
    }


def prepare_examination(
    config: "ProveConfig", folders: Mapping[CandidateModel, Path], golden: Path
) -> Examination:
    """Read the golden rows as the models take them."""
    references = {c.family: folder for c, folder in folders.items() if c.is_reference}
    raw = {family: columns.read_columns(folder) for family, folder in references.items()}
    one = next(iter(raw.values()))
    table, labels = columns.read_golden_rows(golden, one)
    return Examination(
        Standard(
            one.problem,
            labels,
            config,
            weights=columns.read_golden_weights(golden, one),
            scale=one.target.scale,
        ),
        columns.as_arrays(table),
        edges=columns.as_arrays(one.edges()),
        raw=raw,
        parity={family: _parity(folder) for family, folder in references.items()},
    )


def _parity(folder: Path) -> Gate:
    export = json.loads((folder / "export.json").read_text("utf-8"))
    largest = max(export["parity"].values())
    return at_most(f"{PARITY} with the trained model", largest, export["limit"])


def examine_all(
    config: "ProveConfig", folders: Mapping[CandidateModel, Path], exam: Examination
) -> dict[CandidateModel, dict[str, Any]]:
    """Examine each family's reference and then, against its answers, its other precisions."""
    results = {}
    with track(len(folders), "prove") as update:
        for done, (candidate, folder) in enumerate(folders.items(), start=1):
            results[candidate] = _examine_folder(config, candidate, folder, exam)
            update(done)
    return results


def _examine_folder(
    config: "ProveConfig", candidate: CandidateModel, folder: Path, exam: Examination
) -> dict[str, Any]:
    model = folder / graph.MODEL
    if not model.is_file():
        return judge.not_made(json.loads((folder / "result.json").read_text("utf-8"))["reason"])
    try:
        # two sessions: what one answers, another one must answer again
        first, second = (open_session(model, config.provider, config.threads) for _ in range(2))
    except BundleRefused as error:
        if candidate.is_reference:
            raise  # nothing to compare with: that is no verdict about a precision
        return judge.unusable(str(error))
    return verdict(examine(candidate, first, second, exam))


def examine(
    candidate: CandidateModel, first: Session, second: Session, exam: Examination
) -> list[Gate]:
    """Measure one candidate on the golden rows; keeps its answers in the examination."""
    exam.answers[candidate] = _answer_all(first, exam.rows)
    answers, standard, limits = exam.judged(candidate), exam.standard, exam.standard.limits
    gates = (
        [exam.parity[candidate.family]]
        if candidate.is_reference
        else judge.comparisons(standard, answers, exam.judged(candidate.reference))
    )
    judged = exam.raw[candidate.family].answering.judged
    moved = judge.measure_invariance(
        lambda rows: first.run(rows)[judged],
        columns.take(exam.rows, slice(0, judge.INVARIANCE_ROWS)),
        exam.edges,
    )
    return [
        *gates,
        *judge.floors(standard, answers),
        at_most(INVARIANCE, moved / standard.scale, limits.invariance_max),
        at_most("reproducibility", _repeat(second, candidate, exam), limits.tolerance),
    ]


def _answer_all(session: Session, rows: Arrays) -> Tensors:
    starts = range(0, columns.count_rows(rows), REPLAY_ROWS)
    parts = [session.run(columns.take(rows, slice(s, s + REPLAY_ROWS))) for s in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _repeat(session: Session, candidate: CandidateModel, exam: Examination) -> float:
    """Let a fresh session re-run the golden set exactly as a host will."""
    found = replay(session.run, exam.golden(candidate), REPLAY_ROWS).largest
    return max(found.values()) / exam.standard.scale
