"""Bind a flow run to the worker that started it: where that is killed, nobody else ends the run.

The kernel tells the run of its worker's end by SIGTERM, and Prefect's engine makes Crashed of that.
Its stages get no time to save their work then: nothing of a killed worker's is to be left.
"""

import os
import signal
from types import FrameType

from flows.environment import WORKER
from slipway.processes.supervise import STOP_SIGNALS, die_with_parent


def end_with_worker() -> None:
    """Have this process end when its worker does; at once where that is gone already.

    To be called before Prefect is imported: what it starts then is bound from its first moment.
    """
    if os.environ.get(WORKER):
        die_with_parent(signal.SIGTERM)
        if worker_gone():
            os.kill(os.getpid(), signal.SIGTERM)


class ToldToStop(Exception):
    """A signal to stop came to a process that stands for something else: a job, a container."""


def hear() -> None:
    """Have a signal to stop raise `ToldToStop`, once: told twice, it is under way."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise ToldToStop

    for each in STOP_SIGNALS:
        signal.signal(each, stop)


def worker_gone() -> bool:
    """Tell whether a worker started this process, and is gone."""
    worker = os.environ.get(WORKER)
    return bool(worker) and str(os.getppid()) != worker
