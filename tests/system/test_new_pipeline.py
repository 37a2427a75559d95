"""A pipeline whose sources were never pinned: what DVC says of it, and what we say."""

from pathlib import Path

import pytest

from flows.dag.changes import explain
from tests.flow_project import PIPELINE, Project

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

PIN = f"data/{PIPELINE}/sources.lock"


def test_a_pin_that_is_missing_is_named_with_what_writes_it_and_nothing_changes(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project")
    project.root.joinpath("inputs/train.txt").unlink()
    ingest, train = explain(project.root, PIPELINE)[:2]
    assert {change.name: change.note for change in ingest.changes} == {
        "dvc.lock": "has no entry of this stage: it never ran",
        PIN: f"is missing: it pins the sources, and `slipway build {PIPELINE}` writes it",
    }
    assert [change.note for change in train.changes][1:] == ["is missing"]

    before = sorted(path for path in project.root.rglob("*") if ".dvc" not in path.parts)
    bare = project.dvc("repro")
    assert bare.code != 0
    assert "[Errno 2] No such file or directory" in bare.err  # as README says
    assert PIN in bare.err
    after = sorted(path for path in project.root.rglob("*") if ".dvc" not in path.parts)
    assert after == before
