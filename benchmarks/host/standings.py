"""Who answered how many requests under wrk: grouped, ours apart, the best of the others."""

from benchmarks.host.ours import OURS
from benchmarks.host.records import Record, group, middle, pick
from benchmarks.host.rivals import BARE_LOOP, is_setting_of

MODELS = ("mlp", "cnn", "encoder")
OUR_PAYLOADS = ("json", "binary")
ENCODING = {"flat": "json", "rows": "json", "json": "json", "raw": "binary", "binary": "binary"}
"""Which of our payloads one of another server's stands beside."""
Runs = list[Record]


def by_server(records: list[Record], model: str, connections: int) -> dict[tuple[str, str], Runs]:
    """Group the runs of one model and number of connections by server and payload."""
    found = pick(records, what="closed", model=model, connections=connections)
    return {(key[0], key[1]): runs for key, runs in group(found, "server", "payload").items()}


def ours(records: list[Record], model: str, connections: int) -> dict[str, Runs]:
    """Group our own runs by payload."""
    groups = by_server(records, model, connections)
    return {payload: runs for (server, payload), runs in groups.items() if server == OURS}


def peers(records: list[Record], model: str, connections: int) -> dict[str, Runs]:
    """Group the runs of every peer in every payload, fastest first, without the bare loop."""
    found = {
        f"{server} {payload}": runs
        for (server, payload), runs in by_server(records, model, connections).items()
        if server != OURS and not is_setting_of(BARE_LOOP, server)
    }
    return dict(sorted(found.items(), key=lambda item: -middle(item[1], "rps")))


def fastest(groups: dict[tuple[str, str], Runs], peer: str, payload: str) -> Runs:
    """Take the runs of a peer in its fastest setting, in the encoding of our payload."""
    settings = [
        runs
        for (server, kind), runs in groups.items()
        if is_setting_of(peer, server) and ENCODING[kind] == payload
    ]
    return max(settings, key=lambda runs: middle(runs, "rps"), default=[])


def cpu_efficiency(runs: Runs) -> float:
    """Divide the CPU time that the bare model needs per row by what the server took."""
    bare_us = [{**r, "bare_us": cores_us(r)} for r in runs]
    return middle(bare_us, "bare_us") / middle(runs, "cpu_us")


def cores_us(record: Record) -> float:
    """Turn the raw limit back into CPU microseconds per row."""
    return 1e6 * record["cores"] / record["bare_rows_per_s"]
