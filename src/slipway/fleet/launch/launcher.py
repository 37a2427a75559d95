"""What callers ask of a launcher, however and wherever it starts hosts."""

import time
from collections.abc import Callable
from typing import Protocol

from slipway.fleet.client import HostClient
from slipway.fleet.inventory import Fleet

LIVE_WAIT_S = 60.0
"""Start-up is import and bind, under 2 s; the rest is for a machine that is busy."""

STOP_WAIT_S = 30.0
"""A host finishes what it accepted, then exits; after this it is killed."""

POLL_S = 0.05
"""How often a starting host is asked whether it is live."""

Say = Callable[[str], None]


class Launcher(Protocol):
    """Start and stop the hosts of a fleet, which outlive whoever started them."""

    def up(
        self, fleet: Fleet, client: HostClient, say: Say, wait_s: float = LIVE_WAIT_S
    ) -> list[str]:
        """Start every host that does not run and wait until all are live; return those started.

        A fleet runs as a whole: what was started is stopped again when one does not come up.
        """

    def down(self, fleet: Fleet, say: Say, grace_s: float = STOP_WAIT_S) -> list[str]:
        """Stop every host that `up` started; return those that ran."""


def wait_until_ready(fleet: Fleet, client: HostClient, wait_s: float = LIVE_WAIT_S) -> list[str]:
    """Wait until every host serves what its channels say; return the names of those that do not.

    A live host answers for itself at once, for a model only after it has proven it anew.
    """
    deadline = time.monotonic() + wait_s
    waiting = list(fleet.hosts)
    while waiting and time.monotonic() < deadline:
        statuses = {host.name: client.status(host) for host in waiting}
        waiting = [h for h in waiting if (s := statuses[h.name]) is None or not s.ready]
        if waiting:
            time.sleep(POLL_S)
    return [host.name for host in waiting]
