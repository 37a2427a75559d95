"""A flow run ends with the worker that started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.binding import worker_gone
from flows.environment import WORKER
from tests.support.processes import alive
from tests.support.waiting import wait_until

ENGINE = """
import time
from pathlib import Path
from flows.binding import end_with_worker
end_with_worker()
Path("bound").touch()
time.sleep(600)
"""

STARTS = f"""
import os, subprocess, sys
env = os.environ | {{"{WORKER}": sys.argv[1] or str(os.getpid())}}
engine = subprocess.Popen([sys.executable, "-c", {ENGINE!r}], env=env)
open("pid", "w").write(str(engine.pid))
sys.exit(engine.wait())
"""


def start_worker(folder: Path, worker: str = "") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", STARTS, worker],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_the_engine_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    worker = start_worker(tmp_path)
    wait_until((tmp_path / "bound").exists, "the engine is bound")
    engine = int((tmp_path / "pid").read_text())
    assert alive(engine)
    worker.kill()
    worker.wait()
    wait_until(lambda: not alive(engine), "the engine has ended")


def test_one_whose_worker_is_gone_already_ends_at_once(tmp_path: Path) -> None:
    worker = start_worker(tmp_path, "1")
    assert worker.wait(60) == 256 - signal.SIGTERM
    assert not (tmp_path / "bound").exists()


def test_a_run_that_no_worker_started_is_bound_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKER, raising=False)
    assert not worker_gone()
    monkeypatch.setenv(WORKER, str(os.getppid()))
    assert not worker_gone()
    monkeypatch.setenv(WORKER, "1" if os.getppid() != 1 else "2")
    assert worker_gone()
