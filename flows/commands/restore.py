"""Bring a backup back, list what there is, or rehearse it.

python -m flows.commands.restore URL INTO [--snapshot S] [--decrypt COMMAND] [--without-secrets]
python -m flows.commands.restore URL --list
python -m flows.commands.restore URL --drill
"""

import argparse
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from flows import environment
from flows.backup.archive import Archive
from flows.backup.drill import Drill, drill
from flows.backup.restore import Asked, Restoration, choose, restore
from flows.backup.snapshot import BackupSnapshot
from flows.dag.opening import to_stderr
from flows.talk import fail
from slipway.backups import DRILLS, Note, find_config, note
from slipway.errors import SlipwayError
from slipway.runs.record import now
from slipway.wording import duration, scrub, size


def main(argv: list[str]) -> int:
    """Return 0, 1 where anything is damaged or missing, 2 for wrong usage."""
    options = _parse(argv)
    root = Path.cwd()
    environment.be_discreet()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a drill leaves no keys behind
    try:
        archive = Archive(options.url)
        names = archive.snapshots()
        if options.list:
            _list(archive, names, as_json=options.json)
            return 0
        asked = _asked(root, options, archive, choose(names, options.snapshot))
        if options.drill:
            return _drill(root, asked, as_json=options.json)
        done = restore(asked, to_stderr)
    except KeyboardInterrupt:
        return 130
    except SlipwayError as error:
        fail(str(error))
        return error.exit_code
    except OSError as error:
        fail(f"{error.filename}: {error.strerror or error}; it can be run again, and goes on")
        return 1
    result = _result(asked.name, done)
    print(json.dumps(result, indent=2) if options.json else _told(asked.name, done))
    return 0


def _asked(root: Path, options: argparse.Namespace, archive: Archive, name: str) -> Asked:
    """Take the command to decrypt with as typed, where it was typed, or as this project has it.

    Never as the backup has it: who can write there could have any command run here.
    """
    config = None if options.decrypt else find_config(root)
    return Asked(
        archive=archive,
        name=name,
        into=Path(options.into or "."),
        decrypt=options.decrypt or (config.decrypt if config else None),
        here=Path(options.here) if options.decrypt else root,
        without_secrets=options.without_secrets,
    )


def _drill(root: Path, asked: Asked, *, as_json: bool) -> int:
    try:
        found = drill(root, asked, datetime.now(UTC), to_stderr)
    except SlipwayError as error:
        _keep(root, asked, None, str(error))
        raise
    _keep(root, asked, found, "; ".join(found.missing))
    print(json.dumps(found.to_dict(), indent=2) if as_json else "\n".join(found.lines()))
    return 1 if found.missing else 0


def _keep(root: Path, asked: Asked, found: Drill | None, detail: str) -> None:
    seconds = round(found.restored.seconds, 3) if found else 0.0
    place = str(scrub(asked.archive.url))
    line = Note(
        at=now(),
        to=place,
        snapshot=asked.name,
        ok=not detail,
        seconds=seconds,
        detail=detail,
    )
    note(root, DRILLS, line)


def _list(archive: Archive, names: list[str], *, as_json: bool) -> None:
    rows = [(name, _read(archive, name)) for name in names]
    if as_json:
        print(json.dumps([_row(name, found) for name, found in rows], indent=2))
        return
    for name, found in rows:
        print(f"{name.removesuffix('.json')}  {found if isinstance(found, str) else _line(found)}")
    if not rows:
        print(f"no snapshot in {scrub(archive.url)}")


def _read(archive: Archive, name: str) -> BackupSnapshot | str:
    try:
        return archive.snapshot(name)
    except SlipwayError as error:
        return str(error)


def _line(found: BackupSnapshot) -> str:
    held = f"{found.secrets.files} secrets" if found.secrets else "no secrets"
    kept = found.repository
    return (
        f"{size(_bytes(found)):>8}  {len(found.files):,} files, {held},"
        f" {kept.branch or 'no branch'} at {kept.commit[:12]}"
    )


def _row(name: str, found: BackupSnapshot | str) -> dict[str, object]:
    if isinstance(found, str):
        return {"snapshot": name, "problem": found}
    return {
        "snapshot": name,
        "at": found.at,
        "files": len(found.files),
        "bytes": _bytes(found),
        "secrets": found.secrets.files if found.secrets else 0,
        "branch": found.repository.branch,
        "commit": found.repository.commit,
        "notes": found.notes,
    }


def _bytes(found: BackupSnapshot) -> int:
    return sum(piece.size_bytes for piece in found.pieces.values())


def _told(name: str, done: Restoration) -> str:
    return "\n".join(
        [
            f"{name.removesuffix('.json')} is back in {done.project}: {done.files:,} files,"
            f" {size(done.size_bytes)}, {done.secrets} secrets, {duration(done.seconds)}",
            f"next: cd {done.project}; dvc checkout; slipway verify --all",
        ]
    )


def _result(name: str, done: Restoration) -> dict[str, object]:
    return {
        "snapshot": name,
        "project": str(done.project),
        "files": done.files,
        "bytes": done.size_bytes,
        "secrets": done.secrets,
        "seconds": done.seconds,
    }


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.commands.restore", description=__doc__)
    parser.add_argument("url", help="where the backups are")
    parser.add_argument("into", nargs="?", help="an empty folder")
    parser.add_argument("--snapshot", help="the beginning of its name; the newest if left out")
    parser.add_argument("--decrypt", help="a command that decrypts stdin to stdout")
    parser.add_argument("--here", default=".", help="the folder that --decrypt is run in")
    parser.add_argument("--without-secrets", action="store_true", help="restore the rest alone")
    parser.add_argument("--list", action="store_true", help="name the snapshots")
    parser.add_argument("--drill", action="store_true", help="rehearse in a temporary folder")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
