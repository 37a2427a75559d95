"""Turn text of any encoding into UTF-8, a piece at a time, and say where it is none."""

import codecs
from pathlib import Path

from slipway.errors import SlipwayError

BLOCK_BYTES = 1 << 20

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What files of Unicode may begin with. The mark of UTF-32 begins with that of UTF-16."""


def as_utf8(path: Path, encoding: str, where: str, target: Path) -> Path:
    """Return a file of the same text in UTF-8 without a mark: itself, or a copy at `target`."""
    mark = _mark(path)
    utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    if utf8 and mark is None:
        return path
    if utf8 and MARKS[mark or b""] != "utf-8":
        raise SlipwayError(
            f"{where}: the file begins with the mark of {MARKS[mark or b'']}, and is no"
            f" {encoding}; write `encoding: {MARKS[mark or b'']}`"
        )
    decoder = codecs.getincrementaldecoder("utf-8-sig" if utf8 else encoding)()
    lines = 1
    with path.open("rb") as source, target.open("wb") as plain:
        while True:
            block = source.read(BLOCK_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                near = lines + _lines_before(error)
                raise SlipwayError(f"{where}, line {near}: {not_in(encoding, error)}") from None
            lines += text.count("\n")
            plain.write(text.encode())
            if not block:
                return target


def not_in(encoding: str, error: Exception) -> str:
    """Say of what is not in an encoding what to write."""
    byte = ""
    if isinstance(error, UnicodeDecodeError):
        byte = f"the byte 0x{error.object[error.start]:02x} "
    return (
        f"{byte}is not {encoding}; write the `encoding` that the file has, such as"
        " `encoding: cp1252` of Windows in western Europe, or utf-16"
    )


def find_undecodable(path: Path) -> tuple[int, str] | None:
    """Return the first line that is not UTF-8, and what is wrong with it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return number, not_in("utf-8", error)
    return None


def _mark(path: Path) -> bytes | None:
    with path.open("rb") as file:
        first = file.read(4)
    return next((mark for mark in MARKS if first.startswith(mark)), None)


def _lines_before(error: UnicodeError) -> int:
    if not isinstance(error, UnicodeDecodeError):
        return 0
    return error.object[: error.start].count(b"\n")
