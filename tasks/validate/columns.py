"""Columns as a query sees them: their SQL names, their kinds, and the names of their types.

The one map of types: rules may name a type as Arrow, numpy, Python or SQL does; messages name
it as `table.json` does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

SYNONYMS = {
    "int8": ("TINYINT",),
    "int16": ("SMALLINT",),
    "int32": ("INTEGER",),
    "int64": ("BIGINT",),
    "uint8": ("UTINYINT",),
    "uint16": ("USMALLINT",),
    "uint32": ("UINTEGER",),
    "uint64": ("UBIGINT",),
    "halffloat": ("float16",),
    "float": ("float32", "REAL"),
    "double": ("float64",),
    "bool": ("bool_", "boolean"),
    "string": ("str", "VARCHAR", "TEXT"),
    "large_string": ("str", "string", "VARCHAR", "TEXT"),
    "binary": ("bytes", "BLOB"),
    "large_binary": ("bytes", "binary", "BLOB"),
    "date32[day]": ("date", "date32"),
    "date64[ms]": ("date", "date64"),
    "time32[ms]": ("time", "time32"),
    "time64[us]": ("time", "time64"),
    "time64[ns]": ("time", "time64"),
}
"""What else the types are called."""

FAMILIES = {
    "integer": ("int", "integer"),
    "float": ("float",),
    "decimal": ("Decimal",),
    "timestamp": ("datetime", "datetime64", "timestamp"),
    "list": ("list",),
    "struct": ("dict", "struct"),
}
"""What a rule may call any type of a kind."""

_KINDS = (
    (r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)", "integer"),
    (r"FLOAT|DOUBLE", "float"),
    (r"DECIMAL\(.*\)", "decimal"),
    (r"VARCHAR", "text"),
    (r"BOOLEAN", "boolean"),
    (r"DATE", "date"),
    (r"TIME|TIME_NS", "time"),
    (r"TIMESTAMP.*", "timestamp"),
    (r".*\]", "list"),
    (r"STRUCT.*", "struct"),
)
"""What a type of DuckDB holds."""

_PARAMETRIC = re.compile(
    r"(decimal(128|256)?|numeric)\(\d+,\d+\)|(datetime64|timestamp)\[(s|ms|us|ns)(,.+)?\]"
    r"|timestamp(_(s|ms|ns)|tz| with time zone)?|(large_)?list<.*>|struct<.*>|map<.*>"
)


@dataclass(frozen=True)
class Column:
    """A column of the table under validation."""

    name: str
    sql: str
    """What queries call it: by position, so that no name can collide or need quotes."""
    type: str
    """Its type as `table.json` writes it."""
    sql_type: str
    kind: str
    """integer, float, decimal, text, boolean, date, time, timestamp, list, struct or other."""

    @property
    def text(self) -> str:
        """Give the expression of its values as text."""
        return self.sql if self.kind == "text" else f"CAST({self.sql} AS VARCHAR)"

    def is_called(self, name: str) -> bool:
        """Tell whether a name means this column's type."""
        return _plain(name) in set(map(_plain, self._names()))

    def _names(self) -> Iterable[str]:
        yield from (self.type, self.sql_type, *SYNONYMS.get(self.type, ()))
        yield from FAMILIES.get(self.kind, ())
        if self.kind == "timestamp":
            yield self.type.replace("timestamp", "datetime64").replace("tz=", "")
        if self.kind == "decimal":
            yield self.type.replace("128", "").replace("256", "")
            yield self.type[: self.type.index("(")]


def make_column(position: int, field: pa.Field, sql_type: str) -> Column:
    """Describe a column by what Parquet says of it and by what DuckDB reads it as."""
    kinds = (kind for pattern, kind in _KINDS if re.fullmatch(pattern, sql_type))
    return Column(field.name, f"c{position}", str(field.type), sql_type, kind=next(kinds, "other"))


def is_type(name: str) -> bool:
    """Tell whether any column could be of a type of this name."""
    known = {*SYNONYMS, *(n for names in SYNONYMS.values() for n in names)}
    known |= {n for names in FAMILIES.values() for n in names}
    plain = _plain(name)
    return plain in set(map(_plain, known)) or bool(_PARAMETRIC.fullmatch(plain))


def _plain(name: str) -> str:
    return re.sub(r"\s*,\s*", ",", name.strip().lower())
