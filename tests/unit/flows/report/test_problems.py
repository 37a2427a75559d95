"""The report of every problem, split and choice of families: its words, slices and charts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.report.charts import calibration_chart, loss_chart
from flows.report.facts import Facts, History, read_facts
from flows.report.page import render
from flows.report.panels import parts, precisions
from flows.report.sentences import sentences
from flows.report.slices import slice_plots
from slipway.problem import BINARY, MULTICLASS, PROBLEMS, REGRESSION
from slipway.problem.record import CalibrationBin
from slipway.runs.parsing import parse
from slipway.runs.run import Run
from tests.stage_files import (
    FAMILIES,
    GOLDEN_UNITS,
    PROBLEMS_POSED,
    TREES_ONLY,
    a_run,
)
from tests.unit.flows.pipelines import write_project


def text_of(root: Path, problem: str = "binary", families: Sequence[str] = FAMILIES) -> str:
    """Return what a reader sees of the page of a run."""
    page = render(parse(Run, a_run(problem, families)), read_facts(root, "flights"))
    without_style = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", without_style).split())


BINARY_WORDS = r"\bAUC\b|\bBrier|base rate|\bpositives?\b|\bprobabilit|average precision"


def test_a_report_of_numbers_uses_no_word_of_classes(tmp_path: Path) -> None:
    text = text_of(write_project(tmp_path, "regression"), "regression")

    assert not re.findall(rf"(?i){BINARY_WORDS}|log loss|largest class|of right answers", text)
    assert "Test RMSE 8.4127 trees 8.3319" in text
    assert "Without inputs every row is answered alike: the mean of training is 16.21." in text
    assert "R²: higher is better; all others: lower." in text


def test_the_words_about_slices_of_numbers_know_no_class(tmp_path: Path) -> None:
    facts = read_facts(write_project(tmp_path, "regression"), "flights")

    assert "class" not in sentences(Run(), facts)["slices"]


def test_a_report_of_several_classes_uses_no_word_of_two(tmp_path: Path) -> None:
    text = text_of(write_project(tmp_path, "multiclass"), "multiclass")

    assert not re.findall(r"(?i)base rate|\bpositives?\b|Brier|average precision", text)
    assert "Test log loss 0.7431 trees 0.7322" in text
    assert "Largest class" in text
    assert "Calibration error 1.18 % largest class 61.9 %" in text
    assert "AUC of one against the rest" in text


@pytest.mark.parametrize("problem", PROBLEMS_POSED)
def test_every_measure_of_the_problem_stands_beside_everybody_s(
    problem: str, tmp_path: Path
) -> None:
    text = text_of(write_project(tmp_path, problem), problem)
    posed = PROBLEMS_POSED[problem]

    assert "On test Network Trees No inputs" in text
    for measure in PROBLEMS[problem].measures:
        values = [posed.quality[who][measure.key] for who in ("network", "trees", "base")]
        assert f"{measure.title} {' '.join(f'{value:.4f}' for value in values)}" in text


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            "binary",
            "On 28,378 test rows the AUC of network is 0.6785, 0.0027 below trees on the same rows."
            " On the rows that choose network loses 0.0021 to trees (0.0004 to 0.0038 in 95 of"
            " 100). Its probabilities are off by 2.04 % on average over the bins.",
        ),
        (
            "multiclass",
            "On 28,378 test rows the log loss of network is 0.7431, 0.0109 above trees on the same"
            " rows. On the rows that choose network loses 0.0109 to trees (0.0061 to 0.0158 in 95"
            " of 100). Its probabilities are off by 1.18 % on average over the bins.",
        ),
    ],
)
def test_the_loss_to_the_better_family_is_told_with_its_interval(
    problem: str, said: str, tmp_path: Path
) -> None:
    facts = read_facts(write_project(tmp_path, problem), "flights")

    assert sentences(Run(), facts)["quality"] == said


def test_a_loss_in_the_target_s_unit_is_told_as_the_share_that_it_is(tmp_path: Path) -> None:
    facts = read_facts(write_project(tmp_path, "regression"), "flights")

    assert "network loses 0.97 % to trees" in sentences(Run(), facts)["quality"]


class TestSplits:
    @pytest.mark.parametrize(
        ("by", "train", "choose", "golden"),
        [
            (
                "time",
                "1 Jan 2013 to 31 Aug 2013",
                "1 Sep 2013 to 30 Sep 2013, some days of it",
                "14 whole days, never trained on",
            ),
            (
                "rows",
                "rows by a hash of their key",
                "rows by a hash of their key",
                "14,105 rows, never trained on",
            ),
            (
                "group",
                "whole values of tailnum, by a hash",
                "whole values of tailnum, by a hash",
                "412 whole groups, never trained on",
            ),
            ("given", "as part says", "as part says", "14,105 rows, never trained on"),
        ],
    )
    def test_each_part_says_which_rows_it_holds(
        self, by: str, train: str, choose: str, golden: str, tmp_path: Path
    ) -> None:
        found = parts(read_facts(write_project(tmp_path, by=by), "flights"))

        assert [part.name for part in found] == ["train", "stop", "choose", "test", "golden"]
        which = {part.name: part.days for part in found}
        assert (which["train"], which["choose"], which["golden"]) == (train, choose, golden)
        assert which["stop"] == choose

    @pytest.mark.parametrize("problem", PROBLEMS_POSED)
    def test_each_part_has_its_rows_and_the_level_of_its_target(
        self, problem: str, tmp_path: Path
    ) -> None:
        found = parts(read_facts(write_project(tmp_path, problem), "flights"))
        posed = PROBLEMS_POSED[problem]

        key = {"binary": "base_rate", "multiclass": "largest_class", "regression": "mean"}[problem]
        assert [part.level for part in found] == [posed.levels[part.name][key] for part in found]
        assert [part.rows for part in found] == [218_405, 13_201, 13_902, 28_378, 5000]

    def test_rows_without_a_time_are_told_without_days(self, tmp_path: Path) -> None:
        facts = read_facts(write_project(tmp_path, by="rows"), "flights")

        assert sentences(Run(), facts)["data"].startswith("327,346 rows. 31 ")

    def test_the_golden_days_are_named(self, tmp_path: Path) -> None:
        count, _ = GOLDEN_UNITS["time"]
        text = text_of(write_project(tmp_path))

        assert count == 14
        assert "Golden days: Oct 2013: 1, 3, 4, 8, 11, 14, 15, 16, 19, 22, 23, 26, 28, 30." in text


class TestCandidates:
    def test_all_of_them_are_compared_each_family_s_own_reference_first(
        self, tmp_path: Path
    ) -> None:
        facts = read_facts(write_project(tmp_path), "flights")

        found = precisions(parse(Run, a_run()), facts)

        assert [(one.name, one.verdict, one.chosen) for one in found] == [
            ("network-fp32", "pass", False),
            ("trees-fp32", "pass", False),
            ("network-int8-dynamic", "fail", False),
            ("network-int8-static", "pass", True),
        ]
        assert [one.size_bytes for one in found] == [391_204, 1_391_204, 117_322, 128_940]
        assert [one.measures["AUC"] for one in found] == [0.6785, 0.6812, 0.6785, 0.6785]
        assert [one.measures["parity"] for one in found] == [1.1e-7, 1.1e-7, 0.0214, 0.0173]

    def test_sizes_are_those_of_the_exports_where_nothing_was_timed(self, tmp_path: Path) -> None:
        root = write_project(tmp_path)
        (root / ".slipway/reports/flights/prove.json").unlink()

        found = precisions(Run(), read_facts(root, "flights"))

        assert {one.name: one.size_bytes for one in found} == {
            "network-fp32": 391_204,
            "trees-fp32": 1_391_204,
            "network-int8-dynamic": 117_322,
            "network-int8-static": 128_940,
        }

    def test_the_page_names_the_chosen_one_and_why(self, tmp_path: Path) -> None:
        text = text_of(write_project(tmp_path))

        assert (
            "network-int8-static was chosen: of those that are good enough and passed every gate,"
            " none is cheaper by 10 % or more." in text
        )
        assert "passes, but is not clearly cheaper than network-int8-static" in text

    def test_before_the_proof_the_best_family_on_the_rows_that_choose_is_shown(
        self, tmp_path: Path
    ) -> None:
        root = write_project(tmp_path)
        (root / "models/flights/gates/gates.json").unlink()

        facts = read_facts(root, "flights")

        assert facts.families_in_words == ("trees", "network")
        assert facts.history.best_step == 132
        assert facts.test["auc"] == 0.6812

    def test_once_it_is_proven_the_family_that_was_chosen_is(self, tmp_path: Path) -> None:
        facts = read_facts(write_project(tmp_path), "flights")

        assert facts.choice.best == "trees"
        assert facts.families_in_words == ("network", "trees")
        assert facts.history.best_step == 450


class TestOneFamily:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """A run whose only family is trees."""
        return write_project(tmp_path, families=TREES_ONLY)

    def test_nothing_is_said_of_the_family_that_is_off(self, root: Path) -> None:
        page = text_of(root, families=TREES_ONLY)
        text = re.sub(r"What happened.*?Data 327,346", "", page)  # its stages say that it is off

        assert "network" not in text.lower()
        assert "On test Trees No inputs" in text
        assert "All 5 gates passed." in text

    def test_there_is_one_candidate(self, root: Path) -> None:
        [one] = precisions(parse(Run, a_run("binary", TREES_ONLY)), read_facts(root, "flights"))

        assert (one.name, one.chosen, one.size_bytes) == ("trees-fp32", True, 1_391_204)

    def test_its_quality_is_compared_with_nobody_s(self, root: Path) -> None:
        assert sentences(Run(), read_facts(root, "flights"))["quality"] == (
            "On 28,378 test rows the AUC of trees is 0.6812. Its probabilities are off by 2.31 % on"
            " average over the bins."
        )

    def test_its_training_is_drawn_from_the_stop_rows_alone(self, root: Path) -> None:
        facts = read_facts(root, "flights")

        chart = loss_chart(facts.history, BINARY.stopping)

        assert chart is not None
        assert list(chart.curves) == ["model"]
        assert sentences(Run(), facts)["training"].endswith(
            "132 was kept: validation log loss 0.4340. Training stopped: no better for 50 rounds."
            " 6,200 parameters, 1 process."
        )

    def test_slices_have_no_second_dot(self, root: Path) -> None:
        facts = read_facts(root, "flights")

        found = {one.other_at for plot in slice_plots(facts) for one in plot.slices}

        assert found == {None}


class TestSlices:
    @pytest.mark.parametrize("problem", PROBLEMS_POSED)
    def test_each_shows_the_chosen_family_and_the_other_one(
        self, problem: str, tmp_path: Path
    ) -> None:
        root = write_project(tmp_path, problem)
        metrics = json.loads((root / "models/flights/evaluation/metrics.json").read_text())

        plots = {plot.column: plot for plot in slice_plots(read_facts(root, "flights"))}

        assert list(plots) == ["carrier", "origin", "hour"]
        shown = {one.value: (one.score, one.other_score) for one in plots["origin"].slices}
        written = metrics["slices"]["origin"]
        assert shown == {v: (one["network"], one["trees"]) for v, one in written.items()}

    @pytest.mark.parametrize(
        ("problem", "known"), [("binary", True), ("multiclass", False), ("regression", False)]
    )
    def test_an_interval_is_drawn_only_where_one_is_known(
        self, problem: str, known: bool, tmp_path: Path
    ) -> None:
        facts = read_facts(write_project(tmp_path, problem), "flights")

        judged = [one for plot in slice_plots(facts) for one in plot.slices if one.judged]

        assert judged
        assert {one.low is not None for one in judged} == {known}

    def test_an_axis_of_numbers_goes_where_the_numbers_are(self, tmp_path: Path) -> None:
        facts = read_facts(write_project(tmp_path, "regression"), "flights")

        places = [one.at for plot in slice_plots(facts) for one in plot.slices if one.judged]

        assert max(filter(None, places)) - min(filter(None, places)) > 50
        assert {0.0, 100.0}.isdisjoint(places)

    @pytest.mark.parametrize("problem", ["multiclass", "regression"])
    def test_the_best_stands_first_also_where_lower_is_better(
        self, problem: str, tmp_path: Path
    ) -> None:
        facts = read_facts(write_project(tmp_path, problem), "flights")
        [carriers] = [plot for plot in slice_plots(facts) if plot.column == "carrier"]

        scores = [one.score or 0.0 for one in carriers.slices if one.judged]

        assert scores == sorted(scores)

    @pytest.mark.parametrize("problem", ["multiclass", "regression"])
    def test_the_sentence_goes_from_the_worst_to_the_best(
        self, problem: str, tmp_path: Path
    ) -> None:
        facts = read_facts(write_project(tmp_path, problem), "flights")
        judged = [one.score or 0.0 for p in slice_plots(facts) for one in p.slices if one.judged]

        said = sentences(Run(), facts)["slices"]

        assert re.match(r"\S+( \S+)? runs from ([\d.]+) \(.*?\) to ([\d.]+) ", said)
        worst, best = re.findall(r"(?:from|to) (\d+\.\d+)", said)
        assert (worst, best) == (f"{max(judged):.3f}", f"{min(judged):.3f}")


class TestCalibration:
    BINS = tuple(CalibrationBin(1000.0 * i, 1000.0 * i + 40, 50) for i in range(-3, 8))

    def test_of_numbers_spans_the_numbers_and_draws_no_interval(self) -> None:
        chart = calibration_chart(self.BINS, (), REGRESSION)

        assert chart is not None
        assert chart.label == "Observed against predicted mean"
        assert [tick.text for tick in chart.x_ticks] == [
            *("\N{MINUS SIGN}2,500", "0", "2,500", "5,000", "7,500")
        ]
        marks = chart.marks["model"]
        assert len({mark.x for mark in marks}) == len(self.BINS)
        assert all(mark.low == mark.high == mark.y for mark in marks)
        assert marks[0].words == "predicted -3000, observed -2960 of 50 rows"

    def test_of_shares_begins_at_nothing_and_draws_intervals(self) -> None:
        bins = [CalibrationBin(0.4, 0.5, 50), CalibrationBin(0.8, 0.7, 50)]

        for problem, of in ((BINARY, "share of positives"), (MULTICLASS, "share of right answers")):
            chart = calibration_chart(bins, (), problem)

            assert chart is not None
            assert chart.label == f"Observed against predicted {of}"
            assert chart.x_ticks[0].text == "0.0"
            assert all(mark.low > mark.y > mark.high for mark in chart.marks["model"])

    def test_the_other_family_is_drawn_beside_the_chosen_one(self, tmp_path: Path) -> None:
        page = text_of(write_project(tmp_path, "multiclass"), "multiclass")

        assert "Calibration network trees predicted = observed" in page


def test_the_problem_is_the_config_s_where_nothing_was_measured_yet(tmp_path: Path) -> None:
    root = write_project(tmp_path, "regression")
    (root / "models/flights/evaluation/metrics.json").unlink()

    facts = read_facts(root, "flights")

    assert facts.problem is REGRESSION
    assert sentences(Run(), facts)["training"].startswith("Step 450 was kept: validation RMSE 8.4")


def test_of_a_line_that_was_just_begun_nothing_is_claimed() -> None:
    assert Facts().shipped == ""
    assert Facts().families_in_words == ("", "")
    assert Facts().history == History()
