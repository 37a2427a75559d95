"""Gates, latency, the choice, and the stage that puts them together."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from slipway.bundle import gate
from slipway.bundle.golden import read_golden, replay
from slipway.bundle.session import open_session
from slipway.config import ProveConfig
from slipway.errors import BundleRefused, GateError
from slipway.make.proof import proof
from slipway.problem import BINARY
from tasks import columns, gates, graph, prove, timing_report
from tasks.columns import Arrays
from tasks.gates import Standard
from tasks.timing import measure_latency
from tests.small_models import (
    FP32,
    TREES,
    WEIGHTS,
    Line,
    make_core,
    make_line,
    make_model,
    prove_config,
    small_columns,
    small_rows,
    write_choice,
)

NAN = float("nan")
LIMITS = prove_config(
    quality={
        "auc": {"worst": 0.6, "loss_max": 0.01},
        "log_loss": {"worst": 0.69, "loss_max": 0.01},
    }
)
CHEAP = make_model(make_core([round(w, 2) + 0.002 for w in WEIGHTS]))
"""A model that is a little off, as a cheaper precision is."""
DYNAMIC = make_model(make_core(dynamic=True))


def asked(labels: np.ndarray) -> Standard:
    return Standard(BINARY, labels, LIMITS)


def steady_clock() -> Callable[[], int]:
    """Tick one millisecond a look: every candidate takes the same time, so the first stays."""
    ticks = itertools.count(step=1_000_000)
    return lambda: next(ticks)


def run(line: Line, config: ProveConfig, clock: Callable[[], int] | None = None) -> dict[str, Any]:
    prove.run(
        config,
        clock or steady_clock(),
        candidates=line.candidates,
        evaluation=line.folder("evaluation"),
        golden=line.folder("golden"),
        gates=line.folder("gates"),
        reports=line.reports,
    )
    gates: dict[str, Any] = json.loads((line.folder("gates") / "gates.json").read_text())
    return gates


def failing(result: dict[str, Any]) -> list[str]:
    return [gate["gate"] for gate in result["gates"] if gate["verdict"] == "fail"]


def by_row(rows: Arrays) -> np.ndarray:
    return np.nan_to_num(rows["delay"])


def by_batch(rows: Arrays) -> np.ndarray:
    return by_row(rows) / (1 + np.abs(by_row(rows)).max())


def invariance(answer: Callable[[Arrays], np.ndarray]) -> float:
    rows = columns.as_arrays(small_columns().table(small_rows(512)))
    return gates.measure_invariance(answer, rows, columns.as_arrays(small_columns().edges()))


def test_a_row_that_is_answered_by_itself_does_not_move() -> None:
    assert invariance(by_row) == 0.0


def test_a_scale_over_the_batch_moves_rows() -> None:
    assert invariance(by_batch) > 0.1


def test_a_batch_is_also_tried_with_a_neighbour_at_the_end_of_the_range() -> None:
    """No golden row reaches 6; only an edge row can show what happens then."""

    def only_extremes_matter(rows: Arrays) -> np.ndarray:
        return by_row(rows) + (np.abs(rows["wind"]) >= 6).any()

    assert invariance(only_extremes_matter) > 0.5


def test_one_nan_among_all_answers_is_not_lost() -> None:
    def nan_in_company(rows: Arrays) -> np.ndarray:
        return np.where(len(rows["delay"]) == 7, NAN, by_row(rows))

    assert math.isnan(invariance(nan_in_company))


def test_what_is_no_number_passes_no_gate() -> None:
    assert gate.at_most("x", NAN, 1.0) == gate.Gate("x", None, 1.0, "max", "fail")
    assert gate.at_least("x", NAN, 0.0) == gate.Gate("x", None, 0.0, "min", "fail")


def test_a_measure_at_its_limit_passes() -> None:
    assert gate.at_most("x", 0.5, 0.5).verdict == "pass"
    assert gate.at_least("x", 0.5, 0.5).verdict == "pass"


def test_quality_is_held_to_absolute_limits() -> None:
    labels = np.array([0, 1] * 50, np.int8)
    good = [each.verdict for each in gates.floors(asked(labels), np.where(labels, 0.7, 0.3))]
    guess = [each.verdict for each in gates.floors(asked(labels), np.full(100, 0.5))]
    assert (good, guess) == (["pass", "pass"], ["fail", "fail"])


def test_a_golden_set_of_one_class_ranks_nothing_and_does_not_pass() -> None:
    ranking, *_ = gates.floors(asked(np.zeros(10, np.int8)), np.full(10, 0.5))
    assert (ranking.gate, ranking.measured, ranking.verdict) == ("AUC", None, "fail")


def test_a_cheaper_precision_may_not_stray_from_fp32_on_any_row_nor_on_average() -> None:
    labels = np.array([0, 1] * 50, np.int8)
    reference = np.where(labels, 0.7, 0.3)
    one_row, everywhere = reference.copy(), reference + 0.02
    one_row[3] += 0.1
    verdicts = [
        [g.verdict for g in gates.comparisons(asked(labels), answers, reference)][:2]
        for answers in (reference, one_row, everywhere)
    ]
    assert verdicts == [["pass", "pass"], ["fail", "pass"], ["pass", "fail"]]


def test_lost_quality_is_measured_against_fp32() -> None:
    labels = np.array([0, 1] * 50, np.int8)
    reference = np.where(labels, 0.52, 0.48)
    worse = reference.copy()
    worse[:10] = 1 - worse[:10]
    lost = gates.comparisons(asked(labels), worse, reference)[2]
    assert (lost.gate, lost.verdict) == ("AUC drop from fp32", "fail")
    assert lost.measured == pytest.approx(0.1)


def test_precisions_take_turns_and_each_turn_begins_with_another() -> None:
    calls: list[str] = []
    runs = {name: lambda rows, name=name: calls.append(name) for name in ("a", "b")}
    rows = {"delay": np.zeros(4, np.float32)}
    measure_latency(runs, rows, rows=2, rounds=3, calls=2, clock=steady_clock())
    assert "".join(calls)[20:] == "abba" * 3


def test_a_timed_batch_has_the_rows_asked_for_even_if_there_are_fewer() -> None:
    seen: set[int] = set()
    rows = {"delay": np.zeros(3, np.float32)}
    timed = measure_latency(
        {"a": lambda rows: seen.add(len(rows["delay"]))},
        rows,
        rows=8,
        rounds=3,
        calls=5,
        clock=steady_clock(),
    )
    assert seen == {8}
    assert (timed["a"].p50_ms, timed["a"].rounds_p50_ms) == (1.0, [1.0, 1.0, 1.0])


def test_a_precision_that_is_no_cheaper_leaves_fp32_and_its_answers_in_the_golden_set(
    tmp_path: Path,
) -> None:
    line = make_line(tmp_path, static=CHEAP)
    proven = run(line, prove_config())
    assert (proven["model"], proven["chosen"]) == ("small", "network-fp32")
    static = proven["precisions"]["network-int8-static"]
    assert (static["verdict"], static["reason"]) == (
        "pass",
        "passes, but is not clearly cheaper than network-fp32",
    )
    golden = read_golden(line.folder("gates") / "golden.arrow")
    session = open_session(line.of(FP32) / "model.onnx", "CPUExecutionProvider", 1)
    assert (golden.precision, golden.rows) == ("network-fp32", 600)
    assert replay(session.run, golden).largest == {"probability": 0.0}


def test_gates_are_the_same_bytes_whatever_the_clock_said(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        line = make_line(tmp_path / name, static=CHEAP, dynamic=DYNAMIC)
        run(line, prove_config())
        written.append(
            [(line.folder("gates") / file).read_bytes() for file in ("gates.json", "golden.arrow")]
        )
    assert written[0] == written[1]


def test_a_precision_that_was_not_made_is_reported_with_its_reason(tmp_path: Path) -> None:
    proven = run(make_line(tmp_path), prove_config())
    assert proven["precisions"]["network-int8-static"] == {
        "verdict": "not made",
        "reason": "crashed: SIGSEGV",
        "gates": [],
    }


def test_a_model_that_cannot_be_opened_fails_and_the_others_go_on(tmp_path: Path) -> None:
    proven = run(make_line(tmp_path, static=b"no graph"), prove_config())
    assert proven["precisions"]["network-int8-static"]["verdict"] == "fail"
    assert "no ONNX file" in proven["precisions"]["network-int8-static"]["reason"]
    assert proven["chosen"] == "network-fp32"


def test_dynamic_int8_fails_since_its_scale_is_taken_over_the_batch(tmp_path: Path) -> None:
    proven = run(make_line(tmp_path, dynamic=DYNAMIC), prove_config())
    dynamic = proven["precisions"]["network-int8-dynamic"]
    assert failing(dynamic) == ["batch invariance"]
    assert dynamic["reason"] == "outside its limit: batch invariance"


def test_a_model_trained_on_shuffled_labels_is_stopped_by_the_floor(tmp_path: Path) -> None:
    line = make_line(tmp_path, static=CHEAP)
    path = line.folder("golden") / columns.GOLDEN
    rows = pq.read_table(path)
    shuffled = np.random.default_rng(1).permutation(rows["late"].to_numpy())
    pq.write_table(rows.set_column(rows.column_names.index("late"), "late", [shuffled]), path)
    with pytest.raises(GateError) as stopped:
        run(line, prove_config())
    assert "no candidate passes its gates" in str(stopped.value)
    assert "AUC " in str(stopped.value)
    assert "≥ 0.65" in str(stopped.value)
    assert list(line.folder("gates").iterdir()) == []


def test_a_provider_that_does_not_run_here_is_no_verdict_but_an_error(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    with pytest.raises(BundleRefused, match="CUDAExecutionProvider"):
        run(line, prove_config(provider="CUDAExecutionProvider"))


def test_another_session_must_repeat_the_answers(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    exam = prove.prepare_examination(prove_config(), {FP32: line.of(FP32)}, line.folder("golden"))
    first, other = (
        open_session(model, "CPUExecutionProvider", 1)
        for model in (line.of(FP32) / "model.onnx", make_model(make_core(dynamic=True)))
    )
    result = gate.verdict(prove.examine(FP32, first, other, exam))
    assert failing(result) == ["reproducibility"]


@pytest.fixture
def proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Prove a small line in a project whose config is the test's own."""
    line = make_line(tmp_path, static=CHEAP)
    run(line, prove_config())
    holder = SimpleNamespace(prove=prove_config())
    monkeypatch.setattr(timing_report, "load_config", lambda root, pipeline: holder)
    return line


