"""Names in a config that nothing gives are told before anything runs, all at once."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from slipway.config import Config, load_config
from slipway.errors import ConfigError
from slipway.source import COLUMN_TYPES
from tasks import names
from tasks.reading.packing import PlainFile
from tasks.reading.table import load
from tasks.validate import known_types
from tests.project import QUERY, REPOSITORY, rule, write_config, write_suite

QUALITY_OF_NUMBERS = {
    "prove__quality": {
        "rmse": {"worst": 30.0, "loss_max": 0.02},
        "mae": {"worst": 20.0, "loss_max": 0.02},
    },
    "release__limits__quality": {"rmse": 0.1, "mae": 0.1},
    "export__answer": {"operating_point": None, "interval": None},
}


def make(root: Path, **changes: Any) -> Config:
    """Return the small pipeline's config, with values replaced by dotted path."""

    def change(config: dict[str, Any]) -> None:
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = config
            for parent in parents:
                place = place[parent]
            place[last] = value

    write_config(root, change)
    return load_config(root, "flights")


def problems(root: Path, config: Config) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        names.check(root, "flights", config, names.suite_of("flights"))
    assert caught.value.where == "configs/flights.yaml"
    return caught.value.problems


def query(select: str) -> str:
    return f"SELECT moment, id, kind, size, weight, {select} AS late FROM things"


def test_the_flights_config_and_its_suite_name_nothing_unknown():
    config = load_config(REPOSITORY, "flights")
    names.check(REPOSITORY, "flights", config, names.suite_of("flights"))


def test_every_unknown_name_is_told_at_once_with_the_near_one(tmp_path: Path):
    config = make(
        tmp_path,
        ingest__time="moments",
        ingest__key=["id", "idd"],
        ingest__target__column="lat",
        prepare__categories={"kinds": "What it is"},
        prepare__numbers={"size": "How large", "wieght": "How heavy, kg"},
        evaluate__slices=["kinds", "sise", "nothing"],
    )
    write_suite(tmp_path, [rule("column_values_to_not_be_null", "row", column="kinda")])
    assert problems(tmp_path, config) == [
        "ingest.key.1: the query gives no column 'idd'; did you mean 'id'?",
        "ingest.time: the query gives no column 'moments'; did you mean 'moment'?",
        "ingest.target.column: the query gives no column 'lat'; did you mean 'late'?",
        "prepare.categories.kinds: the query gives no column 'kinds'; did you mean 'kind'?",
        "prepare.numbers.wieght: the query gives no column 'wieght'; did you mean 'weight'?",
        "evaluate.slices.1: 'sise' is no feature of prepare; did you mean 'size'?",
        "evaluate.slices.2: 'nothing' is no feature of prepare; features: kinds, size, wieght",
        "configs/expectations/flights.json: expectations[3]: the query gives no column 'kinda';"
        " did you mean 'kind'?",
    ]


def test_a_name_that_is_near_to_none_is_told_with_all_that_there_are(tmp_path: Path):
    [problem] = problems(tmp_path, make(tmp_path, ingest__time="xyz"))
    assert problem == (
        "ingest.time: the query gives no column 'xyz'; it gives: moment, id, kind, size, weight,"
        " late"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (QUERY.replace("weight AS FLOAT", "wait AS FLOAT"), 'Referenced column "wait" not found'),
        (QUERY.replace("things", "thinks"), 'Did you mean "things"?'),
        (f"{QUERY}; {QUERY}", "must be one SELECT"),
        ("CREATE TABLE things_too AS SELECT * FROM things", "must be one SELECT"),
        ("-- nothing", "must be one SELECT"),
        ("SELECT moment FROM", "syntax error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        (query("1 AS a, 2 AS a, 3"), "gives a more than once"),
    ],
)
def test_a_query_that_cannot_run_is_told_beside_the_slices(tmp_path: Path, text: str, message: str):
    config = make(tmp_path, ingest__query=text, evaluate__slices=["kine"])
    slices, wrong = problems(tmp_path, config)
    assert slices == "evaluate.slices.0: 'kine' is no feature of prepare; did you mean 'kind'?"
    assert wrong.startswith("ingest.query: ")
    assert message in wrong
    assert "\n" not in wrong


