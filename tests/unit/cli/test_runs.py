"""Runs are listed, shown and compared, for people on stdout and for machines as JSON."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.cli import main
from slipway.cli.diff import of_lineage
from slipway.fleet.inventory import load_fleet
from slipway.fleet.keys import ensure_local_keys
from slipway.runs import record
from slipway.runs.difference import compare, of_run
from slipway.runs.git import GitState
from slipway.runs.inputs import Inputs, SourcePin
from slipway.runs.run import GateResult, Run, StageOutcome, StageUsage, StartedBy
from slipway.store.bundles import upload_bundle
from slipway.store.objects import Store
from tests.bundles import make_bundle
from tests.fleet_site import make_project

RAN = StageOutcome(
    "train@flights",
    "ran",
    why=("train.epochs modified",),
    seconds=71.8,
    exit="exit code 0",
    usage=StageUsage(cpu_s=125.0, peak_rss_bytes=415_000_000, read_bytes=176_000, written_bytes=0),
)
FIRST = Run(
    run="20261129-100000-aaaa",
    pipeline="flights",
    started_by=StartedBy("dvc repro", "me@here"),
    stages=(RAN, StageOutcome("prove@flights", "failed", exit="killed by SIGSEGV")),
    inputs=Inputs(
        config={"train.epochs": 12, "ingest.query": "SELECT\n  1"},
        sources={"things": SourcePin("file:///rows.csv", "aa" * 32, 3, rows=12_000)},
    ),
    metrics={"auc": 0.6912345},
    gates=(GateResult("auc_floor", 0.7, 0.63, "min", "pass", "fp32"),),
    git=GitState(commit="1" * 40, dirty=True, changed=("a.py",), changed_count=1),
    version="ab" * 32,
    precision="fp32",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two runs: one that failed, and a newer one of another pipeline."""
    root = make_project(tmp_path)
    (root / "configs/fleets/local.yaml").write_text(
        "store: store\ntrusted_keys: keys\nstate: state\nlaunch: local\n"
        "hosts: [{name: a, port: 1, admin_port: 2}]\n"
    )
    record.begin(root, FIRST).close("failed", "prove@flights: crashed")
    second = replace(
        FIRST,
        run="20261130-100000-bbbb",
        pipeline="fares",
        stages=(RAN, StageOutcome("prove@fares", "skipped")),
        inputs=replace(FIRST.inputs, config={"train.epochs": 14, "ingest.query": "SELECT\n  1"}),
        started_by=StartedBy("schedule", "deployment nightly, flow run 1"),
    )
    record.begin(root, second).close("completed")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def slipway(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run a command; returns its exit code and both of its streams."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slipway", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capfd.readouterr())

    return call


@pytest.mark.usefixtures("project")
class TestRuns:
    def test_the_newest_comes_first_with_who_and_what_became_of_it(self, slipway: Any) -> None:
        code, out, _ = slipway("runs")
        _, newer, older = out.splitlines()
        assert code == 0
        assert newer.startswith("20261130-100000-bbbb  fares     completed  ")
        assert newer.endswith("1 ran, 1 skipped  schedule, deployment nightly, flow run 1")
        assert older.startswith("20261129-100000-aaaa  flights   failed     ")
        assert older.endswith("  abababababab  1 ran, 1 failed   dvc repro, me@here")

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ([], ["20261130-100000-bbbb", "20261129-100000-aaaa"]),
            (["--pipeline", "flights"], ["20261129-100000-aaaa"]),
            (["--state", "completed"], ["20261130-100000-bbbb"]),
            (["--limit", "1"], ["20261130-100000-bbbb"]),
            (["--since", "1h"], ["20261130-100000-bbbb", "20261129-100000-aaaa"]),
            (["--since", "2999-01-01"], []),
        ],
    )
    def test_runs_are_chosen_by_options(
        self, slipway: Any, options: list[str], found: list[str]
    ) -> None:
        code, out, _ = slipway("runs", "--json", *options)
        assert code == 0
        assert [run["run"] for run in json.loads(out)] == found

    def test_what_is_cut_off_is_told(self, slipway: Any) -> None:
        _, out, err = slipway("runs", "--limit", "1")
        assert len(out.splitlines()) == 2
        assert err == "1 older not shown: --limit 2\n"

    def test_no_run_is_told_on_stderr(self, slipway: Any) -> None:
        assert slipway("runs", "--pipeline", "none") == (0, "", "no such run is recorded\n")

    @pytest.mark.parametrize("text", ["yesterday", "7w", "2026-13-01"])
    def test_a_time_that_is_none_is_wrong_usage(self, slipway: Any, text: str) -> None:
        code, out, err = slipway("runs", "--since", text)
        assert (code, out) == (2, "")
        assert (
            f"--since: expected such as 2026-11-30, 2026-11-30T18:00, 12h or 7d, got {text!r}"
            in (err)
        )

    def test_everything_of_one_run_is_shown(self, slipway: Any) -> None:
        code, out, _ = slipway("runs", "show", "20261129")
        assert code == 0
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert "error prove@flights: crashed" in lines
        assert f"commit {'1' * 40} and 1 uncommitted file" in lines
        assert "source things: file:///rows.csv, sha256 aaaaaaaaaaaa, 12,000 rows" in lines
        assert (
            "train@flights ran 1 min 12 s 2 min 05 s – 415 MB 176 kB 0 B exit code 0"
            " train.epochs modified"
        ) in lines
        assert "prove@flights failed – – – – – – killed by SIGSEGV" in lines
        assert "auc: 0.6912" in lines
        assert "fp32 auc_floor 0.7 0.63 pass" in lines
        assert "ingest.query: SELECT 1" in lines

    def test_the_newest_is_latest_and_json_holds_the_record(self, slipway: Any) -> None:
        _, out, _ = slipway("runs", "show", "latest", "--json")
        run = json.loads(out)
        assert run["run"] == "20261130-100000-bbbb"
        assert run["stages"][0]["usage"]["written_bytes"] == 0

    @pytest.mark.parametrize("verb", ["show", "report"])
    def test_a_run_that_does_not_exist_is_an_error_that_names_some(
        self, slipway: Any, verb: str
    ) -> None:
        code, out, err = slipway("runs", verb, "1999")
        assert (code, out) == (1, "")
        assert "no run begins with '1999'; the newest: 20261130-100000-bbbb, " in err


