"""What is so dear that several files share it."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ceph import Ceph
from tests.hosts import HostProcess, serve_one
from tests.prefect_server import PrefectServer
from tests.project import make_project, pin, stage
from tests.sshd import Sshd


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose whole line `dvc repro` has built: to be read and copied, never changed.

    Processes that test side by side share it: their temporary folders lie beside each other.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    root, whole = folder / "built", folder / "built.whole"
    with (folder / "built.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            make_project(root)
            pin(root)
            done = stage(root)
            assert done.returncode == 0, done.stdout + done.stderr
            whole.touch()
    return root


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One server for all runs that are not about the API that a run starts for itself.

    That one costs each run 5 s of computing.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "SLIPWAY"))}
    server = PrefectServer(tmp_path_factory.mktemp("prefect-server"), kept)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A host with one version, for tests that leave what it serves alone."""
    yield from serve_one(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """An S3 server; who stops it starts it again."""
    ceph = Ceph()
    yield ceph
    ceph.stop()


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """An SSH server; who stops it starts it again."""
    sshd = Sshd()
    yield sshd
    sshd.stop()
