"""A Slurm cluster of one's own: Debian's controller and one node, on this machine."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

PROGRAMS = ("munged", "sbatch", "scancel", "scontrol", "sinfo", "slurmctld", "slurmd")
START_S = 30

CONFIG = """
ClusterName=slipway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=10
MpiDefault=none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """`munged`, `slurmctld` and `slurmd` in a folder below /tmp, on free ports."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            pytest.skip("needs root, to run Slurm's controller and node")
        path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
        if missing := [name for name in PROGRAMS if not shutil.which(name, path=path)]:
            pytest.skip(
                f"needs {', '.join(missing)}: apt-get install --no-install-recommends"
                " slurmctld slurmd slurm-client munge"
            )
        self._folder = folder = Path(tempfile.mkdtemp(prefix="slipway-slurm-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        controller, node = free_ports(2)
        host = socket.gethostname().partition(".")[0]
        text = CONFIG.format(host=host, controller=controller, node=node, folder=folder)
        (folder / "slurm.conf").write_text(text)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        try:
            self._spawn(
                *("munged", "--force", "--foreground", f"--socket={folder}/munge.socket"),
                *(f"--key-file={key}", f"--pid-file={folder}/munge.pid"),
                *(f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"),
            )
            wait_until((folder / "munge.socket").exists, "munge listens", START_S)
            self._spawn("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
            self._spawn("slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", host)
            wait_until(lambda: "idle" in self.ask("sinfo"), "the node is idle", START_S)
        except BaseException:
            self.stop()
            raise

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes Slurm's commands ask this cluster."""
        return {"SLURM_CONF": str(self._folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands; return what it said."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True,
            timeout=limit(START_S),
        )  # fmt: skip
        return done.stdout + done.stderr

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        shutil.rmtree(self._folder)

    def _spawn(self, program: str, *arguments: str) -> None:
        path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
        with (self._folder / f"{program}.out").open("wb") as said:
            command = [shutil.which(program, path=path) or program, *arguments]
            environment = {**os.environ, **self.environment}
            self._processes.append(
                subprocess.Popen(command, stdout=said, stderr=said, env=environment)
            )
