"""Two machines that share a git repository and DVC's remote, and nothing else."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.dag import remote as remotes
from flows.dag import stages
from flows.dag.opening import opened
from slipway.remotes import load_remote_config
from tests.ceph import Ceph
from tests.flow_project import PIPELINE, REPOSITORY, Project
from tests.prefect_server import PrefectServer
from tests.sshd import Sshd
from tests.support.pace import limit

pytestmark = [
    pytest.mark.slow,  # runs, on two machines
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),  # DVC's
]

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "gc.auto=0")


@dataclass
class Elsewhere:
    """A place for DVC's objects, and how to reach it."""

    url: str
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


@pytest.fixture(params=["ssh", "s3"])
def server(request: pytest.FixtureRequest) -> Elsewhere:
    own = uuid.uuid4().hex[:8]  # the servers are there for all tests
    if request.param == "ssh":
        sshd: Sshd = request.getfixturevalue("sshd")
        key = str(sshd.home / ".ssh/id_ed25519")
        return Elsewhere(f"{sshd.url}/dvc-{own}", dict(sshd.environment), {"keyfile": key})
    ceph: Ceph = request.getfixturevalue("ceph")
    ceph.bucket(f"dvc-{own}")
    keys = {key: value for key, value in ceph.environment.items() if key != "AWS_ENDPOINT_URL"}
    return Elsewhere(f"s3://dvc-{own}/slipway", keys, {"endpointurl": ceph.url})


