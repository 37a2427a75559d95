"""dvc.yaml says what the stages really do: what they take, import, open and write."""

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import source_from_cache
from pathlib import Path

import pytest

from slipway.runs.attempt import RUN, noted_by_runner
from tasks.__main__ import check_signature, gathered, keyword
from tasks.models import FAMILIES
from tests.project import REPOSITORY, environment, run, stage

OFFERED = {"reports", "checkpoints", "precision", "family"}
"""What the runner offers beside declared paths."""

WHOLE = (
    "tasks/leaks",
    "tasks/reading",
    "tasks/train",
    "tasks/validate",
    "tasks/models/network",
    "tasks/models/trees",
    "src/slipway/problem",
    "src/slipway/statistics",
)
"""Packages that are a dependency as a whole."""

LATER = {
    "train": ["tasks.train.worker"],  # its ranks are processes of their own
}
"""What a stage imports only as it runs, beside the family that it is about."""

OF_A_FAMILY = ("train", "export")
"""Stages that are about one family, by its name in their address."""

RUNNER = {
    "src/slipway/config.py",
    "src/slipway/full_disk.py",
    "src/slipway/gpu/devices.py",
    "src/slipway/gpu/slots.py",
    "src/slipway/hours.py",
    "src/slipway/precision.py",
    "src/slipway/processes",
    "src/slipway/processes/priority.py",
    "src/slipway/provider.py",
    "src/slipway/remotes.py",
    "src/slipway/runs",
    "src/slipway/sections.py",
    "src/slipway/settings/answers.py",
    "src/slipway/settings/quality.py",
    "src/slipway/settings/target.py",
    "src/slipway/source.py",
    "src/slipway/state.py",
    "src/slipway/wording.py",
    "tasks/__main__.py",
    "tasks/candidates.py",
    "tasks/checkpoints.py",
    "tasks/installed.py",
    "tasks/models/__init__.py",
    "tasks/names.py",
    "tasks/progress.py",
    "tasks/reading/__init__.py",
    "tasks/reading/sql.py",
    "tasks/reading/types.py",
    "tasks/reasons.py",
    "tasks/results.py",
    "tasks/sums.py",
    "tasks/timeouts.py",
}
"""It binds, checks, names, records, waits for a GPU, and decides no byte of an output."""

READ_BY_RUNNER = {f"src/slipway/settings/{name}.py" for name in ("families", "kinds", "split")}
"""What it reads for every stage as a part of the config; a stage that asks what is in there
declares it."""


@cache
def addresses() -> list[str]:
    from dvc.repo import Repo

    return sorted(s.addressing for s in Repo(REPOSITORY).index.stages)


@cache
def declared(address: str) -> tuple[list[Path], list[Path]]:
    from dvc.repo import Repo

    loaded = Repo(REPOSITORY).stage.load_one(path="dvc.yaml", name=address)
    deps, outs = ([Path(x.def_path) for x in part] for part in (loaded.deps, loaded.outs))
    return deps, outs


@pytest.mark.parametrize("address", addresses())
def test_a_stage_takes_what_dvc_yaml_declares(address: str):
    name, _, rest = address.partition("@")
    precision = rest.partition("-")[2] or None
    deps, outs = declared(address)
    paths = [p for p in [*deps, *outs] if p.parts[0] in ("data", "models", "configs")]
    run_ = importlib.import_module(f"tasks.{name}").run
    bound = {keyword(p, precision): p for p in paths}
    bound.pop("", None)
    offered = OFFERED & set(inspect.signature(run_).parameters)
    check_signature(run_, address, offered | gathered(run_, bound).keys())


@pytest.mark.parametrize("address", addresses())
def test_a_stage_declares_the_modules_that_it_imports(address: str):
    name, _, rest = address.partition("@")
    family = rest.rpartition("-")[2] if name in OF_A_FAMILY else None
    deps, _ = declared(address)
    code = {p.as_posix() for p in deps if p.parts[0] in ("tasks", "src")}
    assert code == imported_by(name, family)


@cache
def imported_by(stage_name: str, family: str | None) -> set[str]:
    """Import a stage and its family alone, and list the project's modules that came along."""
    modules = [f"tasks.{stage_name}", *([FAMILIES[family]] if family else [])]
    modules += LATER.get(stage_name, [])
    script = (
        f"import sys, {', '.join(modules)}\n"
        "import json; files = [getattr(m, '__file__', None) for m in list(sys.modules.values())]\n"
        "print(json.dumps([f for f in files if f]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY, env=environment(), text=True, capture_output=True, check=True,
    )  # fmt: skip
    files = {Path(file) for file in json.loads(done.stdout)}
    inside = {
        f.relative_to(REPOSITORY)
        for f in files
        if f.is_relative_to(REPOSITORY / "src") or f.is_relative_to(REPOSITORY / "tasks")
    }
    own = {f.as_posix() for f in inside if not is_bare(REPOSITORY / f)}
    return {collapse(name) for name in own - RUNNER}


def collapse(name: str) -> str:
    """Name a package by its folder where dvc.yaml does."""
    return next((folder for folder in WHOLE if name.startswith(f"{folder}/")), name)


def is_bare(path: Path) -> bool:
    """Tell a package's __init__ that holds nothing which could change an output."""
    text = re.sub(r'""".*?"""|^#.*?$', "", path.read_text("utf-8"), flags=re.S | re.M)
    harmless = r'__version__ = .*|import os|os\.environ\["ORT_DISABLE_TELEMETRY"\] = "1"'
    return path.name == "__init__.py" and not re.sub(harmless, "", text).strip()


