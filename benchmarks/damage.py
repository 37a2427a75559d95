"""Damage what a project holds, a thousand ways, and count what is found and healed.

    python benchmarks/damage.py [--trials N] [--seed S] [--seconds S] [--ways flip,cut,swap]

Builds a small project with a store, hosts' copies, checkpoints and records in a temporary folder,
then flips a bit of, cuts or swaps (or deletes, if asked to) one file at a time, lets
`slipway verify --all` look and heal (in this process), and puts everything back. Prints a table by
what was damaged and how.
"""

import argparse
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from flows.custody.walk import heal, look  # noqa: E402  the repository must be importable first
from slipway.fleet.inventory import load_fleet  # noqa: E402
from slipway.fleet.keys import ensure_local_keys  # noqa: E402
from slipway.host.follow.memory import Memory, Remembered  # noqa: E402
from slipway.runs import record  # noqa: E402
from slipway.runs.run import Run  # noqa: E402
from slipway.store.bundles import download_bundle, upload_bundle  # noqa: E402
from slipway.store.channel import next_channel, write_channel  # noqa: E402
from slipway.store.ledger import append  # noqa: E402
from slipway.store.objects import Store  # noqa: E402
from tasks import sums  # noqa: E402
from tests.bundles import Keys, make_bundle  # noqa: E402
from tests.flow_project import PIPELINE, Project  # noqa: E402

GROUPS = {
    "cache": ".dvc/cache/files",
    "run-cache": ".dvc/cache/runs",
    "dvc.lock": "dvc.lock",
    "data": "data",
    "models": "models",
    "checkpoints": ".slipway/checkpoints",
    "bundles": ".slipway/store/bundles",
    "channels": ".slipway/store/channels",
    "ledger": ".slipway/store/ledger",
    "runs": ".slipway/runs",
}
WAYS = ("flip", "cut", "swap", "delete")


@dataclass(frozen=True)
class Trial:
    """One damage and what became of it."""

    group: str
    way: str
    file: str
    found: bool
    healed: bool
    same: bool
    """Whether every byte is as before after healing; else what was damaged is to be made again."""


