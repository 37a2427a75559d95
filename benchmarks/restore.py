"""Back up and restore a project of about a gigabyte, beside the least that its bytes can cost.

    python benchmarks/restore.py [--gigabytes G] [--folder FOLDER]

Builds a small real project with random bytes of several sizes in DVC's cache and in its store,
backs it up to a folder, again with nothing new, restores it, and prints seconds and MB/s. The
limit beside is `cp -r` of the same files and `sha256sum` of the copies, on the same disk.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.damage import build  # noqa: E402  the repository must be importable first
from flows.backup.archive import Archive  # noqa: E402
from flows.backup.create import Wanted, back_up  # noqa: E402
from flows.backup.restore import Asked, restore  # noqa: E402

SIZES = (256 << 20, 32 << 20, 4 << 20, 64 << 10)
"""A weights file, a shard, a model, a report."""

SHARES = (0.4, 0.3, 0.2, 0.1)
"""How much of the bytes is in files of each size."""

CHUNK = 1 << 20
"""randbytes gives 256 MB at once at most."""

IN_STORE = 0.25
"""Share of the files that lie in the store, the others in DVC's cache."""

WANTED_S = 300.0
"""A gigabyte is back within this."""


@dataclass(frozen=True)
class Row:
    """One thing that was timed."""

    what: str
    seconds: float
    size_bytes: int

    def __str__(self) -> str:
        """Write it as a row of the table."""
        return (
            f"| {self.what} | {self.seconds:.1f} s | {self.size_bytes / 1e6 / self.seconds:.0f} |"
        )


def main() -> None:
    """Build, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        rows, files = measure(Path(scratch), int(options.gigabytes * 1e9))
    print(
        f"{files} files, {rows[0].size_bytes / 1e9:.2f} GB; wanted: restored in {WANTED_S:.0f} s\n"
    )
    print("| what | took | MB/s |\n|---|---|---|")
    print("\n".join(map(str, rows)))


def measure(scratch: Path, size_bytes: int) -> tuple[list[Row], int]:
    """Time each step once, over the same bytes."""
    root = build(scratch / "project")
    fill(root, size_bytes)
    held = [root / ".dvc/cache", root / ".slipway/store"]
    files = [path for folder in held for path in folder.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    archive, into = Archive(str(scratch / "backup")), scratch / "restored"
    wanted = Wanted(root, archive, None, without_secrets=True)

    def bring() -> None:
        name = archive.snapshots()[-1]
        restore(Asked(archive, name, into, None, scratch, without_secrets=True), lambda text: None)

    def copy() -> None:
        for folder in held:
            subprocess.run(["cp", "-r", folder, scratch / f"copy-{folder.name}"], check=True)
        subprocess.run(["sync"], check=True)

    def sums() -> None:
        copies = [p for f in held for p in (scratch / f"copy-{f.name}").rglob("*") if p.is_file()]
        for at in range(0, len(copies), 500):
            command = ["sha256sum", *map(str, copies[at : at + 500])]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    steps: dict[str, Callable[[], object]] = {
        "limit: cp -r and sync": copy,
        "limit: sha256sum of the copies": sums,
        "backup, the first": lambda: back_up(wanted),
        "backup again, nothing new": lambda: back_up(wanted),
        "restore": bring,
    }
    rows = [Row(what, seconds(step), total) for what, step in steps.items()]
    hold_against(root, into)
    return rows, len(files)


def fill(root: Path, size_bytes: int) -> None:
    """Put random files where DVC and releases would, with their names in dvc.lock's history."""
    chance = random.Random(1)
    names = []
    for size, share in zip(SIZES, SHARES, strict=True):
        for _ in range(max(1, round(size_bytes * share / size))):
            length = min(size, size_bytes)
            data = b"".join(
                chance.randbytes(min(CHUNK, length - n)) for n in range(0, length, CHUNK)
            )
            if chance.random() < IN_STORE and size < SIZES[0]:
                put(root / f".slipway/store/ledger/other/m/{len(names):020d}-{0:016x}.json", data)
                names.append("")
                continue
            name = hashlib.md5(data, usedforsecurity=False).hexdigest()
            put(root / f".dvc/cache/files/md5/{name[:2]}/{name[2:]}", data)
            names.append(name)
    outs = "".join(f"- md5: {name}\n  path: random-{name}\n  hash: md5\n" for name in names if name)
    (root / "random.dvc").write_text(f"outs:\n{outs}")
    git = ["git", "-c", "user.name=b", "-c", "user.email=b@example.org"]
    subprocess.run([*git, "add", "random.dvc"], cwd=root, check=True)
    subprocess.run([*git, "commit", "-qm", "Random data"], cwd=root, check=True)


def put(path: Path, data: bytes) -> None:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def seconds(step: Callable[[], object]) -> float:
    """Time one step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def hold_against(root: Path, into: Path) -> None:
    """Make sure that what was timed came back: every file, every byte."""
    for part in (".dvc/cache/files", ".slipway/store"):
        command = ["diff", "-r", "-q", root / part, into / part]
        assert subprocess.run(command, check=False).returncode == 0, f"{part} differs"


if __name__ == "__main__":
    assert shutil.which("git"), "git is needed"
    main()
