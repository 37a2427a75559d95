"""Carry out one step of a release: publish a first version, or run a canary beside stable."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slipway.bundle.format import short
from slipway.bundle.verify import Verified, verify_bundle
from slipway.config import ReleaseConfig
from slipway.errors import BundleRefused, SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.judge import (
    ERRORS,
    P99,
    Verdict,
    check_answers,
    conclude,
    error_free,
    judge,
)
from slipway.fleet.numbers import numbers
from slipway.fleet.questions import Questions, ask_both, how_asked_apart, make_questions
from slipway.fleet.rollout import AlreadyServes, Canary, FirstRelease
from slipway.fleet.traffic import one_side, send, two_sides
from slipway.fleet.watch import Awaited, Uptake
from slipway.store import ledger
from slipway.store.bundles import download_bundle
from slipway.store.channel import Candidate, Channel

Decision = ledger.Decision | Literal["undecided", "refused", "planned"]
"""What a release may end with: what the ledger keeps, and what leaves no trace in it."""

STILL_WAIT_S = 5.0
"""A host that ran the version a moment ago is given this long to say so again."""

WINDOWS = 3
"""Windows in which a candidate must be too slow, one after the other, to be rejected for it; and
in which hosts may leave too many requests unserved, before the release ends undecided."""

RELEASED = ("first release", "promoted")
"""Decisions of the ledger that settle a version as released."""


@dataclass(frozen=True)
class Conclusion:
    """How a step ended the release."""

    decision: Decision
    reason: str
    serial: int | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """What is asked of a candidate and of stable, and what they are held to."""

    step: Canary
    bundle: Verified
    questions: tuple[Questions, Questions]
    """The candidate's, and stable's."""
    config: ReleaseConfig


def already_serves(
    controller: Controller, channel: Channel, step: AlreadyServes, config: ReleaseConfig
) -> Conclusion:
    """Make sure of what the channel says; a host that was just started may still be loading."""
    _all_hosts(controller, Awaited(step.version, "stable", channel.serial), config.wait_s)
    reason = f"{controller.fleet.name} already serves v{short(step.version)}"
    controller.record(
        "already serves", step.version, previous=None, serial=channel.serial, reason=reason
    )
    return Conclusion("already serves", reason, channel.serial)


def first_release(
    controller: Controller, channel: Channel | None, step: FirstRelease, config: ReleaseConfig
) -> Conclusion:
    """Publish a version with nothing to compare it with, and check what the hosts answer."""
    bundle = _fetch(controller, step.version)
    if step.publish or channel is None:
        channel = controller.write(channel, stable=step.version, reason="first release")
    with _taken_back_on_failure(controller, channel, stable=None):
        awaited = Awaited(step.version, "stable", channel.serial)
        seen = controller.wait(awaited, config.wait_s)
        if seen.refused:
            verdict, measured = _refusal(seen), numbers()
        else:
            _all_hosts(controller, awaited, STILL_WAIT_S)
            asked = make_questions(
                bundle.golden, bundle.contract, config.requests, config.rows_per_request
            )
            asking = [(one_side(step.version), asked)]
            hosts = controller.fleet.hosts
            (traffic,) = send(controller.client, hosts, controller.model, asking)
            _all_hosts(controller, awaited, STILL_WAIT_S)
            lines = (error_free(traffic), check_answers(traffic, bundle.golden.tolerance))
            verdict, measured = conclude(lines), numbers(lines, candidate=traffic)
        if verdict.decision == "wait":
            raise SlipwayError(f"v{short(step.version)} was not released: {verdict.reason}")
        if verdict.decision != "promote":
            why = verdict.reason
            return _reject(
                controller, channel, step.version, stable=None, reason=why, measured=measured
            )
    reason = (
        f"there was no stable version of {controller.model} on {controller.fleet.name} to"
        " compare it with; its answers on every host are those that were proven"
    )
    controller.record(
        "first release",
        step.version,
        previous=None,
        serial=channel.serial,
        reason=reason,
        numbers=measured,
    )
    return Conclusion("first release", reason, channel.serial, measured)


def canary(
    controller: Controller, channel: Channel, step: Canary, config: ReleaseConfig
) -> Conclusion:
    """Let the candidate answer beside stable, judge both, and promote or reject."""
    bundle = _fetch(controller, step.version)
    trial = Trial(step, bundle, _questions(controller, step, bundle, config), config)
    _all_hosts(controller, Awaited(step.stable, "stable", channel.serial), config.wait_s)
    candidate = Candidate(
        version=step.version, mode="canary", percent=config.percent, lease_s=config.lease_s
    )
    name = f"v{short(step.version)}"
    reason = f"canary of {name} beside v{short(step.stable)}"
    channel = controller.write(channel, stable=step.stable, candidate=candidate, reason=reason)
    with (
        _taken_back_on_failure(controller, channel, stable=step.stable),
        controller.beating(channel.serial, config.lease_s),
    ):
        controller.record(
            "canary started",
            step.version,
            previous=step.stable,
            serial=channel.serial,
            reason=reason,
        )
        awaited = Awaited(step.version, "candidate", channel.serial)
        seen = controller.wait(awaited, config.wait_s)
        if seen.refused:
            verdict, measured = _refusal(seen), numbers()
        else:
            verdict, measured = _compare(controller, awaited, trial)
        why = verdict.reason
        if verdict.decision == "reject":
            return _reject(
                controller, channel, step.version, stable=step.stable, reason=why, measured=measured
            )
        if verdict.decision == "wait":
            why = f"{name} was neither promoted nor rejected: {verdict.reason}"
            channel = controller.write(channel, stable=step.stable, reason=why)
            return Conclusion("undecided", verdict.reason, channel.serial, measured)
        why = f"{name} was promoted: {verdict.reason}"
        channel = controller.write(channel, stable=step.version, reason=why)
        controller.record(
            "promoted",
            step.version,
            previous=step.stable,
            serial=channel.serial,
            reason=verdict.reason,
            numbers=measured,
        )
    _all_hosts(controller, Awaited(step.version, "stable", channel.serial), config.wait_s)
    return Conclusion("promoted", verdict.reason, channel.serial, measured)


def _refusal(seen: Uptake) -> Verdict:
    """Reject by what hosts refused it for; that others were still loading says nothing."""
    return Verdict("reject", (str(Uptake(refused=seen.refused)),), ())


def _compare(
    controller: Controller, awaited: Awaited, trial: Trial
) -> tuple[Verdict, dict[str, Any]]:
    """Ask both sides the golden rows and judge; ask again where the hosts may have spoiled it.

    A rejected version never comes back, and a p99 of some hundred requests is two slow ones:
    a machine that was busy or frozen for a moment must not cost a good model its release.
    """
    hosts, requests = len(controller.fleet.hosts), trial.config.requests
    controller.say(f"asking {hosts} hosts {requests} requests of golden rows for either version")
    for _ in range(WINDOWS):
        verdict, measured = _one_window(controller, awaited, trial)
        if not _spoiled(verdict):
            break
        controller.say(f"asking again: {verdict.reason}")
    return verdict, measured


def _spoiled(verdict: Verdict) -> bool:
    """Tell whether all that speaks against a candidate may be its hosts' doing."""
    failed = {line.measure for line in verdict.lines if line.verdict == "fail"}
    unserved = any(line.measure == ERRORS and line.verdict == "unknown" for line in verdict.lines)
    return failed <= {P99} and (bool(failed) or unserved)


