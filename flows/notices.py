"""Tell people of a run that needs somebody, once for each reason, and note that in its record.

Works at a desk as on a schedule: nothing here asks a Prefect server. A message that cannot be sent
is said and noted, and changes nothing else.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.environment import OWN_API
from slipway.bundle.format import short
from slipway.errors import NotAccepted, SlipwayError
from slipway.fleet.takeover import RELEASED
from slipway.notify.message import Notification
from slipway.notify.send import Post
from slipway.notify.targets import Reason, load_notify
from slipway.runs.record import Record
from slipway.runs.run import Notice, Run

SERVES = (*RELEASED, "already serves")

Say = Callable[[str], None]


def reason_of(run: Run, error: BaseException) -> Reason:
    """Tell a version that was not released, and data that waits for a person, from a failure."""
    if isinstance(error, NotAccepted):
        return "waiting"
    release = run.release
    if release is not None and release.decision and release.decision not in SERVES:
        return "rejected"
    return "failed"


def tell(entry: Record, reason: Reason, post: Post | None = None, *, say: Say) -> None:
    """Send a run's message to every target that wants it, unless that was done before."""
    if notices := _send(entry, reason, post, say):
        _note(entry, notices, say)


def _send(entry: Record, reason: Reason, post: Post | None, say: Say) -> list[Notice]:
    run = entry.run
    try:
        config = load_notify(entry.root)
    except SlipwayError as error:
        say(f"nobody was told: {error}")
        return []
    if config is None or any(notice.reason == reason for notice in run.notices):
        return []
    if is_at_desk(run, reason) and not config.desk:
        return []
    post = post or Post(entry.root)
    message = message_of(entry, reason)
    notices: list[Notice] = []
    for target in config.targets:
        if reason in target.on:
            sent = post.send(message, target)
            notices.append(
                Notice(
                    reason=reason,
                    target=sent.target,
                    sent=sent.ok,
                    tries=sent.tries,
                    problem=sent.problem,
                )
            )
            problem = f"could not be told: {sent.problem}"
            say(f"{sent.target} {'was told' if sent.ok else problem}")
    return notices


def _note(entry: Record, notices: list[Notice], say: Say) -> None:
    try:
        entry.note(replace(entry.run, notices=(*entry.run.notices, *notices)))
    except OSError as error:
        say(f"who was told could not be noted: {error}")


@dataclass(frozen=True)
class Lost:
    """A run whose process is gone, as Prefect's server knew it."""

    flow_run: str
    name: str
    why: str


def tell_crashed(
    entry: Record | None, root: Path, lost: Lost, post: Post | None = None, *, say: Say
) -> None:
    """Tell people of a run that died without a word, some of them before they had a record."""
    run = entry.run if entry else Run(pipeline=lost.name, prefect_flow_run=lost.flow_run)
    found = replace(run, error=f"{lost.name} died: {lost.why}")
    begun = Record(root, found)
    notices = _send(begun, "crashed", post, say)
    if notices and entry is not None:
        _note(entry, notices, say)


def is_at_desk(run: Run, reason: Reason) -> bool:
    """Tell whether somebody sits before a run: one that cron starts has no terminal.

    Of one that is gone that cannot be seen any more.
    """
    return run.started_by.kind == "terminal" and (reason == "crashed" or sys.stderr.isatty())


def message_of(entry: Record, reason: Reason) -> Notification:
    """Put together what people are told of a run."""
    run = entry.run
    return Notification(
        reason=reason,
        pipeline=run.pipeline,
        run=run.run,
        what=run.error or f"the run {reason}",
        next_step=_next_step(run, reason),
        version=short(run.version) if run.version else None,
        link=page(run.prefect_flow_run) or (str(entry.report) if run.run else None),
    )


def _next_step(run: Run, reason: Reason) -> str:
    steps: dict[Reason, str] = {
        "failed": f"slipway runs show {run.run}; the next run goes on from here",
        "rejected": f"slipway runs show {run.run} compares both; what served goes on serving",
        "waiting": f"slipway accept {run.pipeline} shows the change, and accepts it",
        "crashed": f"slipway run {run.pipeline} goes on from here, as the next scheduled run does",
    }
    return steps[reason]


def page(flow_run: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return where a Prefect server shows a run; None for a server that is there for it alone."""
    base = environ.get("PREFECT_UI_URL")
    if not base and not environ.get(OWN_API):
        base = environ.get("PREFECT_API_URL", "").removesuffix("/").removesuffix("/api")
    return f"{base.rstrip('/')}/runs/flow-run/{flow_run}" if base and flow_run else None


def check(root: Path) -> None:
    """Raise ConfigError now for what would keep people from being told later."""
    load_notify(root)
