"""Load and unload versions thousands of times and print what the process keeps of it.

    python benchmarks/host_switches.py [--switches 10000] [--every 1000]

Each switch opens a verified bundle as a host does (golden set, wide session, measuring cut
short), answers with it, and closes it, while the version before still serves. Limit: 10 MiB of
resident memory after 10,000, no file and no thread.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from slipway.bundle.session import open_session
from slipway.bundle.verify import Verified, check_here, verify_bundle
from slipway.host.engine.memory import resident_bytes
from slipway.host.engine.sessions import WIDE, PlainRunner
from slipway.provider import CPU
from tests.bundles import make_bundle, make_keys

WARM_UP = 200
GROWTH_MAX = 10 << 20
ROW = {"carrier": np.array(["AA"], object), "delay": np.array([5.0], np.float32)}


def main() -> None:
    """Switch, and fail where something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1_000)
    options = parser.parse_args()
    runners = switch(two_versions())
    for _ in range(WARM_UP):
        next(runners)
    first, started = measure(), time.perf_counter()
    print(f"{'switches':>9} {'grown KiB':>10} {'files':>6} {'threads':>8} {'ms each':>8}")
    for n in range(1, options.switches + 1):
        next(runners)
        if n % options.every == 0 or n == options.switches:
            grown, files, threads = (now - then for now, then in zip(measure(), first, strict=True))
            each_ms = (time.perf_counter() - started) / n * 1e3
            print(f"{n:9} {grown >> 10:10} {files:6} {threads:8} {each_ms:8.2f}", flush=True)
    if grown > GROWTH_MAX or files > 0 or threads > 0:
        raise SystemExit("something is left of versions that are gone")


def two_versions() -> list[Verified]:
    """Make and verify two bundles."""
    with TemporaryDirectory() as folder:
        root, bundles = Path(folder), []
        keys = make_keys(root / "keys")
        for bias in (0.0, 0.5):
            make_bundle(root / f"bundle{bias}", keys=keys, bias=bias)
            bundles.append(verify_bundle(root / f"bundle{bias}", keys.trusted))
        return bundles


def switch(bundles: list[Verified]) -> Iterator[None]:
    """Open one after the other; the one before is closed when the next one answers."""
    serving: PlainRunner | None = None
    while True:
        for verified in bundles:
            session = open_session(verified.model, CPU, 1)
            check_here(verified, session)
            runner = PlainRunner(session, 8, open_session(verified.model, CPU, 2, WIDE))
            for rows in (1, 2, 4, 8, 64):
                runner.run({name: np.repeat(values, rows) for name, values in ROW.items()})
            runner.run_alone(ROW)
            if serving:
                serving.close()
            serving = runner
            yield


def measure() -> tuple[int, int, int]:
    """Return resident bytes, open files and threads."""
    return (
        resident_bytes(),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


if __name__ == "__main__":
    main()
