"""A PostgreSQL cluster of one's own, as a team's Prefect server keeps its state in."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.pace import limit
from tests.support.ports import free_port

NOBODY = 65534
"""PostgreSQL refuses to be run by root."""

START_S = 20


class Postgres:
    """`initdb` and `pg_ctl start` in a folder below /tmp, on a free port of this machine."""

    def __init__(self) -> None:
        self._programs = _programs()
        # not pytest's own folder, which nobody but root may enter
        self._folder = Path(tempfile.mkdtemp(prefix="slipway-postgres-"))
        if os.getuid() == 0:
            os.chown(self._folder, NOBODY, NOBODY)
        port = free_port()
        self.url = f"postgresql+asyncpg://slipway@127.0.0.1:{port}/postgres"
        self._data = str(self._folder / "data")
        options = f"-p {port} -h 127.0.0.1 -k {self._folder} -c fsync=off -c max_connections=60"
        try:
            self._run("initdb", "-D", self._data, "-U", "slipway", "-A", "trust", "--no-sync")
            log = str(self._folder / "log")
            self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        asked = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        with (self._folder / "words").open("wb") as said:  # a pipe would be kept by the server
            code = subprocess.run(
                [str(self._programs / program), *arguments],
                cwd=self._folder,
                stdout=said,
                stderr=said,
                timeout=limit(START_S),
                **asked,  # type: ignore[call-overload]
            ).returncode
        assert code == 0, (self._folder / "words").read_text()


def _programs() -> Path:
    """Find PostgreSQL's programs, which Debian does not put on the PATH; skip without them."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    pytest.skip("needs PostgreSQL (initdb): apt-get install postgresql")