@pytest.mark.slow
def test_a_second_run_changes_nothing(built: Path):
    lock = (built / "dvc.lock").read_text()
    done = stage(built)
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert (built / "dvc.lock").read_text() == lock


@pytest.fixture(scope="module")
def again(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every stage once more, after its outputs were removed, and under strace if there is."""
    root = tmp_path_factory.mktemp("again") / "project"
    shutil.copytree(built, root, symlinks=True)
    for address in in_order():
        _, outs = declared(address)
        for out in outs:
            shutil.rmtree(root / out)
        name, _, rest = address.partition("@")
        command = [sys.executable, "-m", "tasks", name, *rest.split("-", 1)]
        traced = [*STRACE, f"{address}.strace"] if STRACE else []
        done = run(root, "env", f"{RUN}={OF_A_FLOW}", *traced, *command)
        assert done.returncode == 0, done.stderr
    return root


OF_A_FLOW = "20261130-100000-aaaa"
"""The run that the stages are told they belong to, so that what they note of it is seen too."""

STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=openat,open,creat", "-o"]
STRACE = STRACE if shutil.which("strace") else []


def in_order() -> list[str]:
    """List the stages so that each comes after those it depends on."""
    stages = [
        *("ingest", "validate", "golden", "prepare", "train", "export", "quantize"),
        *("evaluate", "prove", "payload"),
    ]
    return sorted(addresses(), key=lambda address: stages.index(address.partition("@")[0]))


@pytest.mark.slow
def test_every_stage_run_again_gives_the_same_bytes(built: Path, again: Path):
    for address in addresses():
        for out in declared(address)[1]:
            assert (again / out / "SHA256SUMS").read_text() == (
                built / out / "SHA256SUMS"
            ).read_text(), address


@pytest.mark.slow
def test_every_stage_notes_what_it_took_beside_the_run_of_its_flow(again: Path):
    folder = again / ".slipway/runs" / OF_A_FLOW
    for address in addresses():
        noted = noted_by_runner(folder, address)
        assert noted is not None, address
        assert (noted.state, noted.exit) == ("ran", "exit code 0")
        assert noted.usage.cpu_s, address
        assert noted.outs.keys() == {out.as_posix() for out in declared(address)[1]}


@pytest.mark.slow
@pytest.mark.skipif(not STRACE, reason="needs strace: apt-get install strace")
def test_a_stage_opens_nothing_of_the_project_that_it_does_not_declare(again: Path):
    problems = []
    for address in addresses():
        deps, outs = declared(address)
        allowed = {p.as_posix() for p in [*deps, *outs]} | RUNNER | READ_BY_RUNNER
        problems += [
            f"{address} opens {path}"
            for path in sorted(opened(again / f"{address}.strace", again))
            if not any(path == a or path.startswith(f"{a}/") for a in allowed)
        ]
    assert problems == []


@pytest.mark.slow
def test_one_training_parameter_reruns_training_and_what_follows(built: Path, tmp_path: Path):
    changed = tmp_path / "changed"
    shutil.copytree(built, changed, symlinks=True)
    path = changed / "configs/flights.yaml"
    path.write_text(path.read_text().replace("weight_decay: 0.05", "weight_decay: 0.06"))
    status = run(changed, sys.executable, "-m", "dvc", "status", "--json")
    stale = set(json.loads(status.stdout))
    assert stale == {"train@flights-network"}
    done = stage(changed)
    assert done.returncode == 0, done.stderr
    ran = set(re.findall(r"Running stage '(.*)@(.*)'", done.stdout))
    assert ran == {
        ("train", "flights-network"),
        ("export", "flights-network"),
        ("quantize", "flights-int8-dynamic"),
        ("quantize", "flights-int8-static"),
        *((name, "flights") for name in ("evaluate", "prove", "payload")),
    }


@pytest.mark.parametrize("family", ["trees", "network"])
def test_an_edit_of_a_family_concerns_no_other(built: Path, tmp_path: Path, family: str):
    edited = tmp_path / "edited"
    shutil.copytree(built, edited, symlinks=True)
    with (edited / "tasks/models" / family / "graph.py").open("a") as file:
        file.write("# edited\n")
    status = run(edited, sys.executable, "-m", "dvc", "status", "--json")
    stale = set(json.loads(status.stdout))
    assert stale == {f"{stage}@flights-{family}" for stage in OF_A_FAMILY}


IGNORED = re.compile(
    r"^(\.git/|.*\.strace$|\.dvc|\.slipway/(checkpoints|reports|runs)/|dvc\.(yaml|lock)|\.git$|\.gitignore"
    r"|configs/[a-z]+\.yaml$)|__pycache__|(^|/)__init__\.py$|^$"
)
"""Git and DVC read by the runner, the config whose section is a param, checkpoints, reports, and
what is noted for the record of the run."""


def opened(log: Path, root: Path) -> set[str]:
    """List the project's files that were really opened, as strace saw it."""
    found = set()
    for line in log.read_text(errors="replace").splitlines():
        match = re.search(
            r'(?:openat|open|creat)\((?:AT_FDCWD, )?"([^"]+)", ([A-Z_|]+).*= \d+', line
        )
        if match and "O_DIRECTORY" not in match[2]:
            path = (root / match[1]).resolve()
            if path.is_relative_to(root) and not path.is_dir():
                name = path.relative_to(root).as_posix()
                if path.suffix == ".pyc":  # compiled before: the source is not opened again
                    name = Path(source_from_cache(path)).relative_to(root).as_posix()
                if not IGNORED.search(name):
                    found.add(name)
    return found
