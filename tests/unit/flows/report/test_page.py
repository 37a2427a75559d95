"""The report: one page per run, made from whatever the run left."""

import json
import math
import os
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.report.charts import Axis, calibration_chart, loss_chart
from flows.report.facts import Facts, History, QualityFacts
from flows.report.page import render, write_report
from flows.report.sentences import sentences, verdict
from flows.report.slices import slice_plots
from slipway.problem import BINARY
from slipway.problem.record import CalibrationBin
from slipway.runs.parsing import parse
from slipway.runs.run import Run
from slipway.wording import duration, scrub, sentence, size
from tests.stage_files import STAGES, VERSION, a_run, stopped_at, write_stage_files

EVIL = "<script>alert(1)</script>\"'"
BEFORE_THE_RUN = datetime(2026, 11, 20, 19, 0, tzinfo=UTC).timestamp()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout in which an earlier run wrote everything."""
    write_stage_files(tmp_path)
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (BEFORE_THE_RUN, BEFORE_THE_RUN))
    return tmp_path


def page_of(root: Path, run: dict[str, Any]) -> str:
    write_report(root, parse(Run, run), root / "report.html")
    return (root / "report.html").read_text("utf-8")


class Page(HTMLParser):
    """What a browser would take from a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else data

    @property
    def headings(self) -> list[str | None]:
        return [attrs.get("id") for tag, attrs in self.tags if tag == "h2"]


def test_a_complete_run_has_every_section(root: Path) -> None:
    page = Page(page_of(root, a_run()))

    assert page.headings == [
        *("stages", "data", "training", "quality", "slices"),
        *("precisions", "gates", "release", "lineage"),
    ]


