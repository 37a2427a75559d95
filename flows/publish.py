"""Make a bundle of a proven payload, sign it and put it into the store, the manifest last.

The payload comes from the DAG and gives the version. All that depends on the clock, the
commit or a key is added here and never in a stage, or the second run would never skip.
"""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.report.facts import read_facts
from slipway.bundle.manifest import PAYLOAD_FILES, payload_version, write_manifest
from slipway.bundle.signing import sign_bundle
from slipway.errors import GateError, SlipwayError
from slipway.make.proof import proof
from slipway.runs.attempt import Results
from slipway.runs.git import GitState
from slipway.runs.parsing import parse
from slipway.runs.run import GateResult
from slipway.store.bundles import upload_bundle
from slipway.store.objects import Store
from tasks import sums
from tasks.timing_report import timing_report

FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Proven:
    """A payload that passed its gates, with the proof that says so."""

    folder: Path
    version: str
    precision: str
    proof: Mapping[str, Any]

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """Every gate: what was measured, its limit and the verdict."""
        return tuple(parse(GateResult, gate) for gate in self.proof["gates"])


def read_proven(root: Path, pipeline: str) -> Proven:
    """Check the payload that the DAG left and put its proof together."""
    folder = root / "models" / pipeline / "payload"
    if not folder.is_dir():
        raise SlipwayError(f"{folder} does not exist: build the pipeline first")
    sums.check(folder)  # DVC hands out damaged cache objects without a word
    version = payload_version(folder)
    gates = json.loads((folder / "gates.json").read_text("utf-8"))
    proven = proof(gates, timing_report(root, pipeline), version)
    if proven["verdict"] != "pass":
        raise GateError(f"v{version[:12]} of {pipeline} did not pass its gates: not published")
    return Proven(folder, version, proven["precision"], proven)


def results_of(root: Path, pipeline: str, proven: Proven) -> Results:
    """Put together what the stages came to."""
    facts = read_facts(root, pipeline)
    test = facts.test.values
    rows = {name: source.rows for name, source in facts.table.sources.items()}
    return Results(
        version=proven.version,
        precision=proven.precision,
        metrics={name: value for name, value in test.items() if value is not None},
        gates=proven.gates,
        rows={name: count for name, count in rows.items() if count is not None},
    )


def publish(
    root: Path, pipeline: str, proven: Proven, store: Store, key: Path, git: GitState
) -> bool:
    """Upload the complete bundle; return False if its version was there, which is kept."""
    from flows.evidence import gather
    from slipway.make.evidence import write_evidence

    with _scratch(root) as bundle:
        for name in PAYLOAD_FILES:
            shutil.copyfile(proven.folder / name, bundle / name)
        write_evidence(proven.folder, gather(root, pipeline, proven.proof, git), bundle)
        manifest = write_manifest(bundle, pipeline)
        if manifest.version != proven.version:
            raise SlipwayError(f"{proven.folder} changed while it was being published; run again")
        sign_bundle(bundle, key)
        return upload_bundle(store, bundle, pipeline)


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """Make the folder that a bundle is put together in; say so when the disk is full."""
    state = root / ".slipway"
    try:
        with tempfile.TemporaryDirectory(dir=state, prefix="publish-") as folder:
            bundle = Path(folder) / "bundle"
            bundle.mkdir()
            yield bundle
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise SlipwayError(
            f"no space left on the disk of {state} while the bundle was put together; nothing"
            " was published. Make room and run again"
        ) from None
