"""Values that a source does not hold: a query may look for them all the same.

A column that holds one value, none, or a highest that many rows share stays what it is however
its values are moved about.
"""

import re

WHOLE = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
BROKEN = re.compile(r"FLOAT|DOUBLE|DECIMAL.*")
FILLER = "TIMESTAMP '2001-02-03 04:05:06'"
LATER, EARLIER = "INTERVAL '1003 days 5 hours 7 minutes'", "INTERVAL '41 days 13 hours'"
MOMENT = re.compile(r"DATE|TIMESTAMP.*")


def strange(value: str, kind: str, number: str, *, texts: bool) -> str | None:
    """Write a value of this type that is another one, by a number drawn for the row.

    None where nothing is known of the type, or it is text and `texts` are to stay. What does not
    fit the type becomes missing, and what is missing a value.
    """
    changes = _changes(value, kind, texts=texts)
    if changes is None:
        return None
    filler, *changed = changes
    cases = " ".join(f"WHEN {i} THEN {one}" for i, one in enumerate(changed))
    new = f"TRY(CAST(CASE {number} % {len(changed)} {cases} END AS {kind}))"
    return f"CASE WHEN {value} IS NULL THEN CAST({filler} AS {kind}) ELSE {new} END"


def _changes(value: str, kind: str, *, texts: bool) -> tuple[str, ...] | None:
    if WHOLE.fullmatch(kind):
        wide = f"CAST({value} AS HUGEINT)"
        return "7", f"{wide} + 1", f"-1 - {wide}", f"3 * {wide} + 1002", "NULL"
    if BROKEN.fullmatch(kind):
        wide = f"CAST({value} AS DOUBLE)"
        return "7.5", f"{wide} + 1", f"-1.5 - {wide}", f"3 * {wide} + 1001.25", "NULL"
    if MOMENT.fullmatch(kind):
        known = f"{value} BETWEEN '1700-01-01' AND '2250-01-01'"  # what all types of moments hold
        step, back = ("1003", "41") if kind == "DATE" else (LATER, EARLIER)
        return FILLER, *(
            f"CASE WHEN {known} THEN {value} {by} END" for by in (f"+ {step}", f"- {back}")
        )
    if kind == "BOOLEAN":
        return "true", f"NOT {value}"
    if kind == "VARCHAR" and texts:
        return "'~'", f"{value} || '~'", f"'~' || reverse({value})", "''"
    return None
