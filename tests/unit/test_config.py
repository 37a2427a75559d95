"""A config is refused before anything runs, with every problem and the way out."""

from pathlib import Path

import pytest
import yaml

from slipway.config import load_config
from slipway.errors import ConfigError
from tests.project import REPOSITORY


def problems(root: Path, text: str) -> list[str]:
    (root / "configs").mkdir(exist_ok=True)
    (root / "configs/flights.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(root, "flights")
    return caught.value.problems


def edited(**changes: object) -> str:
    """Return the flights config with values replaced, by dotted path."""
    config = yaml.safe_load((REPOSITORY / "configs/flights.yaml").read_text("utf-8"))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return yaml.safe_dump(config)


def test_the_flights_config_is_valid():
    assert load_config(REPOSITORY, "flights").train.processes == 2


def test_an_unknown_pipeline_is_refused_with_the_near_name():
    with pytest.raises(ConfigError, match="unknown pipeline 'flight'; did you mean 'flights'"):
        load_config(REPOSITORY, "flight")


def test_a_pipeline_name_cannot_leave_the_configs_folder():
    with pytest.raises(ConfigError, match="unknown pipeline"):
        load_config(REPOSITORY, "../configs/flights")


def test_all_problems_are_gathered(tmp_path: Path):
    text = edited(train__epochs=-4, export__opst=21, golden__share_of_days=2)
    assert problems(tmp_path, text) == [
        "golden.share_of_days: must be less than or equal to 1, got 2",
        "train.epochs: must be greater than 0, got -4",
        "export.opst: unknown key; did you mean 'opset'?",
    ]


def test_an_unknown_key_inside_a_source_is_named_with_the_known_ones(tmp_path: Path):
    text = edited(ingest__sources__weather__urll="x")
    [problem] = problems(tmp_path, text)
    assert problem == "ingest.sources.weather.urll: unknown key; did you mean 'url'?"


def test_a_missing_section_is_named(tmp_path: Path):
    config = yaml.safe_load(edited())
    del config["prove"]
    assert problems(tmp_path, yaml.safe_dump(config)) == ["prove: missing"]


def test_a_feature_that_is_known_only_later_is_refused(tmp_path: Path):
    [problem] = problems(tmp_path, edited(prepare__numbers__dep_delay="minutes"))
    assert problem == "the file: features known only later: dep_delay"


def test_a_golden_window_outside_the_test_days_is_refused(tmp_path: Path):
    [problem] = problems(tmp_path, edited(golden__start="2013-08-15"))
    assert "must lie inside the test days" in problem


def test_a_key_given_twice_is_refused(tmp_path: Path):
    [problem] = problems(tmp_path, "train: {}\ntrain: {}\n")
    assert "key 'train' is given twice" in problem


def test_a_bare_date_is_refused_because_dvc_cannot_read_it(tmp_path: Path):
    [problem] = problems(tmp_path, edited().replace("'2013-09-01'", "2013-09-01"))
    assert 'write dates in quotes, "2013-09-01"' in problem


def test_yaml_tags_never_run_code(tmp_path: Path):
    [problem] = problems(tmp_path, "train: !!python/object/apply:os.system ['touch marker']")
    assert "not readable as YAML" in problem


def test_aliases_that_could_explode_are_refused(tmp_path: Path):
    [problem] = problems(tmp_path, "a: &a [1]\nb: [*a, *a]\n")
    assert "aliases are not used" in problem


def test_a_table_name_that_is_not_an_identifier_is_refused(tmp_path: Path):
    text = edited().replace("weather:\n      columns", '"w; DROP":\n      columns')
    assert any("ingest.sources.w; DROP" in problem for problem in problems(tmp_path, text))


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path):
    assert problems(tmp_path, "- 1\n") == ["must be a mapping, got list"]


def test_sections_that_do_not_fit_together_are_told_at_once(tmp_path: Path):
    text = edited(golden__start="2013-08-15", prepare__numbers__dep_delay="minutes")
    [problem] = problems(tmp_path, text)
    assert problem == (
        "the file: golden window 2013-08-15..2013-11-01 must lie inside the test days"
        " 2013-10-01..2013-11-01; features known only later: dep_delay"
    )


def test_values_that_a_stage_could_only_stumble_over_are_refused(tmp_path: Path):
    text = edited(
        validate__rows_min=500_000,
        golden__end="2013-10-01",
        train__seed=-1,
        evaluate__tree__max_leaf_nodes=1,
    )
    assert problems(tmp_path, text) == [
        "validate: rows_min 500000 is more than rows_max 400000",
        "golden: end 2013-10-01 must be after start 2013-10-01",
        "train.seed: must be greater than or equal to 0, got -1",
        "evaluate.tree.max_leaf_nodes: must be greater than or equal to 2, got 1",
    ]


def test_a_column_known_later_that_is_not_read_is_refused_with_the_near_name(tmp_path: Path):
    text = edited(ingest__sources__flights__known_later=["arr_dely"])
    [problem] = problems(tmp_path, text)
    assert problem == (
        "ingest.sources.flights: known_later names columns that are not read: arr_dely;"
        " did you mean 'arr_delay'?"
    )


def test_when_a_value_became_known_is_a_moment_that_is_read(tmp_path: Path):
    text = edited(ingest__sources__flights__known_at="arr_delay")
    [problem] = problems(tmp_path, text)
    assert problem == (
        "ingest.sources.flights: known_at must name a timestamp or datetime that is read"
        " (time_hour), got arr_delay"
    )


def test_the_environment_is_refused_unless_the_config_says_otherwise(tmp_path: Path):
    assert load_config(REPOSITORY, "flights").environment == "refuse"
    assert problems(tmp_path, edited(environment="ignore")) == [
        "environment: must be 'refuse' or 'record', got 'ignore'"
    ]


def test_no_stage_depends_on_what_is_done_about_the_environment():
    """Or a change of it would make stages stale that it changes no byte of."""
    dag = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text("utf-8"))["stages"].values()
    stages = [stage.get("do", stage) for stage in dag]
    sections = {
        name
        for stage in stages
        for file in stage["params"]
        for kept in file.values()
        for name in kept
    }
    assert "train" in sections
    assert not any(name.startswith("environment") for name in sections)
