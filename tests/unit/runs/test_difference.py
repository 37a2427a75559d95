"""What differs is told from cause to effect, and what nobody knows is no difference."""

from dataclasses import replace
from typing import Any

from slipway.runs.difference import ChangedFact, Snapshot, compare, of_run
from slipway.runs.git import GitState
from slipway.runs.inputs import Inputs, SourcePin
from slipway.runs.run import GateResult, Run, StageOutcome

PIN = SourcePin("file:///rows.csv", "aa" * 32, 100, rows=1000)
INPUTS = Inputs(
    config={"train.epochs": 12, "train.seed": 1},
    sources={"rows": PIN},
    libraries={"numpy": "2.3.0", "torch": "2.13.0"},
)
RUN = Run(
    run="20261130-100000-aaaa",
    stages=(StageOutcome("train@flights", "ran"), StageOutcome("prove@flights", "skipped")),
    git=GitState(commit="1" * 40),
    inputs=INPUTS,
    metrics={"auc": 0.69},
    gates=(GateResult("auc_floor", 0.7, 0.63, "min", "pass", "fp32"),),
    version="ab" * 32,
    precision="fp32",
)


def differences(before: Run, after: Run) -> list[ChangedFact]:
    return list(compare(of_run(before), of_run(after)).differences)


def test_a_run_does_not_differ_from_itself() -> None:
    found = compare(of_run(RUN), of_run(RUN))
    assert (found.differences, found.unknown) == ((), {})


def test_everything_that_differs_is_told_cause_first() -> None:
    after = Run(
        run="20261130-110000-bbbb",
        stages=(StageOutcome("train@flights", "ran"), StageOutcome("prove@flights", "failed")),
        git=GitState(commit="2" * 40, dirty=True, changed=("tasks/train.py",)),
        inputs=Inputs(
            config={"train.epochs": 14, "train.dropout": 0.1},
            sources={"rows": replace(PIN, sha256="bb" * 32, rows=1001)},
            libraries={"numpy": "2.3.1", "torch": "2.13.0"},
        ),
        metrics={"auc": 0.7},
        gates=(GateResult("auc_floor", 0.6, 0.63, "min", "fail", "fp32"),),
        version="cd" * 32,
        precision="fp32",
    )
    assert differences(RUN, after) == [
        ChangedFact("code", "commit", "1" * 40, "2" * 40),
        ChangedFact("code", "uncommitted", "nothing", "tasks/train.py"),
        ChangedFact("config", "train.epochs", 12, 14),
        ChangedFact("config", "train.seed", 1, None),
        ChangedFact("config", "train.dropout", None, 0.1),
        ChangedFact("sources", "rows.rows", 1000, 1001),
        ChangedFact("sources", "rows.sha256", "aa" * 32, "bb" * 32),
        ChangedFact("libraries", "numpy", "2.3.0", "2.3.1"),
        ChangedFact("stages", "prove@flights", "skipped", "failed"),
        ChangedFact("metrics", "auc", 0.69, 0.7),
        ChangedFact("gates", "fp32 auc_floor", "0.7 (pass, limit 0.63)", "0.6 (fail, limit 0.63)"),
        ChangedFact("version", "version", "ab" * 32, "cd" * 32),
    ]


def test_what_one_side_does_not_know_is_told_apart() -> None:
    bare = replace(RUN, inputs=Inputs(), metrics={}, run="20261130-090000-0000")
    found = compare(of_run(bare), of_run(RUN))
    assert found.differences == ()
    assert found.unknown == dict.fromkeys(
        ("config", "sources", "libraries", "metrics"), "20261130-090000-0000"
    )


def test_what_neither_knows_names_both() -> None:
    found = compare(Snapshot("a"), Snapshot("b"))
    assert found.unknown["code"] == "a and b"
    assert len(found.unknown) == 8


def test_an_edited_config_is_no_change_of_code() -> None:
    edited = ("configs/flights.yaml", "data/flights/sources.lock", "requirements.lock")
    after = replace(RUN, git=GitState(commit="1" * 40, dirty=True, changed=edited))
    assert differences(RUN, after) == []
    after = replace(after, git=replace(after.git, changed=(*edited, "tasks/configs/a.yaml")))
    assert differences(RUN, after) == [
        ChangedFact("code", "uncommitted", "nothing", "tasks/configs/a.yaml")
    ]


def test_zero_is_known() -> None:
    facts: dict[str, Any] = {"train.dropout": 0}
    found = compare(Snapshot("a", config=facts), Snapshot("b", config={"train.dropout": 0.5}))
    assert found.differences == (ChangedFact("config", "train.dropout", 0, 0.5),)
