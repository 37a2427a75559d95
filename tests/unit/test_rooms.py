"""The contracts that hold the rooms apart, tried on a copy of the code."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    for package in ("src/slipway", "tasks", "flows"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / Path(package).name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def lint(root: Path) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    command = (str(program), "--config", str(root / "pyproject.toml"), "--no-cache")
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def rooms() -> list[str]:
    """Name the packages whose every module must have a place."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [
        room
        for contract in contracts["contracts"]
        if contract.get("exhaustive")
        for room in contract["containers"]
    ]


def folder(copy: Path, room: str) -> Path:
    return copy / room.replace(".", "/")


def test_an_empty_module_without_a_place_is_named_in_every_room(copy: Path) -> None:
    strays = [folder(copy, room) / "stray.py" for room in rooms()]
    for stray in strays:
        stray.touch()
    try:
        code, said = lint(copy)
    finally:
        for stray in strays:
            stray.unlink()
    assert code == 1
    assert [room for room in rooms() if f"- {room}.stray" not in said] == []


def test_every_package_is_a_room(copy: Path) -> None:
    packages = {
        ".".join(path.parent.relative_to(copy).parts)
        for package in ("slipway", "tasks", "flows")
        for path in (copy / package).rglob("__init__.py")
    }
    assert packages - {*rooms()} == set()


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("stray.py", "", "slipway.host.stray"),
        ("wire/stray.py", "", "slipway.host.wire.stray"),
        ("answer/stray.py", "import slipway.host.wire.metadata\n", "slipway.host.answer.stray"),
        ("observe/stray.py", "import slipway.host.engine.job\n", "slipway.host.observe.stray"),
        ("wire/http/stray.py", "import slipway.host.wire.grpc.head\n", "slipway.host.wire.http"),
    ],
)
def test_a_module_out_of_place_is_named(copy: Path, module: str, text: str, complaint: str) -> None:
    stray = copy / "slipway/host" / module
    stray.write_text(text)
    try:
        code, said = lint(copy)
    finally:
        stray.unlink()
    assert (code, complaint in said) == (1, True), said


def test_the_code_is_where_it_belongs(copy: Path) -> None:
    assert lint(copy)[0] == 0
