"""Find the columns of the query's result that depend on what is known only later.

The query runs again and again, each time with values that are known later changed in another way
(`change`), and is compared row by row, on the keys that both results have: which rows there are
may depend on the future (a cancelled flight has no delay), what is known of a row may not. A
column that differs anywhere is a leak, whatever it is called and however it was computed.

Where a source says when its values became known (`known_at`), a row may use what was known before
it was asked for: then each time only what came after a moment is changed, and only rows asked for
until then are compared (`cuts`).

One change is made of everything. The others are made of parts of large sources (`parts`).

Not seen: what no row of this data shows, or of a large source only a rare one, where the first
change leaves it as it is; and a key that depends on the future together with a filter that does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from slipway.errors import SlipwayError
from tasks.leaks.change import AFTER_A_CUT, KINDS, ROWS, Kind, changed, milder
from tasks.leaks.cuts import choose_cuts, choose_one
from tasks.leaks.parts import are_small, draw_part, plan_sampling
from tasks.leaks.table import SourceTable, microseconds, set_aside, standing
from tasks.query import (
    KEPT,
    Difference,
    compare,
    create,
    is_unique,
    names_in,
    one_line,
    one_thread,
)

if TYPE_CHECKING:
    from slipway.config import IngestConfig

KEPT_IN_PART = '"the table in part"'

COMMON_SHARE_MIN, COMMON_ENOUGH = 1 / 20, 100
"""So many rows must have kept their key to tell anything, at most the second number."""

LOST_SHARE_MAX = 0.05
"""Where as many rows come out whatever is changed, no filter looks at the future; if more keys
than this are gone, the key does. Filters that pass as many rows twice by chance change fewer."""


@dataclass(frozen=True)
class SourcePart:
    """Sources as they were read, or parts of them, and what the query gives of them."""

    tables: tuple[SourceTable, ...]
    kept: str
    small: bool
    """Worth writing down."""


@dataclass(frozen=True)
class FoundLeaks:
    """What differed after one change."""

    cut: int | None
    difference: Difference


def find_leaks(database: duckdb.DuckDBPyConnection, config: "IngestConfig") -> list[str]:
    """Name the columns, the label apart, that differ when what is known later differs."""
    if not any(source.known_later for source in config.sources.values()):
        return []
    with set_aside(database, config) as tables:
        search = Search(database, config, SourcePart(tables, KEPT, are_small(database, tables)))
        return _judge(config, search.look())


class Search:
    """The changes of one query's sources, one after the other."""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, config: "IngestConfig", everything: SourcePart
    ) -> None:
        self.database = database
        self.config = config
        self.everything = everything
        self.known = any(table.known_at for table in everything.tables)
        self.sampling = plan_sampling(database, everything.tables, config.key)
        self.found: list[FoundLeaks] = []
        self.seed = 0

    def look(self) -> list[FoundLeaks]:
        """Change everything once, and parts of it in every way."""
        self._change_everything()
        for turn, kind in enumerate(KINDS):
            with self._part(turn) as part:
                self._try(part, kind, None)
                if self.known:
                    cuts = choose_cuts(self.database, part.tables, self._moments(part), turn)
                    cuts = cuts[turn :: len(KINDS)]
                    for number, cut in enumerate(cuts):
                        self._try(part, AFTER_A_CUT[number % len(AFTER_A_CUT)], cut)
        return self.found

    def _change_everything(self) -> None:
        cuts: list[int | None] = [None]
        if self.known:
            cuts += choose_one(
                self.database, self.everything.tables, self._moments(self.everything)
            )
        for cut in cuts:
            if (error := self._change(self.everything, ROWS, cut)) is not None:
                names = ", ".join(
                    f"{t.source}.{c}" for t in self.everything.tables for c in t.later
                )
                raise SlipwayError(
                    "ingest.query cannot be checked for leaks: it fails where rows exchange what"
                    f" is known only later ({names}): {one_line(error)}; put TRY(...) around what"
                    " fails"
                )

    def _moments(self, part: SourcePart) -> str:
        return f"SELECT {microseconds(str(self.config.time))} AS moment FROM {part.kept}"

    @contextmanager
    def _part(self, seed: int) -> Iterator[SourcePart]:
        """Draw a part that the query can be run on; everything where there is none."""
        if self.sampling is None:
            yield self.everything
            return
        tables = draw_part(self.database, self.everything.tables, self.sampling, seed)
        part = SourcePart(tables, KEPT_IN_PART, small=True)
        with one_thread(self.database):
            usable = self._keep(part)
            if usable:
                yield part
        if not usable:
            yield self.everything

    def _keep(self, part: SourcePart) -> bool:
        selects = {table.source: f"FROM {table.stored}" for table in part.tables}
        try:
            with standing(self.database, selects, stored=True):
                create(self.database, self.config, part.kept)
        except duckdb.Error:
            return False
        return is_unique(self.database, self.config.key, part.kept)

    def _try(self, part: SourcePart, kind: Kind, cut: int | None) -> None:
        """Change a part, or change it less where the query cannot stand that."""
        for one in (kind, *milder(kind)):
            if self._change(part, one, cut) is None:
                return

    def _change(self, part: SourcePart, kind: Kind, cut: int | None) -> duckdb.Error | None:
        """Change a part and compare what the query gives; return why it gives nothing."""
        self.seed += 1
        selects = {
            table.source: changed(self.database, table, kind, seed=self.seed, cut=cut)
            if table.later
            else f"FROM {table.stored}"
            for table in part.tables
        }
        known_leaks = {c for one in self.found for c in one.difference.columns}
        stored = part.small or "rowid" in names_in(self.config.query)
        try:
            with standing(self.database, selects, stored=stored):
                difference = compare(
                    self.database,
                    self.config,
                    kept=part.kept,
                    left_out={self.config.label, *known_leaks},
                    until=cut,
                )
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            return error
        self.found.append(FoundLeaks(cut, difference))
        return None


def _judge(config: "IngestConfig", found: Sequence[FoundLeaks]) -> list[str]:
    parted = [one for one in found if one.cut is not None]
    telling = [one.difference for one in parted or found]
    if not any(d.common >= min(int(d.kept * COMMON_SHARE_MIN), COMMON_ENOUGH) for d in telling):
        raise SlipwayError(
            "ingest.query cannot be checked for leaks: hardly a row keeps its key when what is"
            f" known only later changes; make ingest.key ({', '.join(config.key)}) of what is"
            " known, and leave out rows by the label alone"
        )
    leaks = {column for one in found for column in one.difference.columns}
    lost = any(d.kept - d.common > LOST_SHARE_MAX * d.kept for d in telling)
    if lost and all(d.rows == d.kept for d in telling):
        leaks |= set(config.key)
    return sorted(leaks - {config.label})
