"""Great Expectations' own rules with one method replaced, where they know their engines by name.

The types of a column are compared inside the expectations, for pandas, Spark and SQLAlchemy one
by one: here they are judged by the table's schema, by any name of the type. And what a rule about
quantiles finds is no JSON (1.24: a numpy bool), so it could not be stored.
"""

import types
from typing import Any

from tasks.validate.columns import Column
from tasks.validate.engine import TableEngine, gx


def register_replaced() -> None:
    """Put them in the place of Great Expectations' own, which it finds by their class name."""
    for name in REPLACED:
        cls = getattr(gx.expectations.core, name)
        if gx.expectations.registry.get_expectation_impl(cls.expectation_type) is cls:
            types.new_class(name, (REPLACED[name], cls), exec_body=_described)


def _described(body: dict[str, Any]) -> None:
    body["__doc__"] = "Judge as its original does, but for one method."


class _ByColumnType:
    """A rule about the type of a column."""

    def _validate(
        self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        if not isinstance(execution_engine, TableEngine):
            judged: dict[str, Any] = super()._validate(  # type: ignore[misc]
                metrics, runtime_configuration, execution_engine
            )
            return judged
        kwargs = self.configuration.kwargs  # type: ignore[attr-defined]
        entries: list[dict[str, Any]] = metrics["table.column_types"]
        [column] = [entry["type"] for entry in entries if entry["name"] == kwargs["column"]]
        assert isinstance(column, Column), "the engine gives columns"
        names = kwargs["type_list"] if "type_list" in kwargs else [kwargs["type_"]]
        found = any(column.is_called(name) for name in names)
        return {"success": found, "result": {"observed_value": column.type}}


class _InPlainValues:
    """A rule whose verdict is no plain value."""

    def _validate(
        self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None
    ) -> Any:
        found = super()._validate(  # type: ignore[misc]
            metrics, runtime_configuration, execution_engine
        )
        return gx.util.convert_to_json_serializable(found)


REPLACED = {
    "ExpectColumnValuesToBeOfType": _ByColumnType,
    "ExpectColumnValuesToBeInTypeList": _ByColumnType,
    "ExpectColumnTypeToBe": _ByColumnType,
    "ExpectColumnQuantileValuesToBeBetween": _InPlainValues,
}
