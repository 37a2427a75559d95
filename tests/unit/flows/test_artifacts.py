"""What a run leaves on Prefect's pages, on pages that only write down what they were given."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from flows.artifacts import Leavings, Pages, StageProgress, gate_rows, leave
from slipway.runs.run import GateResult, Run
from tests.support.waiting import wait_until

GATES = (
    GateResult("auc_floor", 0.68, 0.63, "min", "pass", "fp32"),
    GateResult("parity", 0.5, 1e-5, "max", "fail", "int8-static"),
    GateResult("parity", 0.0, 1e-5, "max", "pass", "fp32"),
)
RUN = Run(
    run="20261130-100000-aaaa",
    pipeline="flights",
    state="completed",
    version="3f2a9c01b7de" * 5,
    precision="int8-static",
    metrics={"auc": 0.6812},
    gates=GATES,
    prefect_flow_run="1",
)


@dataclass
class Written:
    """All that was left, by key."""

    left: dict[str, Any] = field(default_factory=dict)
    bars: list[tuple[Any, ...]] = field(default_factory=list)
    gone: bool = False

    def keep(self, content: Any, key: str, description: str) -> None:
        if self.gone:
            raise ConnectionError("no server")
        self.left[key] = content

    def begin(self, share: float, key: str, title: str) -> UUID:
        if self.gone:
            raise ConnectionError("no server")
        self.bars.append((key, title, share))
        return uuid4()

    def update(self, artifact: UUID, share: float) -> None:
        self.bars.append((share,))

    @property
    def pages(self) -> Pages:
        return Pages(self.keep, self.keep, self.begin, self.update)


def left_of(run: Run, folder: Path) -> Leavings:
    return Leavings(run, run.gates, folder / "report.html", folder / "data-docs/index.html")


def test_the_gates_are_a_table_with_the_chosen_precision_first():
    assert gate_rows(GATES, "int8-static") == [
        {"precision": "int8-static", "gate": "parity", "limit": "≤ 1.0e−5", "measured": "0.5",
         "verdict": "fail"},
        {"precision": "fp32", "gate": "auc floor", "limit": "≥ 0.63", "measured": "0.68",
         "verdict": "pass"},
        {"precision": "fp32", "gate": "parity", "limit": "≤ 1.0e−5", "measured": "0",
         "verdict": "pass"},
    ]  # fmt: skip


def test_every_run_of_a_pipeline_has_the_same_keys(tmp_path: Path):
    written = Written()
    leave(left_of(RUN, tmp_path), pytest.fail, written.pages)
    assert list(written.left) == [
        "slipway-flights-gates",
        "slipway-flights-metrics",
        "slipway-flights-run",
    ]
    overview = written.left["slipway-flights-run"]
    assert f"[report]({(tmp_path / 'report.html').as_uri()})" in overview
    assert "[Data Docs](file://" in overview
    assert "3f2a9c01b7de`, int8-static" in overview


def test_a_server_that_is_gone_costs_a_run_its_artifacts_and_no_more(tmp_path: Path):
    said: list[str] = []
    leave(left_of(RUN, tmp_path), said.append, Written(gone=True).pages)
    assert said == ["no artifacts were left on Prefect's pages: ConnectionError: no server"]


def test_a_run_without_a_flow_run_leaves_nothing(tmp_path: Path):
    written = Written()
    leave(left_of(Run(pipeline="flights"), tmp_path), pytest.fail, written.pages)
    assert written.left == {}


def event(done: int) -> str:
    return json.dumps({"progress": {"label": "training", "done": done, "total": 50}})


def test_a_long_stage_has_a_bar_that_ends_where_the_stage_did():
    written = Written()
    with StageProgress("quantize@flights-int8-static", written.pages, every_s=0.01) as progress:
        progress.heard("an ordinary line")
        progress.heard(event(10))
        wait_until(lambda: written.bars, "the bar")
        progress.heard(event(50))
    name = "slipway-flights-int8-static-quantize-progress"
    assert written.bars[0] == (name, "quantize@flights-int8-static", 20.0)
    assert written.bars[-1] == (100.0,)


def test_a_stage_that_is_done_at_once_has_no_bar():
    written = Written()
    with StageProgress("train@flights", written.pages, every_s=60) as progress:
        progress.heard(event(50))
    assert written.bars == []


def test_a_bar_that_cannot_be_shown_holds_up_no_stage():
    with StageProgress("train@flights", Written(gone=True).pages, every_s=0.01) as progress:
        for done in range(50):
            progress.heard(event(done))
        wait_until(lambda: not progress._thread.is_alive(), "it is given up")
