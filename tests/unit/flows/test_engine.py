"""What the engine of a flow run can import: the run's worktree is to give it all that is ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands.engine import engine_environment
from flows.environment import PROJECT, WORKER

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["/checkout"], []),
        (["/checkout", "/checkout/src", "/libraries"], ["/libraries"]),
        (["", "/checkout-of-others", "/checkout/own"], ["/checkout-of-others", "/checkout/own"]),
    ],
)
def test_it_is_led_to_no_module_of_the_checkout(before: list[str], after: list[str]) -> None:
    env = {PROJECT: "/checkout", "PYTHONPATH": os.pathsep.join(before), "KEPT": "1"}
    found = engine_environment(env)
    assert found["PYTHONPATH"] == os.pathsep.join(after)
    assert found["KEPT"] == "1"


def test_without_a_worker_the_path_is_as_it_was() -> None:
    assert engine_environment({"PYTHONPATH": "/checkout"})["PYTHONPATH"] == "/checkout"


def test_the_engine_is_found_from_any_folder_and_finds_nothing_of_the_checkout(
    tmp_path: Path,
) -> None:
    (tmp_path / "prefect").mkdir()  # in Prefect's stead, it says what it could import
    (tmp_path / "prefect/__init__.py").touch()
    (tmp_path / "prefect/engine.py").write_text(
        "import importlib.util as i, os, sys\n"
        "print(os.getpid(), [n for n in ('flows', 'tasks', 'tests') if i.find_spec(n)])\n"
    )
    path = os.pathsep.join([str(REPOSITORY), str(tmp_path), str(REPOSITORY / "src")])
    kept = {name: text for name, text in os.environ.items() if name != WORKER}
    started = subprocess.Popen(
        [sys.executable, "-m", "flows.commands.engine"],
        cwd=REPOSITORY,
        env=kept | {"PYTHONPATH": path, PROJECT: str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = started.communicate()
    assert said.split(maxsplit=1) == [str(started.pid), "[]\n"], "the process that is bound"