class Machine(Project):
    """A project whose runs ask a server that is there, with one more environment."""

    def __init__(self, root: Path, server: PrefectServer, environment: dict[str, str]) -> None:
        super().__init__(root)
        self.api = server.api
        self.more = environment

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**getattr(self, "more", {}), **more)

    def build(self, code: int = 0, **environment: str) -> dict[str, Any]:
        """Run it, without a fleet; return the record."""
        ended = self.deliver("--build-only", **environment)
        assert ended.code == code, ended.err
        self.said = ended.err
        return self.run_json()

    def share(self, elsewhere: Elsewhere) -> None:
        """Have DVC's default remote be there."""
        self.dvc("remote", "add", "--default", "elsewhere", elsewhere.url)
        for name, value in elsewhere.options.items():
            self.dvc("remote", "modify", "elsewhere", name, value)

    def verify(self, *options: str, code: int = 0, both: bool = False) -> str:
        """Look through everything, the remote too; return the result, or else the talk."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.commands.verify", "--remote", *options],
            cwd=self.root, env=self.environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr if both else done.stdout or done.stderr

    def commit(self) -> None:
        for command in (("add", "."), ("commit", "-q", "-m", "Work")):
            subprocess.run([*GIT, *command], cwd=self.root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer) -> Machine:
    """One that has built and pushed to `../remote`, a folder."""
    folder = tmp_path_factory.mktemp("built")
    machine = Machine(folder / "first", prefect_server, {})
    machine.share(Elsewhere(str(folder / "remote")))
    machine.commit()
    machine.build()
    machine.commit()
    return machine


@pytest.fixture
def alone(tmp_path: Path, prefect_server: PrefectServer) -> Machine:
    """One whose remote is to be the folder `../remote`."""
    machine = Machine(tmp_path / "first", prefect_server, {})
    machine.share(Elsewhere(str(tmp_path / "remote")))
    machine.commit()
    return machine


def clone(machine: Machine, to: Path) -> Machine:
    """Have another machine: a clone of the last commit, with a cache and a state of its own."""
    subprocess.run([*GIT, "clone", "-q", str(machine.root), str(to)], check=True)
    other: Machine = object.__new__(Machine)
    other.root, other.api, other.more = to, machine.api, machine.more
    return other


def states(run: dict[str, Any]) -> dict[str, str]:
    """Say of each stage if it ran, was restored from a cache, or had nothing to do."""
    return {
        each["stage"].partition("@")[0]: "restored" if each.get("from_cache") else each["state"]
        for each in run["stages"]
    }


def test_a_second_machine_has_nothing_to_do_with_the_commit_and_the_remote(
    server: Elsewhere, prefect_server: PrefectServer, tmp_path: Path
):
    first = Machine(tmp_path / "first", prefect_server, server.environment)
    first.share(server)
    first.commit()
    made = first.build()
    assert set(states(made).values()) == {"ran"}
    assert "pushed to" in made["remote"]
    first.commit()
    second = clone(first, tmp_path / "second")
    found = second.build()
    assert set(states(found).values()) == {"skipped"}, second.said
    assert found["version"] == made["version"]
    assert "fetched from" in second.said
    assert found["remote"].endswith(" had everything")
    assert "WARNING" not in second.said
    weights = f"models/{PIPELINE}/weights/text.txt"
    assert (second.root / weights).read_bytes() == (first.root / weights).read_bytes()


def test_a_second_machine_takes_finished_stages_of_a_run_that_no_commit_knows(
    alone: Machine, tmp_path: Path
):
    alone.knobs({"export": {"fails": "this machine is broken"}})
    broken = alone.build(code=1)
    assert states(broken)["train"] == "ran"
    second = clone(alone, tmp_path / "second")
    second.knobs({"train": {"fails": "it was trained already"}, "ingest": {"fails": "so was this"}})
    found = second.build()
    done = states(found)
    assert (done["ingest"], done["train"]) == ("restored", "restored")
    assert {done[name] for name in ("export", "prove", "payload")} == {"ran"}


def test_what_is_damaged_in_the_remote_is_not_believed_and_made_again(
    built: Machine, tmp_path: Path
):
    remote = tmp_path / "remote"
    shutil.copytree(built.root.parent / "remote", remote)
    for path in (path for path in (remote / "files").rglob("*") if path.is_file()):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    second = clone(built, tmp_path / "second")
    second.dvc("remote", "modify", "--local", "elsewhere", "url", str(remote))
    found = second.build()
    assert set(states(found).values()) == {"ran"}
    assert found["version"] == built.run_json()["version"]
    assert "up to date" in second.dvc("status").out


def test_damage_in_the_remote_is_found_and_mended_from_this_machines_cache(
    server: Elsewhere,
    prefect_server: PrefectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)  # as this test looks there, too
    first = Machine(tmp_path / "first", prefect_server, server.environment)
    first.share(server)
    first.build()
    assert "no damage" in first.verify()
    with opened(first.root) as repo:
        odb = repo.cloud.get_remote_odb()
        names = sorted(odb.all())
        gone = "ab" + "0" * 30  # of another machine: it is nowhere here
        odb.fs.makedirs(odb.fs.parent(odb.oid_to_path(gone)), exist_ok=True)
        for name in [*names[:3], gone]:
            odb.fs.pipe_file(odb.oid_to_path(name), b"damaged")
        damaged = {*names[:3], gone}
        runs = repo.cloud.get_remote_odb(None, hash_name="md5-dos2unix")
        entry = runs.fs.join(runs.path, *next(iter(remotes.run_entries(runs))))
        runs.fs.pipe_file(entry, b"cmd: other\n")
    said = first.verify("--json", code=1)
    found = [each for each in json.loads(said)["damaged"] if each["kind"] == "remote"]
    assert len(found) == len(damaged) + 1
    first.verify("--heal")
    with opened(first.root) as repo:
        odb = repo.cloud.get_remote_odb()
        for name in damaged - {gone}:
            assert hashlib.md5(odb.fs.cat_file(odb.oid_to_path(name))).hexdigest() in name
        assert not odb.fs.exists(odb.oid_to_path(gone)), "as good as never pushed"
    assert "no damage" in first.verify()


def test_a_remote_that_cannot_be_looked_through_is_told(alone: Machine):
    assert "is empty" in alone.verify(both=True)
    alone.dvc("remote", "modify", "elsewhere", "url", "ssh://127.0.0.1:9/dvc")
    assert "ssh://127.0.0.1:9/dvc cannot be read: " in alone.verify(code=1)
    alone.dvc("config", "--unset", "core.remote")
    assert "DVC has no default remote: dvc remote add --default NAME URL" in alone.verify(code=1)


def test_a_remote_that_is_away_costs_no_run_and_gets_all_of_it_later(
    alone: Machine, tmp_path: Path
):
    remote = tmp_path / "remote"
    remote.write_text("no folder: nothing can be read or written below it\n")
    run = alone.build()
    assert set(states(run).values()) == {"ran"}
    assert run["remote"].startswith("not pushed to ")
    assert alone.said.count("the run goes on with what is here") == 1
    remote.unlink()
    again = alone.build()
    assert set(states(again).values()) == {"skipped"}
    assert "pushed to" in again["remote"]
    alone.commit()
    second = clone(alone, tmp_path / "second")
    assert set(states(second.build()).values()) == {"skipped"}


def test_a_remote_that_never_answers_is_given_up(alone: Machine, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(remotes, "ANSWERS_S", 0.5)
    found = remotes.Remote.find(alone.root, said.append)
    assert found is not None
    monkeypatch.setattr(found, "_runs_odb", lambda repo: time.sleep(30))
    began = time.monotonic()
    assert found.bring_in([]) is False
    assert time.monotonic() - began < limit(10)
    assert said[0].endswith("cannot fetch: no answer within 0 s; the run goes on with what is here")


def test_a_push_that_takes_its_time_is_told(alone: Machine, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(remotes, "SAY_AFTER_S", 0.05)
    found = remotes.Remote.find(alone.root, said.append)
    assert found is not None
    monkeypatch.setattr(found, "_push", lambda *_, **__: time.sleep(1))
    found.finish()
    assert said[0] == f"pushing to {found.url} (Ctrl-C ends it; the next run goes on)"


def test_nothing_is_pushed_where_the_project_says_so(alone: Machine, tmp_path: Path):
    (alone.root / "configs/remote.yaml").write_text("format: 1\npush: false\n")
    assert alone.build().get("remote") is None
    assert not (tmp_path / "remote").exists()


def test_an_output_that_somebody_changed_is_not_written_over(
    built: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    second = clone(built, tmp_path / "second")
    monkeypatch.chdir(second.root)  # as runs are
    mine = second.root / f"models/{PIPELINE}/evaluation"
    mine.mkdir(parents=True)
    (mine / "mine.txt").write_text("an hour's work")
    found = remotes.Remote.find(second.root, print)
    assert found is not None
    found.bring_in(stages.read_stages(second.root, PIPELINE))
    assert (mine / "mine.txt").read_text() == "an hour's work"
    assert (second.root / f"models/{PIPELINE}/weights/text.txt").exists()


def test_the_documented_commands_do_what_they_say(tmp_path: Path):
    text = (REPOSITORY / "docs/remote.md").read_text("utf-8")
    lines = re.findall(r"^    ((?:dvc|git) .*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(lines) == 6
    project = Project(tmp_path / "project")
    for line in lines:
        done = subprocess.run(
            ["bash", "-ec", line.replace("git commit", shlex.join([*GIT, "commit"]))],
            cwd=project.root, env=project.environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"
    config = (project.root / ".dvc/config").read_text()
    assert "url = s3://bucket/dvc" in config
    assert "verify = true" in config
    yaml_part = re.findall(r"^    (format: 1\n(?:    .*\n)+)", text, re.MULTILINE)[0]
    (project.root / "configs/remote.yaml").write_text(textwrap.dedent(f"    {yaml_part}"))
    assert load_remote_config(project.root).git == "origin"
