"""Great Expectations over SQL: an execution engine that answers all metrics of a suite at once.

Suites, results and Data Docs stay Great Expectations' own; only numbers come from here. It knows
pandas, Spark and SQLAlchemy; a native engine for DuckDB is open there (pull request 12084), and
the seam is the same: an `ExecutionEngine`, a `Datasource` with its asset, and metrics registered
by name. Every metric here is a leaf without dependencies, so a whole suite arrives in one call
of `resolve_metrics`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from tasks.validate.answers import Answer, answer, answerable, settle
from tasks.validate.imports import left_out
from tasks.validate.literals import Refusal, compare, is_one_of
from tasks.validate.relation import Relation

with left_out():
    import great_expectations as gx
    from great_expectations.compatibility import pydantic
    from great_expectations.core.batch import BatchData, BatchMarkers, LegacyBatchDefinition
    from great_expectations.core.batch_spec import RuntimeDataBatchSpec
    from great_expectations.core.id_dict import IDDict
    from great_expectations.datasource.fluent.batch_request import BatchRequest
    from great_expectations.datasource.fluent.interfaces import Batch, DataAsset, Datasource
    from great_expectations.execution_engine.execution_engine import ExecutionEngine
    from great_expectations.expectations import registry
    from great_expectations.expectations.metrics.metric_provider import MetricProvider
    from great_expectations.expectations.row_conditions import (
        AndCondition,
        ComparisonCondition,
        NullityCondition,
        OrCondition,
        deserialize_row_condition,
    )
    from great_expectations.validator.metric_configuration import MetricConfiguration

__all__ = ["TableDatasource", "TableEngine", "gx", "register_metrics"]

CONDITIONS = (AndCondition, ComparisonCondition, NullityCondition, OrCondition)

NAME = "table"
"""What the data source and its asset are called."""


class TableData(BatchData):
    """The rows that a batch stands for."""

    def __init__(self, execution_engine: "TableEngine", relation: Relation) -> None:
        super().__init__(execution_engine)
        self.relation = relation


class TableEngine(ExecutionEngine[str]):
    """Answer the metrics of a suite from as few scans as they have steps."""

    def get_batch_data_and_markers(
        self, batch_spec: RuntimeDataBatchSpec
    ) -> tuple[TableData, BatchMarkers]:
        """Take the rows as they are; nothing is loaded."""
        relation = batch_spec.batch_data
        batch_spec.batch_data = NAME
        # the field is required; nothing here may depend on the clock
        return TableData(self, relation), BatchMarkers({"ge_load_time": ""})

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: Any = None,
        runtime_configuration: Any = None,
    ) -> dict[Any, Any]:
        """Answer all metrics at once."""
        data = self.batch_manager.active_batch_data
        assert isinstance(data, TableData), "only tables are loaded"
        # it comes as a set: the same question order gives the same SELECT
        wanted = sorted(metrics_to_resolve, key=lambda metric: metric.id)
        answers = {metric.id: self.begin(data.relation, metric) for metric in wanted}
        return settle(data.relation, answers)

    def begin(self, relation: Relation, metric: MetricConfiguration) -> Answer:
        """Begin to answer one metric."""
        kwargs = {**metric.metric_domain_kwargs, **metric.metric_value_kwargs}
        return answer(relation, metric.metric_name, kwargs, self.given(relation, kwargs))

    def given(self, relation: Relation, kwargs: Mapping[str, Any]) -> str:
        """Write the condition on the rows that a rule is about."""
        condition = deserialize_row_condition(kwargs.get("row_condition"))
        if condition is None:
            return "TRUE"
        if not isinstance(condition, CONDITIONS):
            raise Refusal('row_condition needs `"condition_parser": "great_expectations"`')
        self._relation = relation
        return f"coalesce({self.condition_to_filter_clause(condition)}, FALSE)"

    def _comparison_condition_to_filter_clause(self, condition: ComparisonCondition) -> str:
        column = self._relation.column(condition.column.name)
        value = condition.parameter
        match str(condition.operator):
            case "==":
                return is_one_of(column, [value])
            case "!=":
                return f"NOT ({is_one_of(column, [value])})"
            case "IN":
                return is_one_of(column, value)
            case "NOT_IN":
                return f"NOT ({is_one_of(column, value)})"
            case operator:
                return compare(column, operator, value)

    def _nullity_condition_to_filter_clause(self, condition: NullityCondition) -> str:
        column = self._relation.column(condition.column.name)
        return f"{column.sql} IS {'' if condition.is_null else 'NOT '}NULL"

    def _and_condition_to_filter_clause(self, condition: AndCondition) -> str:
        return " AND ".join(f"({self.condition_to_filter_clause(c)})" for c in condition.conditions)

    def _or_condition_to_filter_clause(self, condition: OrCondition) -> str:
        return " OR ".join(f"({self.condition_to_filter_clause(c)})" for c in condition.conditions)


class TableAsset(DataAsset[Any, Any]):
    """Some rows of the table."""

    type: Literal["rows"] = "rows"
    _relation: Any = pydantic.PrivateAttr(None)

    def test_connection(self) -> None:
        """Do nothing: the table is open."""

    def build_batch_request(
        self, options: Any = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest[Any]:
        """Ask for all of them."""
        return BatchRequest(datasource_name=NAME, data_asset_name=self.name, options={})

    def get_batch_identifiers_list(self, batch_request: BatchRequest[Any]) -> list[Any]:
        """Name the one batch."""
        return [IDDict()]

    def get_batch(self, batch_request: BatchRequest[Any]) -> Batch:
        """Hand the rows over."""
        spec = RuntimeDataBatchSpec(batch_data=self._relation)
        data, markers = self.datasource.get_execution_engine().get_batch_data_and_markers(spec)
        definition = LegacyBatchDefinition(
            datasource_name=NAME,
            data_connector_name="none",
            data_asset_name=self.name,
            batch_identifiers=IDDict(),
        )
        return Batch(
            datasource=self.datasource,
            data_asset=self,
            batch_request=batch_request,
            data=data,
            batch_markers=markers,
            batch_spec=spec,
            batch_definition=definition,
        )


EngineType = type[TableEngine]  # `type` is a field in the classes of data sources


class TableDatasource(Datasource[TableAsset, TableEngine]):
    """The table under validation."""

    asset_types: ClassVar[Sequence[type[DataAsset[Any, Any]]]] = [TableAsset]

    type: Literal["validated_table"] = "validated_table"
    assets: list[TableAsset] = pydantic.Field(default_factory=list)

    @property
    def execution_engine_type(self) -> EngineType:
        """Return the engine that answers from SQL."""
        return TableEngine

    def test_connection(self, test_assets: bool = True) -> None:
        """Do nothing: the table is open."""

    def add_rows(self, name: str, relation: Relation) -> TableAsset:
        """Add some rows of the table under a name."""
        asset = TableAsset(name=name)
        asset._relation = relation
        added: TableAsset = self._add_asset(asset)
        added._relation = relation
        return added


class Leaf(MetricProvider):
    """A metric that is answered from the table itself, never from other metrics."""


def register_metrics() -> None:
    """Tell Great Expectations which metrics the engine answers, with the keys that they have."""
    for name in answerable():
        known = registry._registered_metrics.get(name)
        if known is not None and TableEngine.__name__ not in known["providers"]:
            registry.register_metric(
                metric_name=name,
                metric_domain_keys=known["metric_domain_keys"],
                metric_value_keys=known["metric_value_keys"],
                execution_engine=TableEngine,
                metric_class=Leaf,
                metric_provider=_resolved,
            )


def _resolved(**_: Any) -> None:
    raise AssertionError("metrics are answered together, by resolve_metrics")
