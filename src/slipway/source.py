"""One table as a config names it: where it is, what is read of it, and how it is written.

What changes bytes stands in the config, since DVC follows values in `configs/`. A field of the
dialect that is left out means the plain dialect, and no other: fields parted by `,` and quoted by
`"`, `.` in numbers, UTF-8, times as ISO 8601 writes them, and only the empty field is no value.
"""

import codecs
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from slipway.sections import Section, suggest

COLUMN_TYPES = ("string", "int64", "float64", "bool", "date", "datetime", "timestamp")
"""What a column may be, beside `decimal(p, s)`."""

TIMES = ("date", "datetime", "timestamp")

EPOCHS = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
"""Formats of times that are numbers: what they count, since 1970-01-01 00:00 UTC."""

DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")
DECIMAL_DIGITS_MAX = 38


def decimal_of(kind: str) -> tuple[int, int] | None:
    """Return the digits of a decimal type, in all and after the point; None of another type."""
    found = DECIMAL.fullmatch(kind)
    return (int(found[1]), int(found[2])) if found else None


def _column_name(name: Any) -> Any:
    """Refuse what YAML made of a name; any text is one."""
    if not isinstance(name, str):
        raise ValueError(f"a column's name is text; write it in quotes, '{name}'")
    if not name.strip():
        raise ValueError("a column's name is empty; give the column a name in the file")
    return name


def _column_type(kind: str) -> str:
    digits = decimal_of(kind)
    if kind in COLUMN_TYPES or (digits and digits[1] <= digits[0] <= DECIMAL_DIGITS_MAX):
        return kind
    known = ", ".join([*COLUMN_TYPES, "decimal(p, s)"])
    near = suggest(kind, list(COLUMN_TYPES))
    raise ValueError(f"no type of a column: {kind!r}{near}; known: {known}")


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except LookupError:
        found = None
    if found is None or not getattr(found, "_is_text_encoding", True):
        raise ValueError(f"no encoding {name!r}; such as utf-8, utf-16, cp1252, latin-1, shift_jis")
    return name


ColumnName = Annotated[str, BeforeValidator(_column_name)]
ColumnType = Annotated[str, AfterValidator(_column_type)]
Character = Annotated[str, Field(min_length=1, max_length=1)]


