"""New data is seen before it is used: what changed, and whether the pipeline takes it by itself.

The sources are probed and pinned aside first (`.slipway/incoming`), and only what was accepted
becomes the pin that DVC and every clone see, with its profile beside it. A change that is refused
leaves both as they are. Where nothing changed, no source is read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.bundle.format import write_durably
from slipway.errors import NotAccepted, SlipwayError, Unavailable
from tasks.profiles import SourceProfile, path_of, read_profiles, write_profiles
from tasks.source_changes import SourceChange, compare, describe, outside
from tasks.sources import Pin, read_pins, refresh_pin

if TYPE_CHECKING:
    from slipway.config import AcceptConfig, Config, Source

INCOMING = Path(".slipway/incoming")
"""Laid out as the project is: the pin of what is there now, and its profile."""


@dataclass(frozen=True)
class Incoming:
    """Sources as they are now, where they are not those that were accepted."""

    pins: Mapping[str, Pin]
    profiles: Mapping[str, SourceProfile]
    first: bool
    """Nothing was accepted before, so there is nothing to compare with."""
    repinned: bool
    """Whether the pin changes, and not only what is known about it."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a source cannot be read as the config says, by its name."""
    changes: tuple[SourceChange, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What changed, for people."""
        return [line for change in self.changes for line in describe(change)]


def bring_up_to_date(
    root: Path, pipeline: str, config: "Config", say: Callable[[str], None]
) -> None:
    """Accept what the sources hold now as far as the policy goes; raise NotAccepted beyond it."""
    incoming = look(root, pipeline, config.ingest.sources)
    if incoming is None:
        return
    reasons = judge(incoming, config.accept)
    if reasons:
        raise NotAccepted(_refusal(pipeline, incoming, config.accept, reasons=reasons))
    for line in incoming.lines:
        say(line)
    for problem in incoming.problems.values():
        say(f"no profile of it: {problem}")
    accept(root, pipeline, incoming)
    if incoming.repinned:
        say(f"the sources changed: data/{pipeline}/sources.lock is updated")


def look(root: Path, pipeline: str, sources: Mapping[str, "Source"]) -> Incoming | None:
    """Compare the sources with what was accepted; None where they are the same."""
    aside = root / INCOMING
    refresh_pin(aside, pipeline, sources)
    pins = read_pins(_lock(aside, pipeline))
    lock = _lock(root, pipeline)
    pinned = read_pins(lock) if lock.is_file() else {}
    accepted = read_profiles(path_of(root, pipeline))
    if accepted is not None and pinned == pins and _is_of(accepted, pins, sources):
        return None
    profiles, problems = _profiles(aside, pipeline, pins=pins, sources=sources, known=accepted)
    before = accepted
    if before is None:  # what the pin alone says, where there is one
        before = {
            name: SourceProfile(pin.sha256, pin.size_bytes, rows=None, reads={})
            for name, pin in pinned.items()
        }
    return Incoming(
        pins=pins,
        profiles=profiles,
        first=accepted is None and pinned in ({}, pins),
        repinned=pinned != pins,
        problems=problems,
        changes=compare(before, profiles, problems) if before else (),
    )


def judge(incoming: Incoming, config: "AcceptConfig") -> list[str]:
    """Say why a person must accept this; nothing: it is taken as it is."""
    if incoming.first or not incoming.changes or config.policy == "auto":
        return []
    if config.policy == "ask":
        return ["accept.policy is 'ask': every change waits for a person"]
    assert config.limits is not None, "the config has seen to it"
    return [text for change in incoming.changes for text in outside(change, config.limits)]


def accept(root: Path, pipeline: str, incoming: Incoming) -> None:
    """Make what is there now the accepted data; the pin is last, as it makes it visible."""
    profile, lock = path_of(root, pipeline), _lock(root, pipeline)
    write_profiles(profile, incoming.profiles)
    if incoming.repinned:
        pins = {name: pin.entry() for name, pin in sorted(incoming.pins.items())}
        write_durably(lock, f"{json.dumps(pins, indent=2)}\n".encode())


def _refusal(pipeline: str, incoming: Incoming, config: "AcceptConfig", reasons: list[str]) -> str:
    because = [] if config.policy == "ask" else ["outside of accept.limits:", *_indented(reasons)]
    return "\n  ".join(
        [
            f"the sources of {pipeline} changed and are not accepted (accept.policy:"
            f" {config.policy}); no stage ran and nothing was changed",
            *incoming.lines,
            *because,
            f"look at it, then accept it: slipway accept {pipeline}",
        ]
    )


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _profiles(
    aside: Path,
    pipeline: str,
    *,
    pins: Mapping[str, Pin],
    sources: Mapping[str, "Source"],
    known: Mapping[str, SourceProfile] | None,
) -> tuple[dict[str, SourceProfile], dict[str, str]]:
    """Return the profile of every source; one of the same bytes is never measured again."""
    from tasks import profiling  # it reads tables, which most runs need not

    cache = path_of(aside, pipeline)
    seen = _remembered(cache)
    profiles, problems = {}, {}
    for name, source in sources.items():
        earlier = (found.get(name) for found in (known or {}, seen))
        same = [p for p in earlier if p and _fits(p, pins[name], source) and p.rows is not None]
        try:
            profiles[name] = same[0] if same else profiling.profile(name, source, pins[name])
        except Unavailable:
            raise
        except SlipwayError as error:
            problems[name] = str(error)
            profiles[name] = profiling.unreadable(source, pins[name])
    write_profiles(cache, profiles)
    return profiles, problems


def _remembered(cache: Path) -> Mapping[str, SourceProfile]:
    """Read what was measured before; it only saves time, so damage to it says nothing."""
    try:
        return read_profiles(cache) or {}
    except SlipwayError:
        return {}


def _is_of(
    profiles: Mapping[str, SourceProfile],
    pins: Mapping[str, Pin],
    sources: Mapping[str, "Source"],
) -> bool:
    """Tell whether profiles are those of these bytes, read as the config says."""
    return profiles.keys() == pins.keys() and all(
        _fits(profile, pins[name], sources[name]) for name, profile in profiles.items()
    )


def _fits(profile: SourceProfile, pin: Pin, source: "Source") -> bool:
    return profile.sha256 == pin.sha256 and dict(profile.reads) == dict(source.columns)


def _lock(root: Path, pipeline: str) -> Path:
    return root / "data" / pipeline / "sources.lock"