def test_the_page_loads_nothing_and_runs_nothing(root: Path) -> None:
    page = page_of(root, a_run())
    tags = Page(page).tags

    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "image"}
    assert not [attrs["src"] for _, attrs in tags if "src" in attrs]
    links = [attrs["href"] or "" for _, attrs in tags if "href" in attrs]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"@import|url\((?!#)", page)
    policies = [a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_values_from_data_are_escaped_everywhere(root: Path) -> None:
    metrics = root / "models/flights/evaluation/metrics.json"
    value = json.loads(metrics.read_text())
    value["slices"][EVIL] = {EVIL: value["slices"]["origin"]["EWR"]}
    metrics.write_text(json.dumps(value))
    table = root / "data/flights/raw/table.json"
    value = json.loads(table.read_text())
    value["sources"][EVIL] = {"url": EVIL, "sha256": EVIL, "size_bytes": 1, "rows": EVIL}
    table.write_text(json.dumps(value))
    run = a_run(precision=EVIL, run=EVIL, fleet=EVIL, hosts=[{"name": EVIL, "url": EVIL}])
    run["release"]["reason"] = EVIL
    run["git"]["remote"] = EVIL
    run["stages"][-1] |= {"stage": EVIL, "state": "ran"}
    run["gates"][0]["gate"] = EVIL

    page = page_of(root, run)

    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 15


def test_a_failed_run_names_the_stage_and_the_reason(root: Path) -> None:
    why = "training diverged: the loss was not finite at step 312"

    page = Page(page_of(root, stopped_at("train@flights-network", why)))

    assert "Stopped at train network" in page.text
    assert "Training diverged: the loss was not finite at step 312." in page.text


@pytest.mark.parametrize(
    "stage",
    [name for name, _, _ in STAGES],
)
def test_where_any_stage_stopped_nothing_was_published(stage: str) -> None:
    after = "Nothing was published; what served before goes on serving."

    assert verdict(parse(Run, stopped_at(stage, "why"))).after == after


def test_a_failed_run_shows_no_number_of_an_earlier_run(root: Path) -> None:
    page = Page(page_of(root, stopped_at("train@flights-network", "diverged")))

    assert page.headings == ["stages", "data", "lineage"]
    assert "Test AUC" not in page.text


def test_what_a_failed_stage_wrote_in_this_run_is_shown(root: Path) -> None:
    os.utime(root / "models/flights/network/training-report/history.json")

    page = Page(page_of(root, stopped_at("train@flights-network", "diverged")))

    assert page.headings == ["stages", "data", "training", "lineage"]


def test_a_stage_that_was_not_reached_is_never_believed(root: Path) -> None:
    os.utime(root / "models/flights/evaluation/metrics.json")

    page = Page(page_of(root, stopped_at("train@flights-network", "diverged")))

    assert "quality" not in page.headings


def test_a_gate_table_in_the_reason_keeps_its_lines_and_marks_the_failing_one(root: Path) -> None:
    reason = (
        "no candidate passes:\n  AUC       0.50  >= 0.63  fail\n  log loss  0.44  <= 0.47  pass"
    )

    page = page_of(root, stopped_at("prove@flights", reason))

    assert "<b>  AUC       0.50  &gt;= 0.63  fail</b>\n  log loss" in page


@pytest.mark.parametrize("run", [a_run(), stopped_at("ingest@flights", "no such file")])
def test_a_run_that_left_nothing_on_disk_still_has_a_page(
    tmp_path: Path, run: dict[str, Any]
) -> None:
    assert "stages" in Page(page_of(tmp_path, run)).headings


def test_a_run_that_had_hardly_begun_still_has_a_page(tmp_path: Path) -> None:
    run: dict[str, Any] = {
        "pipeline": "flights",
        "run": "x",
        "error": "no network",
        "stages": [],
        "release": None,
    }

    assert "No network." in Page(page_of(tmp_path, run)).text


@pytest.mark.parametrize("text", ["{", "[]", "null", "\x00"])
def test_a_broken_fact_counts_as_none(root: Path, text: str) -> None:
    (root / "models/flights/evaluation/metrics.json").write_text(text)

    assert "quality" not in Page(page_of(root, a_run())).headings


def test_only_the_report_is_left_in_its_folder(root: Path) -> None:
    folder = root / "run"
    folder.mkdir()

    write_report(root, parse(Run, a_run()), folder / "report.html")

    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_the_same_run_gives_the_same_page(root: Path) -> None:
    assert page_of(root, a_run()) == page_of(root, a_run())


def test_the_version_shows_12_digits_and_selects_64(root: Path) -> None:
    page = page_of(root, a_run())

    marked = f'title="{VERSION}"><b>{VERSION[:12]}</b><i>{VERSION[12:]}</i>'
    assert marked in page
    assert ".version i { font-size: 0; }" in page


def test_a_failing_gate_is_marked_and_a_passing_one_is_not(root: Path) -> None:
    rows = re.findall(r"<tr[^>]*><td>(?:batch invariance|log loss)</td>.*", page_of(root, a_run()))

    failed = [row for row in rows if 'class="failed"' in row]
    assert len(failed) == 1
    assert "0.0083" in failed[0]
    assert "≤ 1.0e−6" in failed[0]
    assert "✕ fail" in failed[0]


def test_the_chosen_candidate_stands_first_among_the_gates(root: Path) -> None:
    page = page_of(root, a_run())

    assert re.findall(r"<h3>(\S+?)\s*<", page.partition('id="gates"')[2]) == [
        *("network-int8-static", "trees-fp32", "network-fp32", "network-int8-dynamic")
    ]


def test_where_the_run_noted_no_gates_those_that_prove_wrote_are_shown(root: Path) -> None:
    page = Page(page_of(root, a_run(gates=[])))

    assert "1 of 26 gates failed. All 8 gates of network-int8-static, which was chosen" in page.text
    assert "gates" in page.headings


def test_credentials_in_urls_do_not_reach_the_page(root: Path) -> None:
    run = stopped_at("ingest@flights", "https://me:hunter2@host/a.csv?X-Signature=hunter2 is gone")
    run["git"]["remote"] = "https://me:hunter2@host/repo.git"

    page = page_of(root, run)

    assert "hunter2" not in page
    assert "https://host/a.csv?X-Signature=*** is gone" in page


def _run(decision: str | None, **changes: Any) -> dict[str, Any]:
    return a_run(release={"decision": decision} if decision else None, **changes)


@pytest.mark.parametrize(
    ("run", "tone", "title"),
    [
        (_run("first release"), "good", "Released: the first version"),
        (_run("promoted"), "good", "Released by way of a canary"),
        (_run("already serves"), "quiet", "Nothing new: this version already serves"),
        (_run(None), "quiet", "Built, not released"),
        (
            _run("rejected", error="not released: AUC is 0.6"),
            "bad",
            "Candidate rejected, the stable version goes on serving",
        ),
        (_run("undecided", error="x"), "bad", "Not released: too little to judge by"),
        (_run(None, error="port 18081 is in use"), "bad", "Stopped"),
        (_run(None, error="interrupted", state="interrupted"), "bad", "Interrupted"),
        (stopped_at("quantize@flights-int8-static", "x"), "bad", "Stopped at quantize int8-static"),
    ],
)
def test_the_verdict_says_what_came_of_the_run(run: dict[str, Any], tone: str, title: str) -> None:
    found = verdict(parse(Run, run))

    assert (found.tone, found.title) == (tone, title)


def test_a_run_in_which_nothing_was_stale_says_so(root: Path) -> None:
    stages = [{"stage": "train@flights", "state": "skipped", "seconds": 0.0}]

    page = Page(page_of(root, a_run(stages=stages)))

    assert "All 1 stages were up to date, so none ran." in page.text
    assert "training" in page.headings


def _slices(**values: dict[str, Any]) -> Facts:
    test = {"network": {"auc": 0.68}, "trees": {"auc": 0.67}}
    metrics = {"families": test, "slice_rows_min": 200, "slices": {"by": values}}
    return parse(Facts, {"metrics": metrics})


def _one(rows: int, auc: float | None) -> dict[str, Any]:
    described = {"rows": rows, "positives": rows // 5, "base_rate": 0.2}
    return described | {"network": auc, "trees": auc}


def test_slices_are_sorted_by_auc_and_small_ones_come_last() -> None:
    facts = _slices(a=_one(900, 0.6), b=_one(900, 0.7), c=_one(50, 0.9), d=_one(900, None))

    [plot] = slice_plots(facts)

    assert [(one.value, one.judged) for one in plot.slices] == [
        *(("b", True), ("a", True)),
        *(("c", False), ("d", False)),
    ]


def test_the_words_about_slices_promise_no_gate() -> None:
    facts = _slices(a=_one(900, 0.6), b=_one(900, 0.7), c=_one(50, 0.9))

    assert sentences(Run(), facts)["slices"] == (
        "AUC runs from 0.600 (by a) to 0.700 (by b). Grey: 1 slice with fewer than 200 rows or one"
        " class, whose AUC is noise. No gate looks at slices."
    )
    assert sentences(Run(), _slices())["slices"] == ""


def test_slices_named_by_numbers_keep_the_order_of_numbers() -> None:
    [plot] = slice_plots(_slices(**{"10": _one(900, 0.9), "9": _one(900, 0.6)}))

    assert [one.value for one in plot.slices] == ["9", "10"]


def test_a_small_slice_does_not_stretch_the_axis() -> None:
    [plot] = slice_plots(_slices(a=_one(900, 0.66), b=_one(900, 0.7), c=_one(50, 0.1)))

    a, b = (one.at for one in plot.slices if one.judged)
    assert a is not None
    assert b is not None
    assert abs(a - b) > 30


def test_of_many_slices_the_largest_are_shown_and_the_rest_counted() -> None:
    [plot] = slice_plots(_slices(**{f"v{i}": _one(1000 + i, 0.6) for i in range(45)}))

    assert len(plot.slices) == 40
    assert plot.left_out == 5
    assert min(one.rows for one in plot.slices) == 1005


def test_ticks_are_round_and_inside_the_range() -> None:
    assert [tick.text for tick in Axis(0.62, 0.71, 0, 100).ticks()] == [
        *("0.62", "0.64", "0.66", "0.68", "0.70")
    ]
    assert [tick.text for tick in Axis(0, 1, 0, 100).ticks(4)] == [
        *("0.00", "0.25", "0.50", "0.75", "1.00")
    ]


def test_an_axis_of_one_value_still_has_a_place_for_it() -> None:
    assert Axis(0.5, 0.5, 0, 100).at(0.5) == 0


def test_a_value_outside_an_axis_stays_at_its_edge() -> None:
    axis = Axis(0.5, 1, 20, 100)

    assert [axis.at(value) for value in (0.2, 0.75, 3)] == [20, 60, 100]


def test_training_that_diverged_is_drawn_up_to_there() -> None:
    steps = [{"step": i, "train_loss": 0.5 if i < 5 else math.nan} for i in range(8)]

    chart = loss_chart(parse(History, {"steps": steps, "evaluations": []}), BINARY.stopping)

    assert chart is not None
    assert "nan" not in "".join(chart.curves.values())


@pytest.mark.parametrize("history", [{}, {"diverged_at": 3}, {"steps": [], "evaluations": []}])
def test_without_steps_there_is_no_training_chart(history: dict[str, Any]) -> None:
    assert loss_chart(parse(History, history), BINARY.stopping) is None


def test_without_bins_there_is_no_calibration_chart() -> None:
    bins = [{"predicted": None, "observed": 0.1, "rows": 3}]

    metrics = parse(QualityFacts, {"calibration": {"network": bins}})

    assert calibration_chart(metrics.calibration.get("network", ()), (), BINARY) is None


def test_every_mark_of_the_calibration_chart_is_inside_it() -> None:
    bins = [CalibrationBin(p / 10, 1 - p / 10, 9) for p in range(11)]

    chart = calibration_chart(bins, bins, BINARY)

    assert chart is not None
    assert len({mark.x for mark in chart.marks["model"]}) == 11
    for mark in (mark for marks in chart.marks.values() for mark in marks):
        assert chart.left <= mark.x <= chart.right
        assert chart.top <= min(mark.low, mark.high, mark.y)
        assert max(mark.low, mark.high, mark.y) <= chart.bottom


def test_a_page_needs_no_config_and_no_git() -> None:
    assert "Stopped" in render(Run(pipeline="x", error="no config"), Facts())


def test_a_sentence_starts_with_a_capital_unless_it_starts_with_a_name() -> None:
    texts = ["promoted", "no candidate passes:", "v3f2a9c is rejected", "https://host/a is gone"]

    assert [sentence(text) for text in texts] == [
        *("Promoted.", "No candidate passes:", "v3f2a9c is rejected.", "https://host/a is gone.")
    ]


def test_the_release_says_on_how_much_traffic_it_was_judged(root: Path) -> None:
    page = Page(page_of(root, a_run()))

    assert (
        "Promoted. Every measure is within its limit. The candidate answered 200 of 200 requests"
        " (4,000 rows), the stable answered 200 of 200 requests (4,000 rows)." in page.text
    )


def test_of_many_changed_files_the_first_are_named_and_all_counted(root: Path) -> None:
    changed = {"dirty": True, "changed": [f"{i}.py" for i in range(50)], "changed_count": 60}

    page = Page(page_of(root, a_run(git={"commit": "9b1c", **changed})))

    assert "0.py, 1.py, 2.py, 3.py, 4.py, 5.py, 6.py, 7.py and 52 more" in page.text
    assert "60 files differed from it" in page.text


def test_words_for_numbers() -> None:
    assert [size(n) for n in (0, 999, 128_940, 7_954_223, None)] == [
        *("0 B", "999 B", "129 kB", "7.95 MB", "–")
    ]
    assert [duration(s) for s in (0.84, 12, 71.8, 3725, math.nan)] == [
        *("0.8 s", "12 s", "1 min 12 s", "1 h 02 min", "–")
    ]


def test_scrubbing_leaves_what_is_no_url_alone() -> None:
    query = "SELECT a&b=c, d FROM t WHERE mail = 'me@host'"

    assert scrub(query) == query
    assert scrub("git@github.com:acme/x.git") == "git@github.com:acme/x.git"