class Source(Section):
    """One table, named by URL."""

    url: str
    """A file, a folder of files or a glob (`data/*.csv`), `pkg://DISTRIBUTION/PATH` for one of an
    installed package, or what fsspec can read. The name's ending says the format: .csv .tsv .txt
    .parquet .pq .json .jsonl .ndjson, packed as .zip .gz .bz2 or .zst."""
    columns: Annotated[dict[ColumnName, ColumnType], Field(min_length=1)]
    """The columns to read and their types; a file that lacks one is refused. `timestamp` carries
    an offset and becomes UTC; `datetime` carries none and stays as it is; both hold microseconds,
    finer digits are cut off. `float64` takes no integer that it would round."""
    known_later: list[str]
    """Columns known only after the moment of prediction. They may decide the label and which
    rows count; a feature that changes when they change is a leak, under whatever name.
    A table whose rows themselves come later names all of its columns, its keys too."""
    known_at: ColumnName | None = None
    """The column that tells when a row's later values became known, as a `timestamp` or
    `datetime` on the clock of `ingest.time`. A row may then use those that were known before its
    own time, not at it: the mean delay of the day before. Where it is left out, or a row has
    none, nobody knows when, so no row may use them."""
    delimiter: Character | None = None
    """What parts the fields of a line; `,` if left out, and a tab in .tsv."""
    quote: Annotated[str, Field(max_length=1)] | None = None
    """What stands around a field that holds the delimiter, doubled inside it; `"` if left out,
    and "" for a file in which quotes mean nothing."""
    decimal: Character | None = None
    """What stands before the fraction of a number; `.` if left out."""
    thousands: Character | None = None
    """What parts the digits of a number into threes; nothing if left out."""
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    """How the characters are written, by its name in Python; `utf-8` if left out."""
    null_values: list[str] | None = None
    """Texts that are no value, in any column, beside the empty field; none if left out."""
    date_format: str | dict[ColumnName, str] | None = None
    """How times are written, in all columns or by column: a format of strptime, `epoch_s`,
    `epoch_ms`, `epoch_us` or `epoch_ns`; `2024-01-31 23:59:59`, as ISO 8601 has it, if left out."""
    skip_rows: Annotated[int, Field(ge=0)] | None = None
    """Lines above the one that names the columns; none if left out."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [
            *self._twins(),
            *self._later_columns_that_are_not_read(),
            *self._known_at_no_moment(),
            *self._same_characters(),
            *self._formats(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def format_of(self, column: str) -> str | None:
        """Return how the times of a column are written; None: as ISO 8601 has it."""
        if isinstance(self.date_format, str):
            return self.date_format if self.columns[column] in TIMES else None
        return (self.date_format or {}).get(column)

    def _twins(self) -> Iterable[str]:
        if twins := find_twins(self.columns):
            yield f"columns that SQL cannot tell apart: {twins}; rename one in the file"

    def _later_columns_that_are_not_read(self) -> Iterable[str]:
        if strangers := sorted(set(self.known_later) - set(self.columns)):
            near = [f"{name}{suggest(name, list(self.columns))}" for name in strangers]
            yield f"known_later names columns that are not read: {', '.join(near)}"

    def _known_at_no_moment(self) -> Iterable[str]:
        moments = [c for c, kind in self.columns.items() if kind in ("timestamp", "datetime")]
        if self.known_at is not None and self.known_at not in moments:
            yield (
                "known_at must name a timestamp or datetime that is read"
                f" ({', '.join(moments) or 'there is none'}), got {self.known_at}"
            )

    def _same_characters(self) -> Iterable[str]:
        said: dict[str, str] = {}
        given = {
            "delimiter": self.delimiter,
            "quote": self.quote or None,
            "thousands": self.thousands,
            "decimal": self.decimal or (self.thousands and "."),
        }
        for field, character in given.items():
            if character is None:
                continue
            both = said.setdefault(character, field)
            if both != field and {both, field} & {"quote", "thousands"}:
                yield f"{both} and {field} are both {character!r}"

    def _formats(self) -> Iterable[str]:
        by_column = self.date_format if isinstance(self.date_format, Mapping) else {}
        for name in by_column:
            if self.columns.get(name) not in TIMES:
                near = suggest(name, [c for c, kind in self.columns.items() if kind in TIMES])
                yield f"date_format names {name!r}, which is no column of a time{near}"
        for name, kind in self.columns.items():
            if kind in TIMES and (written := self.format_of(name)) is not None:
                yield from (f"date_format of {name}: {text}" for text in _of_format(kind, written))


def find_twins(names: Iterable[str]) -> str:
    """Name those that differ in nothing but upper and lower case, or in nothing at all."""
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.lower(), []).append(name)
    return "; ".join(", ".join(map(repr, same)) for same in by_folded.values() if len(same) > 1)


def _of_format(kind: str, written: str) -> Iterable[str]:
    """Say what is wrong with a format for a type of time."""
    if written in EPOCHS:
        return
    letters = re.findall(r"%-?(.)", written)
    if not letters:
        yield f"{written!r} is no format of strptime and none of {', '.join(EPOCHS)}"
        return
    zoned = bool({"z", "Z"} & {*letters})
    if not {"Y", "y", "c", "x"} & {*letters}:
        yield f"{written!r} names no year (%Y)"
    if kind == "timestamp" and not zoned:
        yield f"{written!r} reads no offset (%z), which a timestamp carries; or declare datetime"
    if kind == "datetime" and zoned:
        yield f"{written!r} reads an offset, which a datetime does not carry; declare timestamp"
