"""Turn a trained model into one ONNX graph that takes raw columns, and compare the two.

An export can succeed and be worthless, so the graph answers real rows beside the trained model at
several batch sizes before anything is built on it. What is fitted to answers after training
(temperature, threshold, margin) comes from the rows that choose, and is part of the graph. Writes
`model.onnx`, `core.onnx` (the same without columns and answers, which is what gets quantized),
`columns.json` and `export.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from slipway.bundle.format import canonical_json
from slipway.bundle.session import open_session
from slipway.errors import GateError, SlipwayError
from slipway.problem import PROBLEMS, Answers, Problem
from slipway.problem import calibration as fitting
from slipway.problem.calibration import Calibration
from slipway.provider import CPU
from tasks import columns, graph
from tasks.columns import Arrays, Columns
from tasks.models import is_off, load_family, write_off
from tasks.shards import Rows, read_features, read_split, target_of

if TYPE_CHECKING:
    from slipway.config import ExportConfig
    from slipway.settings.answers import AnswerConfig, OperatingPoint
    from tasks.models.family import TrainedModel

FACTS = "export.json"

EDGE = 1e-5
"""A share of a threshold: some steps of float32."""

PARITY_ROWS = 1024
"""Golden rows to compare on; a row that differs differs among these, or prove finds it."""


def run(
    config: "ExportConfig",
    *,
    family: str,
    weights: Path,
    prepared: Path,
    golden: Path,
    fp32: Path,
) -> None:
    """Calibrate, export, compare with the trained model, write."""
    if is_off(weights):
        write_off(fp32)
        return
    features = read_features(prepared)
    trained = load_family(family).load(weights)
    chosen, found = calibrate(config.answer, trained, features, read_split(prepared, "choose"))
    raw = columns.from_features(features, chosen)
    core = trained.to_core(config.opset)
    model = graph.to_bytes(graph.assemble(core, raw.inputs, raw.answering))
    rows, _ = columns.read_golden_rows(golden, raw)
    session = open_session(model, CPU, 1)
    parity = compare(
        lambda arrays: session.run(arrays)[raw.answering.judged],
        lambda arrays: raw.answering.respond(trained.score(*raw.codes(arrays))),
        raw=raw,
        rows=rows.slice(0, PARITY_ROWS),
        batches=config.parity_batches,
    )
    check_parity(parity, config.parity_max)
    (fp32 / graph.MODEL).write_bytes(model)
    (fp32 / graph.CORE).write_bytes(graph.to_bytes(core))
    columns.write_columns(fp32, raw)
    facts = {
        "family": family,
        "parity": {str(batch): largest for batch, largest in parity.items()},
        "limit": config.parity_max,
        "opset": config.opset,
        "size_bytes": len(model),
        "calibration": found,
    }
    (fp32 / FACTS).write_bytes(canonical_json(facts))


def calibrate(
    config: "AnswerConfig", model: "TrainedModel", features: dict[str, Any], choose: Rows
) -> tuple[Calibration, dict[str, Any]]:
    """Fit what stands behind the scores, on the rows that choose; say what came of it."""
    target = target_of(features)
    problem, weights = PROBLEMS[target.problem], choose.weights
    scores = model.score(choose.categories, choose.numbers).astype(np.float64)
    temperature = fitting.fit_temperature(problem, choose.labels, scores, weights)
    answers = problem.respond(scores, temperature)
    calibration = Calibration(temperature)
    if config.operating_point is not None:
        at = _threshold(config.operating_point, choose, answers)
        calibration = replace(calibration, threshold=at)
    if config.interval is not None:
        calibration = replace(calibration, margin=_margin(config.interval, choose, answers))
    before = problem.respond(scores, 1.0)
    found = {
        "rows": len(choose),
        "temperature": calibration.temperature,
        "threshold": calibration.threshold,
        "margin": calibration.margin,
        "before": _measured(problem, choose, before),
        "after": _measured(problem, choose, answers),
    }
    return calibration, found


def _measured(problem: Problem, rows: Rows, answers: Answers) -> dict[str, float | None]:
    found = problem.measure(rows.labels, answers, rows.weights)
    return {key: None if value is None else round(value, 6) for key, value in found.items()}


def _threshold(point: "OperatingPoint", choose: Rows, answers: Answers) -> float:
    """Return the threshold of a rule, as float32 has it: what the graph compares with."""
    rule, value = point.rule
    if rule == "cost_ratio":
        at: float | None = fitting.threshold_for_cost(value)
    elif rule == "recall":
        at = fitting.threshold_for_recall(choose.labels, answers, value, choose.weights)
    elif rule == "precision":
        at = fitting.threshold_for_precision(choose.labels, answers, value, choose.weights)
    else:
        at = fitting.threshold_for_share(answers, value, choose.weights)
    if at is None:
        raise SlipwayError(
            f"export.answer.operating_point: no threshold reaches a precision of {value:g} on the"
            f" {len(choose):,} rows that choose; ask for less"
        )
    # the graph's sigmoid may be another one in its last bits: rows at the edge stay where they are
    return float(np.float32(at * (1 - EDGE) if rule == "recall" else at))


def _margin(level: float, choose: Rows, answers: Answers) -> float:
    margin = fitting.fit_margin(choose.labels, answers, level)
    if not np.isfinite(margin):
        raise SlipwayError(
            f"export.answer.interval: {len(choose):,} rows that choose are too few for an interval"
            f" of {level:g}; widen the split's validation part, or ask for less"
        )
    return float(np.float32(margin))


def compare(
    run: Callable[[Arrays], np.ndarray],
    expected: Callable[[Arrays], np.ndarray],
    *,
    raw: Columns,
    rows: pa.Table,
    batches: Sequence[int],
) -> dict[int, float]:
    """Measure the largest difference of an answer from the trained model, per batch size.

    A row in which everything is missing goes along: no golden row need be like that, but a
    request may.
    """
    arrays = columns.as_arrays(pa.concat_tables([raw.blank(), rows]))
    largest = {}
    for batch in batches:
        differences = [0.0]
        for start in range(0, columns.count_rows(arrays), batch):
            part = columns.take(arrays, slice(start, start + batch))
            apart = np.abs(run(part).astype(np.float64) - expected(part)) / raw.target.scale
            differences.append(float(np.max(apart)))
        # np.max keeps a NaN, the built-in max may drop it
        largest[batch] = float(np.max(differences))
    return largest


def check_parity(parity: dict[int, float], limit: float) -> None:
    """Stop the line unless every batch size stays within the limit."""
    if all(largest <= limit for largest in parity.values()):
        return
    table = "\n".join(f"  {batch:>5}  {largest:.2e}" for batch, largest in parity.items())
    raise GateError(
        f"the exported graph does not answer like the trained model (limit {limit:.0e}):\n"
        f"  batch  largest difference\n{table}\n"
        "The export succeeded but is not usable; look at what the model does per row"
    )