def _one_window(
    controller: Controller, awaited: Awaited, trial: Trial
) -> tuple[Verdict, dict[str, Any]]:
    """Compare both sides once; a host that left in between ends the release."""
    _all_hosts(controller, awaited, STILL_WAIT_S)
    sides = two_sides(trial.step.version, trial.step.stable, trial.config.percent)
    asking = list(zip(sides, trial.questions, strict=True))
    mine, theirs = send(controller.client, controller.fleet.hosts, controller.model, asking)
    _all_hosts(controller, awaited, STILL_WAIT_S)
    compared = judge(mine, theirs, trial.config.limits)
    proven = check_answers(mine, trial.bundle.golden.tolerance)
    errors, *others = compared.lines
    verdict = conclude((errors, proven, *others), compared.too_little)
    return verdict, numbers(verdict.lines, candidate=mine, stable=theirs)


def _reject(
    controller: Controller,
    channel: Channel,
    version: str,
    *,
    stable: str | None,
    reason: str,
    measured: dict[str, Any],
) -> Conclusion:
    """Take a version back for cause: it does not come back with the next run."""
    why = f"v{short(version)} was rejected: {reason}"
    channel = controller.write(channel, stable=stable, rejected=(version,), reason=why)
    controller.record(
        "rejected",
        version,
        previous=stable,
        serial=channel.serial,
        reason=reason,
        numbers=measured,
    )
    return Conclusion("rejected", reason, channel.serial, measured)


@contextmanager
def _taken_back_on_failure(
    controller: Controller, channel: Channel, stable: str | None
) -> Iterator[None]:
    """Write the channel without the new version when the block does not end by itself.

    Ctrl-C and a host that went down say nothing about the version, so it is not rejected.
    If the channel was changed meanwhile, that change stands.
    """
    try:
        yield
    except BaseException as error:
        why = str(error) or type(error).__name__
        try:
            controller.write(channel, stable=stable, reason=f"the release was broken off: {why}")
        except SlipwayError as second:
            controller.say(f"could not take the candidate back, its lease ends by itself: {second}")
        raise


def _all_hosts(controller: Controller, awaited: Awaited, wait_s: float) -> None:
    """Wait until every host runs the version; raise SlipwayError with what keeps the others."""
    seen, version, role = controller.wait(awaited, wait_s), awaited.version, awaited.role
    if not seen.complete:
        raise SlipwayError(
            f"v{short(version)} of {controller.model} is {role} on {controller.fleet.name}, but"
            f" not every host runs it: {seen}. The hosts' logs are in {controller.fleet.state};"
            f" see also: slipway status --fleet {controller.fleet.name}"
        )


def _fetch(controller: Controller, version: str) -> Verified:
    """Read a bundle from the store and check it before any host is asked to."""
    with tempfile.TemporaryDirectory(prefix="slipway-release-") as folder:
        into = Path(folder) / version
        download_bundle(controller.store, controller.model, version, into)
        return verify_bundle(into, controller.trusted)


def _questions(
    controller: Controller, step: Canary, bundle: Verified, config: ReleaseConfig
) -> tuple[Questions, Questions]:
    """Ask stable the same rows, or its own golden set when it takes other inputs."""
    stable: Verified | None
    try:
        stable = _fetch(controller, step.stable)
    except BundleRefused:  # pruned from the store, or its key was: hosts have it all the same
        stable = None
    mine, theirs = ask_both(bundle, stable, config.requests, config.rows_per_request)
    if stable is not None and (why := how_asked_apart(bundle.contract, stable.contract)):
        controller.say(f"the candidate {why}: each is asked its own golden rows")
    if mine.judged is None:
        controller.say(
            "no labels tell which answers are better: the candidate is judged by its errors, its"
            " latency, and whether it answers as it was proven to"
        )
    return mine, theirs