def test_timings_of_the_models_on_disk_are_not_taken_twice(proven: Line) -> None:
    before = (proven.reports / "prove.json").read_bytes()
    report = timing_report.timing_report(proven.root, "small")
    assert (proven.reports / "prove.json").read_bytes() == before
    assert report["latency"]["network-int8-static"]["p50_ms"] == 1.0


def test_timings_are_taken_again_when_the_report_is_gone(proven: Line) -> None:
    (proven.reports / "prove.json").unlink()
    report = timing_report.timing_report(proven.root, "small")
    assert sorted(report["latency"]) == ["network-fp32", "network-int8-static"]
    assert report == json.loads((proven.reports / "prove.json").read_text())


def test_timings_are_taken_again_when_a_model_has_other_bytes(proven: Line) -> None:
    (proven.of(FP32) / "model.onnx").write_bytes(make_model(make_core([0.9, -0.6])))
    report = timing_report.timing_report(proven.root, "small")
    assert report["latency"]["network-fp32"]["p50_ms"] != 1.0


def test_a_report_cut_short_counts_as_none(proven: Line) -> None:
    (proven.reports / "prove.json").write_text('{"models": ')
    assert (
        timing_report.timing_report(proven.root, "small")["latency"]["network-fp32"]["rows"] == 16
    )