def test_a_report_is_made_again_by_a_child_in_the_projects_folder(
    project: Path, slipway: Any
) -> None:
    (project / "flows/commands").mkdir(parents=True)
    (project / "flows/commands/report.py").write_text(
        "import os, sys; print(sys.argv[1:], os.getcwd(), os.getpid()); sys.exit(3)"
    )
    code, out, _ = slipway("runs", "report", "20261129")
    assert code == 3
    assert out.startswith(f"['20261129-100000-aaaa'] {project} ")


class TestDiff:
    @pytest.mark.usefixtures("project")
    def test_two_runs_are_compared_cause_first(self, slipway: Any) -> None:
        code, out, _ = slipway("diff", "20261129", "latest")
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert code == 0
        assert lines == [
            "what name 20261129-100000-aaaa 20261130-100000-bbbb",
            "config train.epochs 12 -> 14",
            "stages prove@flights failed -> –",
            "stages prove@fares – -> skipped",
        ]

    @pytest.mark.usefixtures("project")
    def test_what_is_not_known_is_told_on_stderr(self, slipway: Any) -> None:
        _, out, err = slipway("diff", "latest", "latest")
        assert out == (
            "nothing that was recorded differs between 20261130-100000-bbbb and"
            " 20261130-100000-bbbb\n"
        )
        assert "libraries: not known of 20261130-100000-bbbb and" in err

    def test_a_run_is_compared_with_a_version_of_the_store(
        self, project: Path, slipway: Any
    ) -> None:
        fleet = load_fleet(project, "local")
        keys = ensure_local_keys(project, fleet)
        version = make_bundle(project / "bundle", "flights", keys=keys)
        upload_bundle(Store(fleet.store), project / "bundle", "flights")
        code, out, _ = slipway("diff", "latest", version[:12], "--json")
        told = json.loads(out)
        assert code == 0
        assert told["after"] == f"v{version[:12]}"
        [changed] = [d for d in told["differences"] if d["name"] == "version"]
        assert (changed["before"], changed["after"]) == ("ab" * 32, version)

    @pytest.mark.usefixtures("project")
    def test_a_version_that_the_store_lacks_is_an_error(self, slipway: Any) -> None:
        code, out, err = slipway("diff", "latest", "0123456789ab")
        assert (code, out) == (1, "")
        assert "holds no version 0123456789ab" in err


def test_the_papers_of_a_version_say_what_its_runs_record_says() -> None:
    lineage = {
        "git": {"commit": "1" * 40, "dirty": True, "changed": ["a.py"]},
        "config": {"train": {"epochs": 12}, "ingest": {"query": "SELECT\n  1"}},
        "sources": {
            "things": {
                "url": "file:///rows.csv",
                "sha256": "aa" * 32,
                "size_bytes": 3,
                "rows": 12_000,
            }
        },
        "metrics": {"test": {"auc": 0.6912345, "ece": None}},
        "precision": "fp32",
    }
    gate = {"gate": "auc_floor", "measured": 0.7, "limit": 0.63, "verdict": "pass"}
    proof = {"gates": [gate | {"precision": "fp32"}]}
    found = compare(of_run(FIRST), of_lineage("ab" * 32, lineage, proof))
    assert found.differences == ()
    assert found.unknown.keys() == {"libraries", "stages"}
