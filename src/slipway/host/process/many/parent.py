"""End with the process that started this one, however that ends."""

import ctypes
import os
import signal
import sys
from typing import Final

PARENT_DEATH_SIGNAL: Final = 1
"""prctl(2)."""


def live_with(parent: int) -> None:
    """Be killed when the parent ends; exit at once if it has ended already.

    Killed and not asked: whatever is left of a host would keep its ports and its folders from
    the next one.
    """
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
