"""Start a command under the supervisor and read what it says, line by line."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from slipway.processes import supervise
from slipway.processes.supervise import GENTLY

SUPERVISOR = Path(supervise.__file__)


class Tree:
    """A supervised process tree; it ends with this process, however this process ends."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        output: Path | None = None,
        *,
        patience_s: float = 0.0,
    ) -> None:
        """Start the command; its output goes to a file, or else to `lines()`.

        `patience_s`: how long it may take to end when it is stopped gently.
        """
        self.patience_s = patience_s
        theirs, self._control = os.pipe()
        # by its path and isolated (-I -S): the same wherever it is started, and faster to start
        supervisor = [sys.executable, "-I", "-S", str(SUPERVISOR), "--control-fd", str(theirs)]
        supervisor += ["--patience", str(patience_s)]
        log = open(output, "ab") if output else None  # noqa: SIM115  closed below
        try:
            self._process = subprocess.Popen(
                [*supervisor, "--", *command],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log or subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                start_new_session=True,  # a Ctrl-C of the terminal is ours to pass on
            )
        except BaseException:
            os.close(self._control)
            raise
        finally:
            os.close(theirs)
            if log:
                log.close()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """Yield each line as it comes, until nothing of the tree can write any more."""
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                yield line.decode("utf-8", "replace").rstrip("\n")

    def running(self) -> bool:
        """Tell whether the supervisor still runs."""
        return self._process.poll() is None

    def stop_gently(self) -> None:
        """Tell the supervisor to end the tree, which may take its patience for that."""
        if self._control >= 0:
            with suppress(BrokenPipeError):  # it has ended by itself
                os.write(self._control, GENTLY)

    def stop(self) -> None:
        """Tell the supervisor to end the tree; `wait` says when it has."""
        if self._control >= 0:
            control, self._control = self._control, -1
            os.close(control)

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit code when everything of the tree is gone."""
        code = self._process.wait(timeout_s)
        self.stop()
        return code
