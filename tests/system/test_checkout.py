"""A run's own worktree, and how its results come back: real git, real DVC, no Prefect server."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.checkout import results, worktrees
from flows.checkout.merge import Conflict, merge
from flows.checkout.worktrees import RESULTS, Worktree
from slipway.errors import SlipwayError
from tests.flow_project import PIPELINE, Project
from tests.support.pace import limit


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with one commit, on the branch main."""
    project = Project(tmp_path / "a project für uns")
    git(project.root, "add", ".")
    git(project.root, "commit", "-qm", "Start")
    git(project.root, "branch", "-M", "main")
    return project


def git(root: Path, *arguments: str) -> str:
    own = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *own, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def pin(tree: Worktree, stage: str, digest: str) -> None:
    """Let a run write what it made of a stage."""
    path = tree.root / "dvc.lock"
    text = path.read_text() if path.exists() else "schema: '2.0'\nstages:\n"
    kept = [e for e in text.split("\n  ")[1:] if not e.startswith(f"{stage}@")]
    entry = f"{stage}@{PIPELINE}:\n    cmd: c\n    outs:\n    - path: {stage}\n      md5: {digest}"
    path.write_text(
        "\n  ".join(["schema: '2.0'\nstages:", *(e.rstrip() for e in kept), entry]) + "\n"
    )


def test_a_run_starts_from_the_commit_and_not_from_what_somebody_edits(
    project: Project, said: list[str]
) -> None:
    project.touch("train", "half-finished")
    tree = worktrees.add(project.root, said.append)
    assert (tree.root / "inputs/train.txt").read_text() == "train"
    assert (project.root / "inputs/train.txt").read_text() == "half-finished"
    assert (tree.root / ".slipway").resolve() == project.root / ".slipway"
    assert git(tree.root, "status", "--porcelain") == ""
    assert worktrees.find(tree.root) == tree
    assert worktrees.find(project.root) is None


def test_what_a_run_makes_comes_back_as_a_commit_and_through_the_shared_cache(
    project: Project, said: list[str]
) -> None:
    tree = worktrees.add(project.root, said.append)
    (tree.root / f"data/{PIPELINE}").mkdir(parents=True)
    (tree.root / f"data/{PIPELINE}/sources.lock").write_text('{"a": {"bytes": 1}}\n')
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", f"ingest@{PIPELINE}"],
        cwd=tree.root, env=project.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tree.root / "notes.txt").write_text("not pinned")
    assert results.commit(tree, "Run 1: tiny", ["fp32 auc 0.7 pass"])
    assert git(tree.root, "show", "--name-only", "--format=%an", "HEAD").split() == [
        "slipway", f"data/{PIPELINE}/sources.lock", "dvc.lock",
    ]  # fmt: skip
    assert not results.commit(tree, "Run 1: tiny", []), "nothing more is pinned"

    results.deliver(tree, said.append)
    worktrees.remove(tree)
    worktrees.drop_branch(tree)
    assert not tree.top.exists()
    assert (
        git(project.root, "branch", "--list", "slipway/*", "--format=%(refname:short)") == RESULTS
    )
    git(project.root, "merge", "-q", "--ff-only", RESULTS)
    back = project.dvc("checkout", f"ingest@{PIPELINE}")
    assert back.code == 0, back.err
    assert (project.root / f"data/{PIPELINE}/raw/text.txt").read_text() == "ingest"


def test_a_rejected_run_keeps_its_branch_and_moves_nothing_else(
    project: Project, said: list[str]
) -> None:
    tree = worktrees.add(project.root, said.append)
    pin(tree, "train", "1")
    assert results.commit(tree, "Run 1", [])
    worktrees.remove(tree)
    worktrees.drop_branch(tree)
    branches = git(project.root, "branch", "--list", "slipway/*", "--format=%(refname:short)")
    assert branches == tree.branch


def test_a_run_that_made_nothing_leaves_no_branch(project: Project, said: list[str]) -> None:
    tree = worktrees.add(project.root, said.append)
    results.deliver(tree, said.append)
    worktrees.remove(tree)
    worktrees.drop_branch(tree)
    assert git(project.root, "branch", "--list", "slipway/*") == ""


def test_two_runs_at_once_both_keep_their_results(project: Project, said: list[str]) -> None:
    one, other = (worktrees.add(project.root, said.append) for _ in range(2))
    for tree, stage in ((one, "train"), (other, "export")):
        pin(tree, stage, "1")
        results.commit(tree, f"Run {stage}", [])
    results.deliver(one, said.append)
    results.deliver(other, said.append)
    held = git(project.root, "show", f"{RESULTS}:dvc.lock")
    assert f"train@{PIPELINE}" in held
    assert f"export@{PIPELINE}" in held


def test_the_next_run_begins_with_what_was_released_and_what_people_committed(
    project: Project, said: list[str]
) -> None:
    first = worktrees.add(project.root, said.append)
    pin(first, "train", "1")
    results.commit(first, "Run 1", [])
    results.deliver(first, said.append)
    project.touch("evaluate", "new")
    git(project.root, "commit", "-qam", "Evaluate anew")
    second = worktrees.add(project.root, said.append)
    assert f"train@{PIPELINE}" in (second.root / "dvc.lock").read_text()
    assert (second.root / "inputs/evaluate.txt").read_text() == "new"


