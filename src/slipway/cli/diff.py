"""The command that says why two runs or versions are not the same."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.bundle.format import short
from slipway.cli.project import find_root, fleet_option, json_option, say, show_json
from slipway.cli.table import table
from slipway.wording import NOTHING, compact

if TYPE_CHECKING:
    from slipway.runs.difference import Comparison, Snapshot

HEX = 40
"""From this length on, hex digits are a digest, of which people read the first twelve."""


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@fleet_option
@json_option
def diff(before: str, after: str, fleet_name: str, as_json: bool) -> None:
    """Say what differs between two runs or two versions, cause first.

    A and B are runs (an id, its beginning, or `latest`) or versions (12 or more hex digits, from
    the store of the fleet). Code, config, sources and libraries come first, then the stages
    that ran, then metrics, gates and the version that came of it. What one side does not know
    is named, and not taken for a difference.

    \b
      slipway diff 20261130-2151 latest
      slipway diff 3f9a0c12d4e5 8c1d55e09a7b
      slipway diff latest 3f9a0c12d4e5 --json
    """
    from slipway.runs.difference import compare

    root = find_root()
    sides = [Comparand(root, fleet_name, text) for text in (before, after)]
    mixed = sides[0].is_version != sides[1].is_version
    pair = [side.snapshot(without_places=mixed) for side in sides]
    found = compare(*(shared_libraries(pair) if mixed else pair))
    if as_json:
        show_json(asdict(found))
    else:
        _show(found)


class Comparand:
    """One of the two that are compared: a run, or else a version."""

    def __init__(self, root: Path, fleet_name: str, text: str) -> None:
        """Find out which of them the text names; ids of runs have a dash in them."""
        from slipway.fleet.trace import PREFIX

        self._root, self._fleet, self._text = root, fleet_name, text
        self.is_version = PREFIX.fullmatch(text) is not None

    def snapshot(self, *, without_places: bool) -> "Snapshot":
        """Read it; `without_places` cleans paths from a run's config, as a bundle's are."""
        return self._version() if self.is_version else self._run(without_places)

    def _run(self, without_places: bool) -> "Snapshot":
        from slipway.make.lineage import without_places as cleaned
        from slipway.runs.difference import of_run
        from slipway.runs.listing import find_run, read_runs

        found = of_run(find_run(read_runs(self._root), self._text))
        if not without_places:
            return found
        return replace(
            found,
            config=cleaned(found.config, self._root),
            sources=cleaned(found.sources, self._root),
        )

    def _version(self) -> "Snapshot":
        from slipway.fleet.inventory import load_fleet
        from slipway.fleet.trace import trace
        from slipway.store.objects import Store

        fleet = load_fleet(self._root, self._fleet)
        found = trace(fleet, Store(fleet.store), self._text)
        return of_lineage(found.version, found.lineage, found.proof)


def shared_libraries(pair: Sequence["Snapshot"]) -> "list[Snapshot]":
    """Keep the libraries that both name: a lock names all, a bundle those that we ask for."""
    names = set.intersection(*(set(side.libraries) for side in pair))
    return [
        replace(side, libraries={n: v for n, v in side.libraries.items() if n in names})
        for side in pair
    ]


def of_lineage(version: str, lineage: Mapping[str, Any], proof: Mapping[str, Any]) -> "Snapshot":
    """Take from a bundle's papers what can be compared; they do not say which stages ran."""
    from slipway.runs.difference import Snapshot, code_facts, gate_facts, source_facts
    from slipway.runs.git import GitState
    from slipway.runs.inputs import SourcePin, flat
    from slipway.runs.parsing import parse
    from slipway.runs.run import GateResult

    git = parse(GitState, lineage.get("git"))
    pins = {n: parse(SourcePin, pin) for n, pin in lineage.get("sources", {}).items()}
    metrics = (lineage.get("metrics") or {}).get("test") or {}
    return Snapshot(
        name=f"v{short(version)}",
        code=code_facts(git.commit, git.dirty, git.changed),
        config=flat(lineage.get("config", {})),
        sources=source_facts(pins),
        libraries=lineage.get("toolchain", {}).get("packages", {}),
        metrics={name: value for name, value in metrics.items() if value is not None},
        gates=gate_facts(tuple(parse(GateResult, gate) for gate in proof.get("gates", []))),
        version={"version": version, "precision": lineage.get("precision")},
    )


def _show(found: "Comparison") -> None:
    rows = [(d.kind, d.name, _words(d.before), "->", _words(d.after)) for d in found.differences]
    if rows:
        click.echo(table(("what", "name", found.before, "", found.after), rows))
    else:
        click.echo(f"nothing that was recorded differs between {found.before} and {found.after}")
    for kind, side in found.unknown.items():
        say(f"{kind}: not known of {side}, so not compared")


def _words(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        digest = len(value) >= HEX and set(value) <= set("0123456789abcdef")
        return short(value) if digest else " ".join(value.split())
    return compact(value) if isinstance(value, float) else str(value)
