"""What clients of the gRPC port may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """All of one server; those of the HTTP port, where there is the same."""

    message_bytes: int = 16 * 1024 * 1024
    metadata_bytes: int = 16 * 1024
    """Of one call, together."""
    streams: int = 1024
    """Calls at once on one connection."""
    connections: int = 4096
    continuations: int = 8
    """Frames of one call's headers."""
    burst: int = 300
    """Early resets, pings and other frames that ask for nothing: at once, and per second."""
    early_s: float = 0.02
    """A call that is reset sooner was not begun to be answered."""
    handshake_s: float = 10
    """For TLS and the first bytes."""
    body_s: float = 30
    """For a whole message."""
    write_s: float = 30
    """For a client that does not read its answers."""
    idle_s: float = 300
    """Without a call; a client connects again by itself."""
    ping_s: float = 60
    """Until a silent client with open calls is asked whether it lives."""
    ping_timeout_s: float = 20
    """For its answer."""
