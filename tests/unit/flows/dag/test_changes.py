"""Why a stage would run is told from what to what."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.commands import explain as command
from flows.dag.changes import Change, Explanation, differing, explain, follow
from slipway.errors import ConfigError
from tests.project import IDENTITY

# DVC's own use of its trie library
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

STAGE = (
    'python -c "import pathlib, sys; out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True);'
    " (out / 'SHA256SUMS').touch()\" "
)

DAG = f"""
vars:
  - pipelines: [tiny]
stages:
  ingest:
    foreach: ${{pipelines}}
    do:
      cmd: |-
        {STAGE}data/raw
      deps: [rows.csv, code]
      outs: [data/raw]
  train:
    foreach: ${{pipelines}}
    do:
      cmd: |-
        {STAGE}models/weights
      params:
        - configs/${{item}}.yaml: [train]
      deps: [data/raw]
      outs: [models/weights]
  evaluate:
    foreach: ${{pipelines}}
    do:
      cmd: |-
        {STAGE}models/evaluation
      deps: [models/weights]
      outs: [models/evaluation]
"""
"""ingest - train - evaluate; the sealed folders that they make are empty."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run; tests put back what they change."""
    root = tmp_path_factory.mktemp("changes") / "project"
    for folder in ("configs", "code"):
        (root / folder).mkdir(parents=True)
    (root / "dvc.yaml").write_text(DAG)
    (root / "rows.csv").write_text("a,b\n1,2\n")
    (root / "code/stage.py").write_text("one = 1\n")
    train = {"epochs": 3, "hidden": {"width": 16}, "loss": "log"}
    (root / "configs/tiny.yaml").write_text(yaml.safe_dump({"train": train, "release": {"x": 1}}))
    dvc = [sys.executable, "-m", "dvc"]
    for words in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"]):
        run(root, *words)
    run(root, "git", "add", ".")
    run(root, "git", *IDENTITY, "commit", "-q", "-m", "Begin")
    return root


def run(root: Path, *words: str) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "DVC_NO_ANALYTICS": "1"}
    subprocess.run(words, cwd=root, env=environment, check=True, capture_output=True)


@pytest.fixture
def project(built: Path) -> Iterator[Path]:
    yield built
    run(built, "git", "checkout", "-q", ".")
    run(built, sys.executable, "-m", "dvc", "checkout", "-q", "--force")


def told(root: Path) -> dict[str, Explanation]:
    return {each.title: each for each in explain(root, "tiny")}


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))


def test_stages_that_have_run_are_up_to_date(project: Path) -> None:
    assert {each.verdict for each in told(project).values()} == {"up to date"}


def test_a_parameter_is_told_with_both_values_and_what_reads_from_it_runs_for_that_only(
    project: Path,
) -> None:
    edit(project, "configs/tiny.yaml", "epochs: 3", "epochs: 5")
    edit(project, "configs/tiny.yaml", "width: 16", "width: 32")
    found = told(project)
    assert found["ingest"].verdict == "up to date"
    assert set(found["train"].changes) == {
        Change("parameter", "train.epochs", 3, 5),
        Change("parameter", "train.hidden.width", 16, 32),
    }
    assert (found["train"].verdict, found["train"].in_run_cache) == ("would run", False)
    assert found["evaluate"].verdict == "would be asked again"
    assert (found["evaluate"].changes, found["evaluate"].upstream) == ((), ("train@tiny",))


def test_a_section_that_is_no_stages_changes_nothing(project: Path) -> None:
    edit(project, "configs/tiny.yaml", "x: 1", "x: 2")
    assert {each.verdict for each in told(project).values()} == {"up to date"}


def test_a_file_is_told_with_both_digests_and_its_last_commit(project: Path) -> None:
    edit(project, "code/stage.py", "one", "two")
    ingest = told(project)["ingest"]
    (change,) = ingest.changes
    assert (ingest.verdict, ingest.in_run_cache) == ("would run", False)
    assert (change.kind, change.name) == ("dependency", "code")
    assert change.old != change.new
    assert [len(digest) for digest in (change.old, change.new)] == [8, 8]
    assert change.note.endswith("Begin; changed since, not committed")


def test_a_missing_file_is_told(project: Path) -> None:
    (project / "rows.csv").unlink()
    (change,) = told(project)["ingest"].changes
    assert (change.name, change.new) == ("rows.csv", None)
    assert told(project)["ingest"].verdict == "would run"


def test_a_command_is_told_as_it_was_and_is(project: Path) -> None:
    edit(project, "dvc.yaml", "models/evaluation\n", "models/evaluation --fast\n")
    (change,) = told(project)["evaluate"].changes
    assert change.kind == "command"
    assert change.old.endswith("models/evaluation")
    assert change.new.endswith("models/evaluation --fast")


