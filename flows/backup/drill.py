"""Rehearse the worst day: restore the newest snapshot elsewhere, verify it, and measure both.

Nothing is started and no host is asked; the copy is removed whatever comes out.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from flows.backup.restore import Asked, Restoration, Say, restore
from flows.backup.snapshot import BackupSnapshot
from flows.custody import walk
from flows.dag.changes import explain
from slipway.bundle.format import short
from slipway.bundle.signing import TrustedKeys, open_document, sign_document
from slipway.config import pipelines
from slipway.errors import SlipwayError
from slipway.fleet.inventory import Fleet, fleets, load_fleet
from slipway.fleet.keys import release_key
from slipway.fleet.takeover import RELEASED
from slipway.store import channel, ledger
from slipway.store.bundles import bundle_exists
from slipway.store.objects import Store
from slipway.wording import duration, size

PROBE_TYPE = "application/vnd.slipway.drill"


@dataclass(frozen=True)
class Since:
    """One release that the newest snapshot does not have."""

    fleet: str
    model: str
    version: str | None
    at: str

    def __str__(self) -> str:
        """Say it to people."""
        return f"{self.model} v{short(self.version or '?')} on {self.fleet} at {self.at}"


@dataclass(frozen=True)
class Drill:
    """What a drill found."""

    snapshot: str
    age_s: float
    """How much of the past would be lost: since when nothing is in any snapshot."""
    since: tuple[Since, ...]
    restored: Restoration
    verify_s: float
    missing: tuple[str, ...]

    def lines(self) -> list[str]:
        """Say it to people."""
        lost = "; ".join(map(str, self.since)) or "nothing was released since"
        read = self.restored
        return [
            f"snapshot  {self.snapshot.removesuffix('.json')}",
            f"RPO       {duration(self.age_s)} old; {lost}",
            f"RTO       {duration(read.seconds)}: {read.files} files, {size(read.size_bytes)},"
            f" {read.secrets} secrets; to verify it took {duration(self.verify_s)} more",
            *(f"MISSING   {what}" for what in self.missing),
            "a restored project is whole: signatures, channels, keys, and nothing to build"
            if not self.missing
            else f"{len(self.missing)} things are missing",
        ]

    def to_dict(self) -> dict[str, object]:
        """Say it to machines."""
        return {
            "snapshot": self.snapshot,
            "rpo_s": self.age_s,
            "released_since": [vars(each) for each in self.since],
            "rto_s": self.restored.seconds,
            "verify_s": self.verify_s,
            "files": self.restored.files,
            "bytes": self.restored.size_bytes,
            "secrets": self.restored.secrets,
            "missing": list(self.missing),
        }


def drill(root: Path, asked: Asked, now: datetime, say: Say) -> Drill:
    """Restore a snapshot into a folder of its own, look at everything, and remove the folder."""
    snapshot = asked.archive.snapshot(asked.name)
    folder = Path(tempfile.mkdtemp(prefix="slipway-drill-"))
    try:
        began = time.monotonic()
        restored = restore(replace(asked, into=folder / "project"), say)
        say("workspace dvc checkout")
        missing = [*_check_out(restored.project)]
        restored = replace(restored, seconds=time.monotonic() - began)
        say("verifying every byte, signature and stage")
        began = time.monotonic()
        missing += _missing(restored.project, snapshot)
        verify_s = time.monotonic() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    age_s = (now - datetime.fromisoformat(snapshot.at)).total_seconds()
    since = tuple(released_since(root, datetime.fromisoformat(snapshot.at)))
    return Drill(
        snapshot=asked.name,
        age_s=age_s,
        since=since,
        restored=restored,
        verify_s=verify_s,
        missing=tuple(missing),
    )


def released_since(root: Path, at: datetime) -> Iterator[Since]:
    """List the releases here that a snapshot of that time cannot have."""
    for name in fleets(root):
        store = Store(load_fleet(root, name).store)
        for model in store.names(f"ledger/{name}"):
            for entry in ledger.read_ledger(store, name, model).entries:
                if entry["decision"] in RELEASED and datetime.fromisoformat(entry["at"]) > at:
                    yield Since(name, model, entry["version"], entry["at"])


def _check_out(project: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "dvc", "checkout", "--quiet"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        yield f"the workspace: dvc checkout failed: {said}"


def _missing(project: Path, snapshot: BackupSnapshot) -> Iterator[str]:
    """Name everything that a restored project would lack."""
    for damage in walk.look(project):
        yield f"{damage.kind} {damage.place}: {damage.problem}"
    for name in fleets(project):
        yield from _missing_of_fleet(load_fleet(project, name))
    yield from _missing_keys(project, snapshot)
    yield from _to_build(project)


def _missing_of_fleet(fleet: Fleet) -> Iterator[str]:
    """Open every channel by the restored keys, and look for the bundles that it names."""
    store, trusted = Store(fleet.store), TrustedKeys(fleet.trusted_keys)
    for model in channel.models(store, fleet.name):
        try:
            signed = channel.read_channel(store, fleet.name, model, trusted)
        except SlipwayError as error:
            yield str(error)
            continue
        if signed is None:
            continue
        candidate = signed.channel.candidate
        for version in (signed.channel.stable, candidate and candidate.version):
            if version and not bundle_exists(store, model, version):
                yield f"bundle {model} v{short(version)}: the channel of {fleet.name} names it"


def _missing_keys(project: Path, snapshot: BackupSnapshot) -> Iterator[str]:
    """Sign something by the restored release key: would a fleet believe a release from here?"""
    if snapshot.secrets is None:
        if any("secret files are not in it" in note for note in snapshot.notes):
            yield "the secrets: the snapshot was made without them"
        return
    key = release_key(project)
    if not key.is_file():
        return
    for name in fleets(project):
        trusted = TrustedKeys(load_fleet(project, name).trusted_keys)
        try:
            open_document(
                sign_document(b"{}", PROBE_TYPE, key), PROBE_TYPE, trusted.keys("release")
            )
        except SlipwayError as error:
            yield f"the release key: fleet {name} does not trust it ({error})"


def _to_build(project: Path) -> Iterator[str]:
    """Name the stages that a run would have to compute; what the run-cache has costs nothing."""
    for pipeline in pipelines(project):
        for stage in explain(project, pipeline):
            if stage.verdict == "would run":
                why = ", ".join(change.name for change in stage.changes)
                yield f"stage {stage.stage}: would run again ({why})"
