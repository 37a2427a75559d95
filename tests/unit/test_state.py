import subprocess
from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.state import repository_state, settled, share_state


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *own, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a project in a folder of its own, a space and an umlaut on the way."""
    root = tmp_path / "ein Repository für uns"
    (root / "project").mkdir(parents=True)
    (root / "project/dvc.yaml").write_text("stages: {}")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "Start")
    return root


def test_a_project_outside_of_git_has_its_state_beside_its_files(tmp_path: Path) -> None:
    assert repository_state(tmp_path) == tmp_path / ".slipway"
    assert share_state(tmp_path) == tmp_path / ".slipway"
    assert not (tmp_path / ".slipway").exists()


def test_every_worktree_has_the_same_state(repository: Path, tmp_path: Path) -> None:
    ours = repository / "project/.slipway"
    git(repository, "worktree", "add", "-q", str(tmp_path / "other"))
    there = tmp_path / "other/project"
    assert repository_state(repository / "project") == ours
    assert repository_state(there) == ours
    assert share_state(there) == ours
    (there / ".slipway/keys").mkdir()
    assert (ours / "keys").is_dir()
    assert share_state(there) == ours, "and again"


def test_a_bare_repository_holds_its_state_itself(repository: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    git(bare, "worktree", "add", "-q", str(tmp_path / "other"))
    assert repository_state(tmp_path / "other/project") == bare / "project/.slipway"


def test_a_submodule_is_a_repository_of_its_own(repository: Path, tmp_path: Path) -> None:
    allow = ("-c", "protocol.file.allow=always")
    whole = tmp_path / "whole"
    whole.mkdir()
    git(whole, "init", "-q")
    git(whole, *allow, "submodule", "--quiet", "add", str(repository), "part")
    assert repository_state(whole / "part/project") == whole / "part/project/.slipway"


def test_a_worktree_with_a_state_of_its_own_is_refused_and_left_as_it_is(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "other"))
    own = tmp_path / "other/project/.slipway"
    (own / "keys").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"move this folder away \(mv \.slipway"):
        share_state(own.parent)
    assert (own / "keys").is_dir()
    assert not own.is_symlink()


def test_a_repository_that_was_moved_is_found_again(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "other"))
    there = tmp_path / "other/project"
    share_state(there)
    moved = repository.rename(tmp_path / "moved")
    git(moved, "worktree", "repair", str(tmp_path / "other"))
    assert share_state(there) == moved / "project/.slipway"
    assert (there / ".slipway").resolve() == moved / "project/.slipway"


def test_what_outlives_a_worktree_does_not_lead_through_it(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "other"))
    there = tmp_path / "other/project"
    share_state(there)
    ours = repository / "project/.slipway"
    assert settled(there / ".slipway/store") == ours / "store"
    assert settled(ours / "store") == ours / "store"
    assert settled(there / "data/flights") == there / "data/flights"