def test_a_query_finds_no_variable_of_this_program(tmp_path: Path):
    config = make(tmp_path, ingest__query="SELECT * FROM source")
    assert "Table with name source does not exist" in problems(tmp_path, config)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ingest__query": query("1").replace("moment,", "strftime(moment, '%x') AS moment,")},
            "ingest.time: 'moment' must be a timestamp, is VARCHAR",
        ),
        (
            {"ingest__query": query("delay > 10")},
            "ingest.target: 'late' is BOOLEAN, its values here (0, 1) are of another type;"
            " write them as the column has them, or CAST it AS TINYINT in ingest.query",
        ),
        (
            {"ingest__query": query("CASE WHEN delay > 10 THEN 1.0 ELSE 0.0 END")},
            "ingest.target: 'late' is DECIMAL(2,1), its values here (0, 1) are of another type;"
            " write them as the column has them, or CAST it AS TINYINT in ingest.query",
        ),
        (
            {"ingest__query": query("'1'")},
            "ingest.target: 'late' is VARCHAR, its values here (0, 1) are of another type;"
            " write them as the column has them, or CAST it AS TINYINT in ingest.query",
        ),
        (
            {
                "ingest__target": {"problem": "regression", "column": "kind", "unit": "minutes"},
                "prepare__categories": {},
                "evaluate__slices": [],
                **QUALITY_OF_NUMBERS,
            },
            "ingest.target.column: 'kind' must be a number, is VARCHAR; CAST it in ingest.query",
        ),
        (
            {"ingest__weight": "moment"},
            "ingest.weight: 'moment' must be a number, is TIMESTAMP",
        ),
        (
            {"ingest__weight": "wieght"},
            "ingest.weight: the query gives no column 'wieght'; did you mean 'weight'?",
        ),
        (
            {"prove__quality": {"auc": {"worst": 0.7, "loss_max": 0.02}}},
            "prove.quality: must limit auc and log_loss, by which a binary model is judged; limits"
            " auc",
        ),
        (
            {"release__limits__quality": {"rmse": 0.1, "mae": 0.1}},
            "release.limits.quality: must limit auc and log_loss, by which a binary model is"
            " judged; limits rmse, mae",
        ),
        pytest.param(
            {
                "split": {
                    "by": "group",
                    "column": "knid",
                    "validation": 0.2,
                    "test": 0.2,
                    "choose": 0.5,
                }
            },
            "split.column: the query gives no column 'knid'; did you mean 'kind'?",
        ),
        (
            {"ingest__query": query("1").replace("kind,", "1.5::FLOAT AS kind,")},
            "prepare.categories.kind: must be text, is FLOAT; CAST it in ingest.query",
        ),
    ],
)
def test_a_type_that_a_stage_would_stop_at_is_told(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    assert problems(tmp_path, make(tmp_path, **changes)) == [message]


@pytest.mark.parametrize("at", ["moment", "CAST(moment AS DATE) AS moment"])
def test_a_time_may_be_a_timestamp_or_a_day(tmp_path: Path, at: str):
    config = make(tmp_path, ingest__query=query("1").replace("moment,", f"{at},"))
    names.check(tmp_path, "flights", config, None)


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        ({"column_A": "size", "column_B": "sizes"}, "sizes"),
        ({"column_list": ["kind", "king"]}, "king"),
        ({"column_set": ["id", "di"]}, "di"),
    ],
)
def test_a_suite_names_columns_under_several_arguments(
    tmp_path: Path, arguments: dict[str, Any], unknown: str
):
    config = make(tmp_path)
    write_suite(tmp_path, [rule("table_columns_to_match_set", "suite", **arguments)])
    [problem] = problems(tmp_path, config)
    assert f"expectations[3]: the query gives no column {unknown!r}" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not readable as JSON"),
        ("{", "not readable as JSON"),
        (
            json.dumps({"expectations": [rule("nothing", "row", column="id")]}),
            "unknown expectation",
        ),
    ],
)
def test_a_suite_that_is_missing_or_cannot_be_read_is_told(
    tmp_path: Path, content: str | None, message: str
):
    config, suite = make(tmp_path), tmp_path / names.suite_of("flights")
    suite.unlink()
    if content is not None:
        suite.write_text(content)
    [problem] = problems(tmp_path, config)
    assert problem.startswith("configs/expectations/flights.json: ")
    assert message in problem


def test_the_gallery_read_from_its_source_is_the_one_that_validate_imports():
    assert known_types() - {""} <= names.known_expectations()


def test_empty_tables_have_the_types_that_ingest_gives_them(tmp_path: Path):
    columns = {kind: kind for kind in (*COLUMN_TYPES, "decimal(10, 2)")}
    (tmp_path / "t.csv").write_text(f'{",".join(COLUMN_TYPES)},"decimal(10, 2)"\n{"," * 7}\n')
    given = {"url": (tmp_path / "t.csv").as_uri(), "columns": columns, "known_later": []}
    config = make(tmp_path, ingest__sources={"things": given}, ingest__query="FROM things").ingest
    with duckdb.connect() as database:
        file = PlainFile("", "t.csv", tmp_path / "t.csv")
        load(database, "things", config.sources["things"], [file])
        loaded = database.sql("FROM things")
        assert names.columns_of(config) == dict(
            zip(loaded.columns, map(str, loaded.types), strict=True)
        )
