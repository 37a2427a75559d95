"""Containers of one's own: podman with a storage for the tests, and this machine's files."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.project import REPOSITORY
from tests.support.pace import limit

START_S = 60
IMAGE = "localhost/slipway-test"

CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


class Podman:
    """podman whose one image is empty: a container gets its programs from this machine."""

    def __init__(self) -> None:
        if os.getuid() != 0 or not shutil.which("podman"):
            pytest.skip("needs root and podman: apt-get install podman runc")
        self._folder = folder = Path(tempfile.mkdtemp(prefix="slipway-podman-"))
        runtime = "runc" if shutil.which("runc") else "crun"
        (folder / "containers.conf").write_text(CONFIG.format(runtime=runtime))
        (folder / "storage.conf").write_text(STORAGE.format(driver="vfs", folder=folder))
        (folder / "Containerfile").write_text("FROM scratch\nLABEL slipway=test\n")
        built = self.ask("build", "--quiet", "--tag", IMAGE, str(folder))
        tried = self.ask("run", "--rm", *self.options, IMAGE, "python", "-c", "print('here')")
        if tried.stdout != "here\n":
            self.stop()
            pytest.skip(f"podman starts no container here: {built.stderr}{tried.stderr}"[:500])

    @property
    def options(self) -> list[str]:
        """What gives a container this machine's programs, and this interpreter."""
        system = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/etc/passwd", "/etc/gitconfig")
        ours = (sys.base_prefix, sys.prefix, str(REPOSITORY))
        there = [path for path in dict.fromkeys([*system, *ours]) if Path(path).exists()]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        return [
            *(f"--volume={path}:{path}:ro" for path in there),
            *("--tmpfs=/tmp", f"--env=PATH={path}", "--env=HOME=/tmp"),
            f"--env=PYTHONPATH={REPOSITORY / 'src'}",
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes podman keep to this storage."""
        return {
            "CONTAINERS_CONF": str(self._folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"),
        }

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["podman", *arguments], env={**os.environ, **self.environment},
            capture_output=True, text=True, timeout=limit(START_S),
        )  # fmt: skip

    def stop(self) -> None:
        self.ask("rm", "--all", "--force", "--time", "0")
        self.ask("rmi", "--all", "--force")
        shutil.rmtree(self._folder, ignore_errors=True)
