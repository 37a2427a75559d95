"""Every error that Slipway raises on purpose.

    SlipwayError          a run failed; the message says what, where and what to do next   (exit 1)
    ├── ConfigError       wrong usage or configuration, found before anything ran          (exit 2)
    ├── GateError         a gate measured something outside its limit                      (exit 1)
    │   └── NotAccepted   new data waits for a person                                      (exit 1)
    ├── Unavailable       something that was asked did not answer; later it may            (exit 1)
    ├── BundleRefused     a bundle that no host may load                                   (exit 1)
    ├── ChannelRefused    a channel file or lease that no host may apply                   (exit 1)
    └── AlreadyExists     the store holds this object; the loser of a race re-reads        (exit 1)

A class exists only because some caller treats it differently. They are caught at the
edges only: the command line, a stage's runner, the host's reconcile loop.
"""

import errno
import socket
from collections.abc import Sequence

KEY_PREFIX = "slw_"
"""How the secret of an API key begins, so that people and scanners see what a leaked string is,
and no message quotes one."""


AWAY = frozenset(
    (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ESTALE)
)
"""What the kernel says of a machine or a network that is not there now."""

BUSY_STATUS = frozenset((408, 425, 429))
"""What a server says that wants to be asked again later, beside everything from 500 on."""


class SlipwayError(Exception):
    """A run failed for a reason that its message explains."""

    exit_code = 1


class ConfigError(SlipwayError):
    """Refuse a configuration, with every problem found in it."""

    exit_code = 2

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n  ".join([f"{where} has {count}:", *self.problems]))


class GateError(SlipwayError):
    """Stop the line: a gate measured something outside its limit."""


class NotAccepted(GateError):
    """Stop the line before its first stage: a person must look at new data and accept it."""


class Unavailable(SlipwayError):
    """Report what did not answer, and may if it is asked again: a flow tries so."""


class BundleRefused(SlipwayError):
    """Refuse a bundle; whatever serves now goes on serving."""


class ChannelRefused(SlipwayError):
    """Refuse a channel file or a lease; the state applied last stays."""


class AlreadyExists(SlipwayError):
    """Report that an object created once and for all is there already."""


def may_pass(error: BaseException) -> bool:
    """Tell a failure to reach something from one that would be the same next time.

    Libraries wrap it: fsspec calls a host that refuses a connection a file that is not there.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionError | TimeoutError | Unavailable):
            return True
        if isinstance(seen, socket.gaierror):
            return seen.errno == socket.EAI_AGAIN
        if isinstance(seen, OSError) and seen.errno in AWAY:
            return True
        status = getattr(seen, "status", None)  # of an HTTP client's error
        if isinstance(status, int) and (status >= 500 or status in BUSY_STATUS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
