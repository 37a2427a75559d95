"""Gather what serves where, from the hosts themselves."""

from collections.abc import Mapping
from typing import Any

from slipway.fleet.client import HostClient, HostStatus, ModelStatus
from slipway.fleet.inventory import Fleet
from slipway.fleet.watch import DOWN


def read_status(fleet: Fleet, client: HostClient) -> dict[str, HostStatus | None]:
    """Ask every host; None for one that does not answer."""
    return {host.name: client.status(host) for host in fleet.hosts}


def status_document(fleet: Fleet, statuses: Mapping[str, HostStatus | None]) -> dict[str, Any]:
    """Return the fleet's state for machines; a host that is down is there, and not ready."""
    return {
        "fleet": fleet.name,
        "hosts": [
            {
                "name": host.name,
                "url": host.url,
                "grpc": host.grpc,
                "ready": bool(status and status.ready),
                "problem": status.problem if status else DOWN,
                "models": {name: _model(m) for name, m in status.models.items()} if status else {},
            }
            for host in fleet.hosts
            for status in [statuses[host.name]]
        ],
    }


def _model(model: ModelStatus) -> dict[str, Any]:
    return {
        "stable": model.stable,
        "candidate": model.candidate,
        "percent": model.percent,
        "since": model.since,
        "reason": model.reason,
    }