@pytest.fixture
def machines(project: Project, tmp_path: Path) -> tuple[Project, Path, Path]:
    """Two machines of one team, and what both push to."""
    (project.root / "configs/remote.yaml").write_text("format: 1\ngit: origin\n")
    git(project.root, "add", ".")
    git(project.root, "commit", "-qm", "Share results")
    shared, other = tmp_path / "shared.git", tmp_path / "other"
    subprocess.run(["git", "clone", "-q", "--bare", project.root, shared], check=True)
    git(project.root, "remote", "add", "origin", str(shared))
    git(project.root, "fetch", "-q", "origin")
    git(project.root, "branch", "-q", "--set-upstream-to", "origin/main")
    subprocess.run(["git", "clone", "-q", shared, other], check=True)
    return project, other, shared


def released(tree: Worktree, stage: str, said: list[str]) -> None:
    """Let a run pin something and end as after its release."""
    pin(tree, stage, "1")
    assert results.commit(tree, f"Run {stage}", [])
    results.deliver(tree, said.append)
    results.share(tree, said.append)
    worktrees.remove(tree)


def test_what_one_machine_released_another_one_starts_from(
    machines: tuple[Project, Path, Path], said: list[str]
) -> None:
    project, other, shared = machines
    released(worktrees.add(project.root, said.append), "train", said)
    assert "train@" in git(shared, "show", f"{RESULTS}:dvc.lock")
    there = worktrees.add(other, said.append)
    assert "train@" in (there.root / "dvc.lock").read_text()
    assert git(other, "branch", "--list", "slipway/run-*", "--format=%(refname:short)")


def test_two_machines_that_release_at_once_both_keep_their_results(
    machines: tuple[Project, Path, Path], said: list[str]
) -> None:
    project, other, shared = machines
    one = worktrees.add(project.root, said.append)
    two = worktrees.add(other, said.append)
    released(one, "train", said)
    released(two, "export", said)
    lock = git(shared, "show", f"{RESULTS}:dvc.lock")
    assert ("train@" in lock, "export@" in lock) == (True, True)
    assert not any("could not" in line for line in said)
    assert git(shared, "branch", "--list", "slipway/run-*") == ""


def test_a_git_remote_that_is_away_is_said_and_told_later(
    machines: tuple[Project, Path, Path], said: list[str], tmp_path: Path
) -> None:
    project, _, shared = machines
    tree = worktrees.add(project.root, said.append)
    away = shared.rename(tmp_path / "away.git")
    released(tree, "train", said)
    (line,) = (line for line in said if "could not be pushed to origin" in line)
    assert line.endswith("the next run tries again")
    away.rename(shared)
    released(worktrees.add(project.root, said.append), "export", said)
    lock = git(shared, "show", f"{RESULTS}:dvc.lock")
    assert ("train@" in lock, "export@" in lock) == (True, True)


def test_what_only_a_person_can_merge_stops_the_run_and_leaves_nothing(
    project: Project, said: list[str]
) -> None:
    first = worktrees.add(project.root, said.append)
    (first.root / "inputs/train.txt").write_text("by the run")
    git(first.root, "commit", "-qam", "Not what a run should do")
    results.deliver(first, said.append)
    project.touch("train", "by somebody")
    git(project.root, "commit", "-qam", "Train anew")
    with pytest.raises(Conflict, match=r"both changed inputs/train\.txt: merge them by hand"):
        worktrees.add(project.root, said.append)
    assert len(list((project.root / ".slipway/worktrees").glob("*.json"))) == 1
    assert git(project.root, "branch", "--list", "slipway/run-*", "--format=%(refname:short)") == (
        first.branch
    )


def test_the_branch_of_results_is_refused_where_somebody_works_in_it(
    project: Project, said: list[str]
) -> None:
    git(project.root, "switch", "-qc", RESULTS)
    with pytest.raises(SlipwayError, match=r"is checked out in .*: switch to another branch"):
        worktrees.add(project.root, said.append, follows="main")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: git(root, "checkout", "-q", "--detach"), "on no branch"),
        (lambda root: (root / ".git").rename(root / "git"), "git init && git add"),
        (lambda root: git(root, "switch", "-q", "--orphan", "empty"), "no branch empty"),
    ],
)
def test_what_no_run_can_start_from_is_refused_in_words(
    project: Project, said: list[str], break_it: Callable[[Path], object], message: str
) -> None:
    break_it(project.root)
    with pytest.raises(SlipwayError, match=message):
        worktrees.add(project.root, said.append)
    assert not list(project.root.glob(".slipway/worktrees/*"))


