"""What git says of a checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from slipway.runs.git import GitState, git_state


class TestGitState:
    @pytest.fixture
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        root = tmp_path / "repository"
        root.mkdir()
        _git(root, "init", "-q", "-b", "main")
        (root / "dvc.lock").write_text("a")
        (root / "train.py").write_text("a")
        _git(root, "add", ".")
        _git(root, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "first")
        return root

    def test_a_clean_checkout_is_its_commit(self, repository: Path) -> None:
        head = _git(repository, "rev-parse", "HEAD")

        assert git_state(repository) == GitState(commit=head)

    def test_a_changed_dvc_lock_alone_is_told_apart(self, repository: Path) -> None:
        (repository / "dvc.lock").write_text("b")

        state = git_state(repository)

        assert not state.dirty
        assert state.dvc_lock_changed
        assert state.changed == ()

    @pytest.mark.parametrize("name", ["train.py", "new file.py", "naïve.py"])
    def test_any_other_change_makes_it_dirty(self, repository: Path, name: str) -> None:
        (repository / name).write_text("b")

        state = git_state(repository)

        assert state.dirty
        assert state.changed == (name,)

    def test_a_moved_file_is_named_at_both_places(self, repository: Path) -> None:
        _git(repository, "mv", "train.py", "learn.py")

        assert git_state(repository).changed == ("learn.py", "train.py")

    def test_of_many_changes_the_first_are_named_and_all_counted(self, repository: Path) -> None:
        for i in range(60):
            (repository / f"{i:02}.txt").write_text("")

        state = git_state(repository)

        assert len(state.changed) == 50
        assert state.changed_count == 60

    def test_a_project_inside_a_repository_speaks_for_itself(self, repository: Path) -> None:
        project = repository / "project"
        project.mkdir()
        (project / "dvc.lock").write_text("b")
        (repository / "train.py").write_text("b")

        state = git_state(project)

        assert state.dvc_lock_changed
        assert state.changed == ()

    def test_a_checkout_without_a_commit_is_dirty(self, tmp_path: Path) -> None:
        state = git_state(tmp_path)

        assert state.commit is None
        assert state.dirty

    def test_a_hooks_variables_do_not_lead_to_another_repository(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head = _git(repository, "rev-parse", "HEAD")
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

        assert git_state(repository).commit == head

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("https://me:hunter2@host/acme/x.git", "https://host/acme/x.git"),
            ("https://host/x.git?token=hunter2", "https://host/x.git?token=***"),
            ("git@github.com:acme/x.git", "git@github.com:acme/x.git"),
            ("/home/me/x.git", "x.git"),
            ("file:///home/me/x.git", "x.git"),
        ],
    )
    def test_the_remote_is_named_without_credentials(
        self, repository: Path, url: str, told: str
    ) -> None:
        _git(repository, "remote", "add", "backup", "https://host/backup.git")
        _git(repository, "remote", "add", "origin", url)

        assert git_state(repository).remote == told


def _git(root: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "GIT_DIR"}
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
