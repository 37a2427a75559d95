"""Write names and texts for DuckDB, whatever stands in them."""


def quoted(name: str) -> str:
    """Write a name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Write a text."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: "list[str] | tuple[str, ...]") -> str:
    """Write a list of texts, without brackets."""
    return ", ".join(map(text, values))
