"""Keep what this project holds in another place.

python -m flows.commands.backup [URL] [--encrypt COMMAND] [--without-secrets] [--dry-run] [--json]
"""

import argparse
import json
import sys
from pathlib import Path

from flows import environment
from flows.backup.archive import Archive
from flows.backup.create import BackupMade, Wanted, back_up, preview
from flows.dag import workspace
from flows.dag.opening import to_stderr
from flows.talk import fail
from slipway.backups import BACKUPS, CONFIG, LOCK, BackupConfig, Note, find_config, note
from slipway.errors import ConfigError, SlipwayError
from slipway.runs.record import now
from slipway.wording import duration, scrub, size


def main(argv: list[str]) -> int:
    """Return 0, or what `fail` has said."""
    options = _parse(argv)
    root = Path.cwd()
    environment.be_discreet()
    try:
        config = find_config(root)
        url = place(root, options.url, config)
        encrypt = options.encrypt or (config.encrypt if config else None)
        wanted = Wanted(root, Archive(url), encrypt, options.without_secrets)
        if options.dry_run:
            made = preview(wanted)
        else:
            with workspace.take_turn(root / LOCK, "backup", to_stderr):
                made = back_up(wanted)
            done = Note(now(), str(scrub(url)), made.snapshot or "", seconds=round(made.seconds, 3))
            note(root, BACKUPS, done)
    except KeyboardInterrupt:
        return 130
    except SlipwayError as error:
        fail(str(error))
        return error.exit_code
    except OSError as error:
        fail(f"{error.filename}: {error.strerror or error}; no snapshot was made")
        return 1
    print(json.dumps(_result(made, url), indent=2) if options.json else _told(made, url))
    return 0


def place(root: Path, url: str | None, config: BackupConfig | None) -> str:
    """Return where backups are: as typed, or as the config says; a folder made absolute."""
    found = url or (config.to if config else None)
    if found is None:
        raise ConfigError(
            "the command line", [f"say where to: slipway backup URL, or `to:` in {CONFIG}"]
        )
    return found if "://" in found else str((root / Path(found).expanduser()).resolve())


def _told(made: BackupMade, url: str) -> str:
    lines = [
        f"{kind:9} {count:7,} files {size(total):>9}"
        for kind, (count, total) in sorted(made.kinds.items())
    ]
    lines += [f"{'secrets':9} {made.secrets:7,} files, encrypted"] if made.secrets else []
    lines += [f"note      {text}" for text in made.notes]
    new = f"{made.new_objects:,} objects, {size(made.new_bytes)}"
    if made.snapshot is None:
        return "\n".join([*lines, f"would read {new} that may be new, for {scrub(url)}"])
    name = made.snapshot.removesuffix(".json")
    return "\n".join(
        [*lines, f"snapshot {name} in {scrub(url)}: {new} new, {duration(made.seconds)}"]
    )


def _result(made: BackupMade, url: str) -> dict[str, object]:
    return {
        "to": scrub(url),
        "snapshot": made.snapshot,
        "kinds": {kind: {"files": n, "bytes": b} for kind, (n, b) in made.kinds.items()},
        "secrets": made.secrets,
        "new_objects": made.new_objects,
        "new_bytes": made.new_bytes,
        "seconds": made.seconds,
        "notes": list(made.notes),
    }


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.commands.backup", description=__doc__)
    parser.add_argument("url", nargs="?", help=f"a folder or any fsspec URL; else that of {CONFIG}")
    parser.add_argument("--encrypt", help="a command that encrypts stdin to stdout")
    parser.add_argument("--without-secrets", action="store_true", help="leave keys out")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be kept")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