def main() -> None:
    """Build, damage, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ways", default="flip,cut,swap", help="of flip, cut, swap and delete")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # DVC warns of the damage itself
    with tempfile.TemporaryDirectory() as scratch:
        root = build(Path(scratch) / "project")
        assert look(root) == [], look(root)
        began = time.perf_counter()
        trials = run(root, options)
        seconds = time.perf_counter() - began
    show(trials, seconds)


def build(root: Path, ports: Sequence[int] = (1, 2, 3, 4)) -> Path:
    """Make a project whose stages have run, with what its releases and runs leave."""
    project = Project(root)
    project.fleet([*ports])
    (root / f"data/{PIPELINE}/sources.lock").write_text("{}")
    done = project.dvc("repro")
    assert done.code == 0, done.err
    git = ["git", "-c", "user.name=b", "-c", "user.email=b@example.org"]
    for command in (["add", "."], ["commit", "--quiet", "--message", "A small pipeline"]):
        subprocess.run([*git, *command], cwd=root, check=True, stdout=subprocess.DEVNULL)
    _release(root)
    for step in (10, 20):
        folder = root / f".slipway/checkpoints/0123456789abcdef/step-{step:08}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(random.Random(step).randbytes(5000))
        (folder / "state.json").write_text(f'{{"step": {step}}}')
        sums.write(folder)
    for _ in range(2):
        entry = record.begin(root, Run(pipeline=PIPELINE, fleet="local"))
        (entry.folder / "logs").mkdir()
        (entry.folder / "logs/train.log").write_text("this is train\n" * 20)
        entry.close("completed")
        sums.write(entry.folder)
    return root


def _release(root: Path) -> None:
    """Publish two versions; hosts have both, and applied the second of two channels."""
    fleet = load_fleet(root, "local")
    store, keys = Store(fleet.store), ensure_local_keys(root, fleet)
    channel, versions = None, []
    for i in range(2):
        folder = root / f".slipway/made-{i}"
        versions.append(make_bundle(folder, PIPELINE, Keys(keys.builder.parent), bias=0.1 * i))
        upload_bundle(store, folder, PIPELINE)
        shutil.rmtree(folder)
        channel = next_channel(
            channel,
            fleet="local",
            model=PIPELINE,
            stable=versions[-1],
            candidate=None,
            rejected=[],
            reason="first",
            issued_at="2026-01-01T00:00:00Z",
        )
        signed = write_channel(store, channel, keys.release)
        entry = {
            "at": "2026-01-01T00:00:00Z",
            "decision": "promoted",
            "version": versions[-1],
            "serial": channel.serial,
            "reason": "it was as good",
        }
        append(store, "local", PIPELINE, entry)
    for host in fleet.hosts:
        for version in versions:
            target = fleet.state / host.name / "cache" / PIPELINE / version
            download_bundle(store, PIPELINE, version, target)
        remembered = Remembered(
            serial=channel.serial if channel else 0,
            digest=signed.digest,
            envelope=signed.envelope.decode(),
        )
        Memory(fleet.state / host.name).save(PIPELINE, remembered)


def run(root: Path, options: argparse.Namespace) -> list[Trial]:
    """Damage one file at a time, look, heal, and put everything back."""
    chance, until = random.Random(options.seed), time.monotonic() + options.seconds
    whole = root.with_name("whole")
    shutil.copytree(root, whole, symlinks=True)
    files = {group: held(root / path) for group, path in GROUPS.items()}
    before = contents(root)
    done: list[Trial] = []
    while len(done) < options.trials and time.monotonic() < until:
        group = chance.choice([*GROUPS])
        way = chance.choice(options.ways.split(","))
        path = chance.choice(files[group])
        other = chance.choice(files[chance.choice([*GROUPS])])
        if not damage(path, way, other=other, chance=chance):
            continue
        found = bool(heal(root))
        healed = found and not look(root)
        same = contents(root) == before
        done.append(Trial(group, way, str(path.relative_to(root)), found, healed, same))
        if not same or not healed:
            shutil.rmtree(root)
            shutil.copytree(whole, root, symlinks=True)
    return done


def held(path: Path) -> list[Path]:
    """List the files of a group; links and what git holds are left alone."""
    if path.is_file():
        return [path]
    files = (p for p in path.rglob("*") if p.is_file() and "latest" not in p.parts)
    return sorted(p for p in files if p.name not in ("sources.lock", ".gitignore"))


def contents(root: Path) -> dict[str, bytes]:
    """Read every file of every group."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for group in GROUPS.values()
        for path in held(root / group)
    }


def damage(path: Path, way: str, *, other: Path, chance: random.Random) -> bool:
    """Damage a file as a disk or a hand may, its time unchanged; False if nothing would differ."""
    data, stamp = path.read_bytes(), path.stat()
    if way == "delete":
        unlink(path)
        return True
    if not data:
        return False
    if way == "swap":
        theirs = other.read_bytes()
        if theirs == data:
            return False
        overwrite(other, data)
        changed = theirs
    elif way == "cut":
        changed = data[: chance.randrange(len(data))]
    else:
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        changed = bytes(flipped)
    overwrite(path, changed)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    return True


def overwrite(path: Path, data: bytes) -> None:
    """Write over a file in place, as nothing of ours ever does."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


def unlink(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def show(trials: list[Trial], seconds: float) -> None:
    """Print counts by what was damaged and how, then what was not found."""
    print(f"{len(trials)} damages in {seconds:.0f} s\n")
    print("| damaged | tried | found | healed | of these, every byte as before |")
    print("|---|---|---|---|---|")
    for name in (*GROUPS, *WAYS, "all"):
        mine = [t for t in trials if name in (t.group, t.way, "all")]
        counts = (sum(map(bool, flags)) for flags in _columns(mine))
        print(f"| {name} | {len(mine)} | {' | '.join(map(str, counts))} |")
    missed = Counter((t.group, t.way) for t in trials if not t.found)
    for (group, way), count in sorted(missed.items()):
        files = sorted({t.file for t in trials if (t.group, t.way) == (group, way) and not t.found})
        print(f"not found: {way} of {group}, {count}: {', '.join(files[:4])}")


def _columns(trials: list[Trial]) -> tuple[list[bool], list[bool], list[bool]]:
    return (
        [t.found for t in trials],
        [t.healed for t in trials],
        [t.healed and t.same for t in trials],
    )


if __name__ == "__main__":
    main()
