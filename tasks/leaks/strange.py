"""Values that a source does not hold: a query may look for them all the same.

A column that holds one value, none, or a highest that many rows share stays what it is however
its values are moved about.
"""

import re

WHOLE = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
BROKEN = re.compile(r"FLOAT|DOUBLE|DECIMAL.*")
MOMENT = re.compile(r"DATE|TIMESTAMP.*")


def strange(value: str, kind: str, number: str, *, texts: bool) -> str | None:
    """Write a value of this type that is another one, by a number drawn for the row.

    None where nothing is known of the type, or it is text and `texts` are to stay. What does not
    fit the type becomes missing, and what is missing a value.
    """
    match _changes(value, kind, texts=texts):
        case None:
            return None
        case filler, *changed:
            cases = " ".join(f"WHEN {i} THEN {one}" for i, one in enumerate(changed))
            new = f"CASE {number} % {len(changed)} {cases} END"
            return f"CASE WHEN {value} IS NULL THEN {filler} ELSE TRY(CAST({new} AS {kind})) END"


def _changes(value: str, kind: str, *, texts: bool) -> tuple[str, ...] | None:
    if WHOLE.fullmatch(kind):
        wide = f"CAST({value} AS HUGEINT)"
        return "7", f"{wide} + 1", f"-1 - {wide}", f"3 * {wide} + 1002", "NULL"
    if BROKEN.fullmatch(kind):
        wide = f"CAST({value} AS DOUBLE)"
        return "7.5", f"{wide} + 1", f"-1.5 - {wide}", f"3 * {wide} + 1001.25", "NULL"
    if MOMENT.fullmatch(kind):
        later, earlier = "INTERVAL '1003 days 5 hours 7 minutes'", "INTERVAL '41 days 13 hours'"
        return "TIMESTAMP '2001-02-03 04:05:06'", f"{value} + {later}", f"{value} - {earlier}"
    if kind == "BOOLEAN":
        return "true", f"NOT {value}"
    if kind == "VARCHAR" and texts:
        return "'~'", f"{value} || '~'", f"'~' || reverse({value})", "''"
    return None
