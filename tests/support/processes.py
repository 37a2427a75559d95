"""Processes that tests start and look at."""

import subprocess
import sys
from pathlib import Path

from tests.support.pace import limit


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def end(process: "subprocess.Popen[bytes]", within_s: float = 20) -> None:
    """Stop a process, by force where it does not stop by itself."""
    process.terminate()
    try:
        process.wait(limit(within_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def slipway(root: Path, *args: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run the command line tool in a project; it must end with this exit code."""
    command = [sys.executable, "-m", "slipway.cli", *args]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=limit(120))
    assert done.returncode == code, done.stderr
    return done
