"""Make one `/status` of those of several processes. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.bundle.format import short

Status = Mapping[str, Any]


def merge_status(name: str, fleet: str, statuses: Sequence[Status | None]) -> dict[str, Any]:
    """Return what the host serves: what all its processes serve. None: one did not answer."""
    heard = [status for status in statuses if status is not None]
    first = heard[0] if heard else {}
    return {
        "name": name,
        "fleet": fleet,
        "ready": len(heard) == len(statuses) and all(status["ready"] for status in heard),
        "url": first.get("url"),
        "grpc": first.get("grpc"),
        "models": {
            model: _merge_model(
                {n: x["models"].get(model, {}) for n, x in enumerate(statuses) if x}
            )
            for model in dict.fromkeys(model for status in heard for model in status["models"])
        },
    }


def _merge_model(statuses: Mapping[int, Status]) -> dict[str, Any]:
    """Say what the first process says, but promise nothing that is not true of all.

    A version serves when it serves everywhere; a channel is applied when it is applied everywhere.
    """
    first: dict[str, Any] = dict(next((each for each in statuses.values() if each), {}))
    stable = first.get("stable")
    for role in ("stable", "candidate"):
        if any(each.get(role) != first.get(role) for each in statuses.values()):
            first[role] = None
    for number, each in statuses.items():
        if each.get("stable") != stable:
            first["reason"] = (
                f"process {number} serves {_name(each.get('stable'))} and not {_name(stable)}:"
                f" {each.get('reason', 'it does not know this model')}"
            )
            break
    first["serial"] = min(each.get("serial", 0) for each in statuses.values())
    first["refused"] = {
        k: v for each in statuses.values() for k, v in each.get("refused", {}).items()
    }
    judged = {
        version
        for each in statuses.values()
        for version in each.get("refused", {}).keys() - set(each.get("untried", ()))
    }
    first["untried"] = sorted(first["refused"].keys() - judged)
    first["trouble"] = next((x["trouble"] for x in statuses.values() if x.get("trouble")), None)
    first["alarms"] = list(dict.fromkeys(x for y in statuses.values() for x in y.get("alarms", ())))
    return first


def _name(version: str | None) -> str:
    return short(version) if version else "nothing"