def test_a_proof_holds_every_gate_of_every_precision_and_the_latencies(proven: Line) -> None:
    judged = json.loads((proven.folder("gates") / "gates.json").read_text())
    timing = json.loads((proven.reports / "prove.json").read_text())
    made = proof(judged, timing, "f" * 64)
    assert (made["version"], made["verdict"], made["precision"]) == (
        "f" * 64,
        "pass",
        "network-fp32",
    )
    counted = Counter(gate["precision"] for gate in made["gates"])
    assert counted == {"network-fp32": 5, "network-int8-static": 9}
    assert made["gates"][-1] == {
        "gate": "p50 as a share of network-fp32's",
        "precision": "network-int8-static",
        "measured": 1.0,
        "limit": 0.9,
        "bound": "max",
        "verdict": "fail",
    }
    size_bytes = (proven.of(FP32) / "model.onnx").stat().st_size
    assert made["latency"]["network-fp32"] == {
        "p50_ms": 1.0,
        "p99_ms": 1.0,
        "rows": 16,
        "size_bytes": size_bytes,
    }


def second_is_faster() -> Callable[[], int]:
    """Tell of two models that take turns: the first of them takes ten times as long."""

    def ticks() -> Iterator[int]:
        now = 0
        for turn in itertools.count():
            for place in range(2):
                yield now
                now += 1_000_000 if (turn + place) % 2 else 10_000_000
                yield now

    found = ticks()
    return lambda: next(found)


