"""The types that the tables of a query have, by the types that a config declares."""

from slipway.source import decimal_of

TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "datetime": "TIMESTAMP",
}
"""Zones are gone: a timestamp is in UTC."""


def duckdb_type(kind: str) -> str:
    """Name DuckDB's type for a declared one."""
    digits = decimal_of(kind)
    return f"DECIMAL({digits[0]}, {digits[1]})" if digits else TYPES[kind]
