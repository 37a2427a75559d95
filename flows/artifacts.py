"""What a run leaves on Prefect's pages: gates, metrics, where its report is, how far a stage got.

Keys are those of the pipeline, so that the pages show how it went from run to run. An artifact that
cannot be written is said once and costs nothing else.
"""

import contextvars
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from slipway.bundle.gate import SIGNS
from slipway.runs.run import GateResult, Run
from slipway.wording import compact

Rows = list[dict[str, Any]]

EVERY_S = 5.0
"""Between two looks at how far a stage is; a stage that is done by the first one needs no bar."""

LAST_S = 2.0
"""How long the last word about a stage may take."""


@dataclass(frozen=True)
class Pages:
    """Where artifacts are left, as Prefect has it."""

    table: Callable[..., Any] = create_table_artifact
    markdown: Callable[..., Any] = create_markdown_artifact
    begin: Callable[..., Any] = create_progress_artifact
    update: Callable[..., Any] = update_progress_artifact


PAGES = Pages()


@dataclass(frozen=True)
class Leavings:
    """What is left of one run."""

    run: Run
    gates: Sequence[GateResult]
    """Of a run that a gate stopped, too, whose record has none."""
    report: Path
    data_docs: Path | None


def key(pipeline: str, what: str) -> str:
    """Name an artifact so that the next run's is another version of it."""
    return f"slipway-{pipeline}-{what}"


def gate_rows(gates: Sequence[GateResult], chosen: str | None) -> Rows:
    """List every gate, those of the chosen precision first."""
    return [
        {
            "precision": gate.precision,
            "gate": gate.gate.replace("_", " "),
            "limit": f"{SIGNS.get(gate.bound, '')} {compact(gate.limit)}".strip(),
            "measured": compact(gate.measured),
            "verdict": gate.verdict,
        }
        for gate in sorted(gates, key=lambda g: (g.precision != chosen, g.precision))
    ]


def overview(left: Leavings) -> str:
    """Say in Markdown what the run came to, and where its pages are."""
    run = left.run
    lines = [f"**{run.pipeline}** {run.state}: run `{run.run}`"]
    lines += [f"- version `{run.version[:12]}`, {run.precision}"] if run.version else []
    lines += [f"- release: {run.release.decision}, {run.release.reason}"] if run.release else []
    lines += [f"- why: {' '.join(run.error.split())}"] if run.error else []
    places = [("report", left.report), ("Data Docs", left.data_docs)]
    lines += [f"- [{name}]({p.as_uri()}): `{p}`" for name, p in places if p is not None]
    return "\n".join(lines)


def leave(left: Leavings, say: Callable[[str], None], pages: Pages = PAGES) -> None:
    """Leave the artifacts of a run; without a flow run there is nothing to leave them on."""
    run = left.run
    if run.prefect_flow_run is None:
        return
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # `untold` sees to who is gone
            about = f"run {run.run}"
            if left.gates:
                rows = gate_rows(left.gates, run.precision)
                pages.table(rows, key=key(run.pipeline, "gates"), description=about)
            if run.metrics:
                metrics = [{"metric": n, "test rows": compact(v)} for n, v in run.metrics.items()]
                pages.table(metrics, key=key(run.pipeline, "metrics"), description=about)
            pages.markdown(overview(left), key=key(run.pipeline, "run"), description=about)
    except httpx.TransportError:  # `untold` says so, once
        return
    except Exception as error:  # whatever the client, its server or a proxy makes of it
        said = " ".join(str(error).split())[:200]
        say(f"no artifacts were left on Prefect's pages: {type(error).__name__}: {said}")


class StageProgress:
    """How far one stage is, as a bar on Prefect's pages; a thread of its own keeps it up to date.

    So a server that is slow to answer holds up no stage that waits to be read.
    """

    def __init__(self, address: str, pages: Pages = PAGES, every_s: float = EVERY_S) -> None:
        """Take DVC's name of the stage; to be made in the stage's Prefect task."""
        name, _, rest = address.partition("@")
        self._key = re.sub("[^a-z0-9-]+", "-", key(rest or "stage", f"{name}-progress").lower())
        self._title, self._pages, self._every_s = address, pages, every_s
        self._share: float | None = None
        self._done = threading.Event()
        context = contextvars.copy_context()  # which task run this is
        self._thread = threading.Thread(target=context.run, args=(self._keep_up,), daemon=True)

    def __enter__(self) -> "StageProgress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(LAST_S)

    def heard(self, line: str) -> None:
        """Take a line of the stage; one that is no progress event says nothing."""
        if not line.startswith('{"progress"'):
            return
        try:
            event = json.loads(line)["progress"]
            self._share = 100 * min(1.0, int(event["done"]) / max(1, int(event["total"])))
        except (ValueError, TypeError, KeyError):
            return

    def _keep_up(self) -> None:
        artifact, shown, over = None, None, False
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                while not over:
                    over = self._done.wait(self._every_s)
                    share = self._share
                    if share is None or share == shown or (over and artifact is None):
                        continue
                    if artifact is None:
                        artifact = self._pages.begin(share, self._key, self._title)
                    else:
                        self._pages.update(artifact, share)
                    shown = share
        except Exception:  # the bar stays where it is; the run's log has all of it
            return