def test_an_output_that_is_gone_would_come_from_the_cache(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "models/weights/SHA256SUMS").unlink()
    (project / "models/weights").rmdir()
    found = told(project)
    (change,) = found["train"].changes
    assert (change.kind, change.name, change.note) == ("output", "models/weights", "deleted")
    assert found["train"].verdict == "would be restored"
    assert (found["evaluate"].verdict, found["evaluate"].changes) == ("would be asked again", ())
    assert capfd.readouterr().out == ""


def test_what_ran_on_these_inputs_before_would_be_restored(project: Path) -> None:
    edit(project, "configs/tiny.yaml", "epochs: 3", "epochs: 4")
    run(project, sys.executable, "-m", "dvc", "repro", "-q")
    edit(project, "configs/tiny.yaml", "epochs: 4", "epochs: 3")
    train = told(project)["train"]
    assert train.changes == (Change("parameter", "train.epochs", 4, 3),)
    assert train.verdict == "would be restored"


def test_a_damaged_output_that_dvc_does_not_see_is_told(project: Path) -> None:
    seal = project / "models/evaluation/SHA256SUMS"
    seal.chmod(0o644)
    seal.write_text(f"{'0' * 64}  gone.txt\n")
    run(project, sys.executable, "-m", "dvc", "commit", "-q", "--force", "evaluate@tiny")
    found = told(project)["evaluate"]
    assert [(c.kind, c.note) for c in found.changes] == [("output", "gone.txt is missing")]
    assert (found.verdict, found.in_run_cache) == ("would run", False)


def test_a_stage_without_an_entry_never_ran(project: Path) -> None:
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    del lock["stages"]["evaluate@tiny"]
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    (change,) = told(project)["evaluate"].changes
    assert change.kind == "entry"


def test_nothing_is_written_by_explaining(project: Path) -> None:
    edit(project, "configs/tiny.yaml", "epochs: 3", "epochs: 6")
    before = {p: p.read_bytes() for p in (project / "dvc.lock", project / "dvc.yaml")}
    explain(project, "tiny")
    assert {path: path.read_bytes() for path in before} == before
    assert told(project)["train"].verdict == "would run"


def test_a_value_that_came_or_went_is_told_with_nothing_on_that_side() -> None:
    assert list(differing("train", {"a": 1, "b": 2}, {"b": 2, "c": 3})) == [
        Change("parameter", "train.c", None, 3),
        Change("parameter", "train.a", 1, None),
    ]


def test_what_waits_for_another_stage_cannot_know_the_cache_yet() -> None:
    changed = (Change("parameter", "train.epochs", 3, 5),)
    found = [Explanation("a", "a", changed, (), True), Explanation("b", "b", changed, (), True)]
    first, second = follow(found, {"a": (), "b": ("a",)})
    assert (first.verdict, first.in_run_cache) == ("would be restored", True)
    assert (second.verdict, second.in_run_cache, second.upstream) == ("would run", None, ("a",))


LONG = "SELECT a,\n  b,\n  c\nFROM things\nWHERE a IS NOT NULL AND b > 10 AND c < 1000000 AND true"


@pytest.mark.parametrize(
    ("explained", "expected"),
    [
        (Explanation("a@t", "a"), "a@t is up to date"),
        (
            Explanation("a@t", "a", (Change("parameter", "a.x", 1, None),), (), False),
            "a@t would run; the run-cache has no such run|parameter a.x: 1 -> nothing",
        ),
        (
            Explanation("a@t", "a", (Change("output", "o", note="deleted"),), (), True),
            "a@t would be restored from the run-cache: it ran on these inputs before"
            "|output o (deleted)",
        ),
        (
            Explanation("a@t", "a", (Change("command", "a@t", "x", "y"),), ("b@t", "c@t")),
            "a@t would run|command a@t: x -> y|and b@t and c@t would run before it",
        ),
        (
            Explanation(
                "a@t", "a", (Change("parameter", "q", LONG, LONG.replace("> 10", "> 20")),)
            ),
            "a@t would run|parameter q: …WHERE a IS NOT NULL AND b > 10 AND c < 1000000 AND true…"
            " -> …WHERE a IS NOT NULL AND b > 20 AND c < 1000000 AND true…",
        ),
    ],
)
def test_an_explanation_is_put_into_words(explained: Explanation, expected: str) -> None:
    assert "|".join(command.lines(explained)) == expected


def test_a_name_means_a_stage_with_all_of_its_branches() -> None:
    names = ["quantize@t-a", "quantize@t-b", "train@t"]
    found = [Explanation(name, name) for name in names]
    assert [each.stage for each in command.choose(found, "quantize")] == names[:2]
    assert [each.stage for each in command.choose(found, "quantize@t-b")] == names[1:2]
    assert command.choose(found, None) == found
    with pytest.raises(ConfigError, match="no stage 'trian'; did you mean 'train'"):
        command.choose(found, "trian")
