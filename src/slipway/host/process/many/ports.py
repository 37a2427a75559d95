"""Keep the ports that several processes will share, against everybody else.

SO_REUSEPORT lets any process of this user join in, and another host's would take a share of the
requests without a word. So a port is had only if a bind without it succeeds, which tells of all
who listen. Two supervisors that start at once would both get through that, and are told apart by
a name that the kernel gives to one of them. Then the port is held, bound and never listening, so
that nobody takes it while no child is there.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from slipway.host.wire.listen import refuse_port


@contextlib.contextmanager
def hold_port(address: str, port: int, option: str) -> Iterator[None]:
    """Hold a port for children with `reuse_port`; raise SlipwayError if anybody else has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(socket.AF_UNIX) as name, socket.socket(family) as holder:
        try:
            name.bind(f"\0slipway/{os.geteuid()}/{address}/{port}")
            with socket.socket(family) as probe:
                _bind(probe, address, port)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(holder, address, port)
            # From here on it stands in the way of whoever binds with SO_REUSEADDR, as servers do.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError as error:
            raise refuse_port(_as_seen(error), address, port, option) from None
        yield


def _bind(bound: socket.socket, address: str, port: int) -> None:
    """Bind as servers do: connections that linger in TIME_WAIT are no reason to refuse."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((address, port))


def _as_seen(error: OSError) -> OSError:
    """Return the error with its text: a bind of a unix socket may leave it out."""
    return OSError(error.errno, os.strerror(error.errno or errno.EIO))