def test_another_family_that_loses_little_and_is_clearly_cheaper_is_chosen(tmp_path: Path) -> None:
    line = make_line(tmp_path, trees=make_core([0.88, -0.5]), trees_loss=0.005)
    proven = run(line, prove_config(), second_is_faster())
    assert proven["chosen"] == "trees-fp32"
    golden = read_golden(line.folder("gates") / "golden.arrow")
    session = open_session(line.of(TREES) / graph.MODEL, "CPUExecutionProvider", 1)
    assert (golden.precision, replay(session.run, golden).largest) == (
        "trees-fp32",
        {"probability": 0.0},
    )


def test_a_family_that_loses_too_much_is_out_however_cheap_it_is(tmp_path: Path) -> None:
    line = make_line(tmp_path, trees=make_core([0.88, -0.5]), trees_loss=0.0095)
    proven = run(line, prove_config(), second_is_faster())
    assert proven["chosen"] == "network-fp32"
    trees = proven["precisions"]["trees-fp32"]
    assert (trees["verdict"], trees["reason"]) == (
        "pass",
        "passes, but trees loses 0.0095 to network on the rows that choose, up to 0.0105 in 95 of"
        " 100; 0.01 is allowed",
    )


def test_the_best_family_gives_way_to_no_worse_one_where_it_fails_its_gates(
    tmp_path: Path,
) -> None:
    line = make_line(tmp_path, trees=make_core(sign=-1.0), trees_loss=0.0)
    write_choice(line, {"trees": 0.0, "network": 0.5})
    with pytest.raises(GateError, match="no candidate passes its gates"):
        run(line, prove_config(), second_is_faster())


def test_a_family_that_is_off_is_not_examined(tmp_path: Path) -> None:
    proven = run(make_line(tmp_path), prove_config(prefer=["network"]))
    assert set(proven["precisions"]) == {
        "network-fp32",
        "network-int8-static",
        "network-int8-dynamic",
    }


def test_a_cheaper_form_is_compared_with_the_reference_of_its_own_family(tmp_path: Path) -> None:
    """The other family's answers are far from it, and do not count."""
    line = make_line(tmp_path, static=CHEAP, trees=make_core([0.5, -0.1]))
    write_choice(line, {"trees": 0.0, "network": 0.0})
    proven = run(line, prove_config(prefer=["trees", "network"]))
    assert proven["precisions"]["network-int8-static"]["verdict"] == "pass"