def test_a_run_takes_the_newer_of_what_is_here_and_upstream(
    project: Project, said: list[str], tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(project.root), "upstream.git")
    git(project.root, "remote", "add", "origin", str(tmp_path / "upstream.git"))
    git(project.root, "fetch", "-q", "origin")
    git(project.root, "branch", "-q", "--set-upstream-to=origin/main", "main")
    git(tmp_path, "clone", "-q", str(tmp_path / "upstream.git"), "colleague")
    (tmp_path / "colleague/inputs/train.txt").write_text("by a colleague")
    git(tmp_path / "colleague", "commit", "-qam", "Train anew")
    git(tmp_path / "colleague", "push", "-q")
    tree = worktrees.add(project.root, said.append)
    assert (tree.root / "inputs/train.txt").read_text() == "by a colleague"

    (tmp_path / "upstream.git").rename(tmp_path / "away.git")
    project.touch("export", "here")
    git(project.root, "commit", "-qam", "Export anew")
    tree = worktrees.add(project.root, said.append)
    assert any("origin could not be fetched" in text for text in said)
    assert any("have gone apart" in text for text in said)
    assert (tree.root / "inputs/train.txt").read_text() == "by a colleague"


def with_upstream(project: Project, folder: Path) -> Path:
    """Give the project a remote, and return a colleague's clone of that."""
    git(folder, "clone", "-q", "--bare", str(project.root), "upstream.git")
    git(project.root, "remote", "add", "origin", str(folder / "upstream.git"))
    git(project.root, "fetch", "-q", "origin")
    git(project.root, "branch", "-q", "--set-upstream-to=origin/main", "main")
    git(folder, "clone", "-q", str(folder / "upstream.git"), "colleague")
    return folder / "colleague"


def test_a_branch_that_was_pushed_by_force_is_taken_and_what_was_here_stays(
    project: Project, said: list[str], tmp_path: Path
) -> None:
    colleague = with_upstream(project, tmp_path)
    before = git(project.root, "rev-parse", "main")
    (colleague / "inputs/train.txt").write_text("rewritten")
    git(colleague, "commit", "-qa", "--amend", "-m", "Start anew")
    git(colleague, "push", "-qf")
    tree = worktrees.add(project.root, said.append)
    assert (tree.root / "inputs/train.txt").read_text() == "rewritten"
    assert any("have gone apart: the run takes origin's" in text for text in said)
    assert git(project.root, "rev-parse", "main") == before


def test_a_branch_that_vanished_upstream_is_said_and_taken_as_it_was_known(
    project: Project, said: list[str], tmp_path: Path
) -> None:
    colleague = with_upstream(project, tmp_path)
    worktrees.add(project.root, said.append)
    assert said == []
    git(colleague, "push", "-q", "origin", "main:other")
    git(tmp_path / "upstream.git", "symbolic-ref", "HEAD", "refs/heads/other")
    git(colleague, "push", "-q", "--delete", "origin", "main")
    tree = worktrees.add(project.root, said.append)
    assert tree.base == git(project.root, "rev-parse", "main")
    (line,) = said
    assert "origin has no branch main any more" in line
    assert "--branch" in line


def test_only_old_worktrees_that_nothing_works_in_are_cleared_away(
    project: Project, said: list[str]
) -> None:
    young, old, used = (worktrees.add(project.root, said.append) for _ in range(3))
    for tree in (old, used):
        os.utime(tree.top.with_name(f"{tree.id}.json"), (0, 0))
    with subprocess.Popen(["sleep", "600"], cwd=used.root) as sleeper:
        try:
            worktrees.remove_old(project.root, said.append)
        finally:
            sleeper.kill()
    assert [tree.top.exists() for tree in (young, old, used)] == [True, False, True]


def test_people_merge_results_by_one_command(project: Project, said: list[str]) -> None:
    def merge_here() -> "subprocess.CompletedProcess[str]":
        env = project.environment() | {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "somebody",
            "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "somebody@example.org",
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "slipway.cli", "merge"],
            cwd=project.root, env=env, capture_output=True, text=True, timeout=limit(60),
        )  # fmt: skip

    git(project.root, "config", "user.name", "somebody")
    git(project.root, "config", "user.email", "somebody@example.org")
    nothing = merge_here()
    assert nothing.returncode == 2
    assert "nothing was released by a scheduled run yet" in nothing.stderr
    tree = worktrees.add(project.root, said.append)
    pin(tree, "train", "2")
    results.commit(tree, "Run 1", [])
    results.deliver(tree, said.append)
    (project.root / "dvc.lock").write_text((tree.root / "dvc.lock").read_text().replace("2", "3"))
    text = (project.root / "dvc.lock").read_text().replace("'3.0'", "'2.0'")
    (project.root / "dvc.lock").write_text(text)
    git(project.root, "add", "dvc.lock")
    git(project.root, "commit", "-qm", "Train at the desk")
    done = merge_here()
    assert done.returncode == 0, done.stderr
    assert f"both changed train@{PIPELINE}; that of main is kept" in done.stderr
    assert "md5: 3" in (project.root / "dvc.lock").read_text()
    assert git(project.root, "log", "-1", "--format=%an") == "somebody"
    assert "was merged before" in merge_here().stdout


def test_a_merge_of_nothing_new_changes_nothing(project: Project, said: list[str]) -> None:
    head = git(project.root, "rev-parse", "HEAD")
    merge(project.root, "main", "never", said.append)
    assert git(project.root, "rev-parse", "HEAD") == head
