"""How the values of a source are written, with what a config leaves out filled in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipway.config import Source


@dataclass(frozen=True)
class Dialect:
    """The plain dialect, unless the config says otherwise."""

    delimiter: str = ","
    quote: str = '"'
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"
    nulls: tuple[str, ...] = ()
    """Texts that are no value, beside the empty field."""
    skip_rows: int = 0


def dialect_of(source: "Source", suffix: str) -> Dialect:
    """Return the dialect of a file of a source; the format has a say where the config has none."""
    plain = Dialect(delimiter="\t" if suffix == ".tsv" else ",")
    return Dialect(
        delimiter=source.delimiter or plain.delimiter,
        quote=plain.quote if source.quote is None else source.quote,
        decimal=source.decimal or plain.decimal,
        thousands=source.thousands or plain.thousands,
        encoding=source.encoding or plain.encoding,
        nulls=tuple(text for text in source.null_values or () if text),
        skip_rows=source.skip_rows or plain.skip_rows,
    )
