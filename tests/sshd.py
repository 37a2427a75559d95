"""An SSH server of one's own: OpenSSH's, for whoever runs the tests, and a HOME that knows it."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.pace import limit
from tests.support.ports import free_port
from tests.support.processes import end
from tests.support.waiting import wait_until

SSHD = "/usr/sbin/sshd"
START_S = 20

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/home/.ssh/id_ed25519.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxSessions 40
MaxStartups 100
"""


class Sshd:
    """`sshd` on loopback, in whose folder `files` is what its users work in."""

    def __init__(self) -> None:
        if not Path(SSHD).exists() or not shutil.which("ssh-keygen"):
            pytest.skip("needs sshd: apt-get install openssh-server")
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-sshd-"))
        self.files, self.home = self.folder / "files", self.folder / "home"
        self.port, self.user = free_port(), getpass.getuser()
        keys = self.home / ".ssh"
        keys.mkdir(parents=True, mode=0o700)
        self.files.mkdir()
        for path in (keys / "id_ed25519", self.folder / "host"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
            subprocess.run(command, check=True, timeout=limit(START_S))
        self.trust((self.folder / "host.pub").read_text())
        text = CONFIG.format(port=self.port, folder=self.folder)
        (self.folder / "sshd_config").write_text(text)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # for its unprivileged part
        self.start()

    @property
    def url(self) -> str:
        """Where `files` is, for whoever has this HOME."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.files}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes a client find the key, and know the server."""
        return {"HOME": str(self.home)}

    def trust(self, key: str) -> None:
        """Have the client know the server by a key."""
        kind, words = key.split()[:2]
        known = self.home / ".ssh/known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {kind} {words}\n")

    def start(self) -> None:
        """Listen (again)."""
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._listens, "sshd listens", START_S)

    def cut(self) -> None:
        """End the server and the connections it has."""
        from slipway.processes.supervise import descendants

        below = descendants(self._process.pid)
        end(self._process)
        for pid in below:
            subprocess.run(["kill", "-9", str(pid)], capture_output=True)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.cut()
        shutil.rmtree(self.folder)

    def _listens(self) -> bool:
        import socket

        assert self._process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
