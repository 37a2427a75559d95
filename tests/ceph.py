"""An S3 server of one's own: Ceph's, as teams run it on their own machines, in memory."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.processes import end
from tests.support.waiting import wait_until

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_S = 90

CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
keyring = {folder}/keyring
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


class Ceph:
    """A monitor, one store in memory, and the gateway that speaks S3, on loopback."""

    ACCESS, SECRET = "slipway-test", "not-a-secret"

    def __init__(self) -> None:
        if missing := [name for name in PROGRAMS if not shutil.which(name)]:
            pytest.skip(
                f"needs {', '.join(missing)}: apt-get install --no-install-recommends"
                " ceph-common ceph-mon ceph-osd radosgw"
            )
        # a socket's path has at most 107 characters, and pytest's folders are deep
        self._folder = Path(tempfile.mkdtemp(prefix="slipway-ceph-"))
        mon_port, port = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._start(mon_port, port)
        except BaseException:
            self.stop()
            raise

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes boto, and so s3fs and DVC, ask this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.ACCESS,
            "AWS_SECRET_ACCESS_KEY": self.SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def bucket(self, name: str) -> None:
        """Make a bucket."""
        import s3fs

        fs = s3fs.S3FileSystem(
            key=self.ACCESS, secret=self.SECRET, endpoint_url=self.url, skip_instance_cache=True
        )
        fs.mkdir(name)

    def stop_gateway(self) -> None:
        """Have nothing answer; what was stored stays."""
        end(self._processes.pop("radosgw"))

    def start_gateway(self) -> None:
        """Have it answer again."""
        self._spawn("radosgw", "-n", "client.rgw", "-f")
        wait_until(self._answers, "the gateway answers", START_S)

    def stop(self) -> None:
        for name in ("radosgw", "ceph-osd", "ceph-mon"):
            if process := self._processes.pop(name, None):
                process.kill()
                process.wait()
        shutil.rmtree(self._folder)

    def _start(self, mon_port: int, port: int) -> None:
        ids = str(uuid.uuid4()), str(uuid.uuid4())
        text = CONFIG.format(fsid=ids[0], mon_port=mon_port, port=port, folder=self._folder)
        (self._folder / "ceph.conf").write_text(text)
        (self._folder / "keyring").touch()
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir()
        mons = str(self._folder / "monmap")
        address = f"[v1:127.0.0.1:{mon_port}]"
        run(["monmaptool", "--create", "--addv", "a", address, "--fsid", ids[0], mons])
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", mons)
        self._spawn("ceph-mon", "-i", "a", "-f")
        self._run("ceph", "--connect-timeout", str(START_S), "osd", "new", ids[1])
        wait_until(lambda: self._store_is_up(ids[1]), "the store is up", START_S)
        self._spawn("radosgw", "-n", "client.rgw", "-f")
        user = ("--uid=test", "--display-name=test")
        keys = (f"--access-key={self.ACCESS}", f"--secret={self.SECRET}")
        self._run("radosgw-admin", "user", "create", *user, *keys)
        wait_until(self._answers, "the gateway answers", START_S)

    def _store_is_up(self, id_: str) -> bool:
        """Start the store, anew where it ended: Ceph 16's may ask before it knows whom it asks."""
        process = self._processes.get("ceph-osd")
        if process is None or process.poll() is not None:
            shutil.rmtree(self._folder / "osd")
            (self._folder / "osd").mkdir()
            self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", id_)
            self._spawn("ceph-osd", "-i", "0", "-f")
        return " 1 up" in self._run("ceph", "--connect-timeout", str(START_S), "osd", "stat")

    def _spawn(self, program: str, *arguments: str) -> None:
        with (self._folder / f"{program}.out").open("ab") as said:
            self._processes[program] = subprocess.Popen(
                [program, "-c", str(self._folder / "ceph.conf"), *arguments],
                stdout=said,
                stderr=said,
                env=plain_environment(),
            )

    def _run(self, program: str, *arguments: str) -> str:
        return run([program, "-c", str(self._folder / "ceph.conf"), *arguments])

    def _answers(self) -> bool:
        import httpx

        assert self._processes["radosgw"].poll() is None, (self._folder / "radosgw.out").read_text()
        try:
            return httpx.get(self.url).status_code == 200
        except httpx.HTTPError:
            return False


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit(START_S), env=plain_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plain_environment() -> dict[str, str]:
    """Return an environment in which Ceph reads no configuration but ours."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
