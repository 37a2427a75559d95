"""A config is refused before anything runs, with every problem and the way out."""

from pathlib import Path

import pytest
import yaml

from slipway.config import load_config
from slipway.errors import ConfigError
from slipway.settings.families import NetworkConfig
from tasks import names
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
    network = load_config(REPOSITORY, "flights").families.network
    assert isinstance(network, NetworkConfig)
    assert network.processes == 2


def test_an_unknown_pipeline_is_refused_with_the_near_name():
    with pytest.raises(ConfigError, match="unknown pipeline 'flight'; did you mean 'flights'"):
        load_config(REPOSITORY, "flight")


def test_a_pipeline_name_cannot_leave_the_configs_folder():
    with pytest.raises(ConfigError, match="unknown pipeline"):
        load_config(REPOSITORY, "../configs/flights")


def test_all_problems_are_gathered(tmp_path: Path):
    text = edited(prepare__shard_rows=-4, export__opst=21, golden__share_of_units=2)
    assert problems(tmp_path, text) == [
        "golden.share_of_units: must be less than or equal to 1, got 2",
        "prepare.shard_rows: must be greater than 0, got -4",
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
    assert problem.startswith("the file: features known only later")
    assert problem.endswith(": dep_delay")


@pytest.mark.parametrize("column", ["late", "distance"])
def test_neither_target_nor_weight_is_a_feature(column: str, tmp_path: Path):
    text = edited(prepare__numbers__late="?") if column == "late" else edited(ingest__weight=column)
    [problem] = problems(tmp_path, text)
    role = "target" if column == "late" else "weight"
    assert problem == f"the file: the {role} {column} is among the features"


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
    text = edited(
        ingest__time=None,
        prepare__numbers__dep_delay="minutes",
        prove__prefer=["trees"],
        export__answer__interval=0.9,
    )
    [problem] = problems(tmp_path, text)
    told = problem.removeprefix("the file: ").split("; ")
    assert [each.partition(" ")[0] for each in told] == [
        "features",
        "split.by:",
        "prove.prefer",
        "export.answer.interval",
    ]


def test_values_that_a_stage_could_only_stumble_over_are_refused(tmp_path: Path):
    text = edited(
        validate__rows_min=500_000,
        golden__rows=5,
        quantize={"int8-static": STATIC | {"method": "max"}, "int8-dynamic": {"per_channel": 7}},
        prove__quality__auc={"worst": 0.7, "loss_max": -0.1},
    )
    assert problems(tmp_path, text) == [
        "validate: rows_min 500000 is more than rows_max 400000",
        "golden.rows: must be greater than or equal to 20, got 5",
        "quantize.int8-static.method: must be 'minmax', 'entropy' or 'percentile', got 'max'",
        "quantize.int8-dynamic.per_channel: must be a valid boolean, unable to interpret input,"
        " got 7",
        "quantize.timeout_s: missing",
        "prove.quality.auc.loss_max: must be greater than or equal to 0, got -0.1",
    ]


STATIC = {"calibration_rows": 256, "per_channel": True}


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
    assert {"ingest", "split", "families.${item.family}"} <= sections
    assert not any(name.startswith("environment") for name in sections)


# targets, splits, families, answers

BINARY = {"problem": "binary", "column": "late", "positive": 1, "negative": 0}
CLASSES = {"problem": "multiclass", "column": "late", "classes": ["a", "b", "c"]}
NUMBER = {"problem": "regression", "column": "late", "unit": "minutes"}
ROWS = {"by": "rows", "validation": 0.1, "test": 0.2, "choose": 0.5}
GIVEN = {"by": "given", "column": "part", "train": 1, "validation": 2, "test": 3, "choose": 0.5}
POINT = "export.answer.operating_point"
FOUR = "needs one of cost_ratio, precision, recall, share; got"

RULES: list[tuple[str, object, str]] = [
    (
        "ingest.target",
        BINARY | {"negative": 1},
        "ingest.target: positive and negative are both 1",
    ),
    (
        "ingest.target",
        BINARY | {"negative": "1"},
        "ingest.target: positive and negative are both 1",
    ),
    (
        "ingest.target",
        BINARY | {"positive": True, "negative": "no"},
        "ingest.target: values of different types: bool, str; put them all in quotes",
    ),
    (
        "ingest.target",
        CLASSES | {"classes": ["a", "b", "a"]},
        "ingest.target: classes given twice: a",
    ),
    (
        "ingest.target",
        CLASSES | {"classes": ["a", "b", 3]},
        "ingest.target: values of different types: int, str; put them all in quotes",
    ),
    (
        "ingest.target",
        {"problem": "regression", "column": "late"},
        "ingest.target.unit: missing",
    ),
    (
        "ingest.target",
        BINARY | {"colum": "late"},
        "ingest.target.colum: unknown key; did you mean 'column'?",
    ),
    (
        "split.validation",
        {"start": "2013-08-01", "end": "2013-10-01"},
        "split: train, validation and test must follow each other in time",
    ),
    (
        "split.test",
        {"start": "2013-11-01", "end": "2013-10-01"},
        "split.test: end 2013-10-01 must be after start 2013-11-01",
    ),
    ("split.choose", 1.0, "split.choose: must be less than 1, got 1.0"),
    (
        "split",
        ROWS | {"validation": 0.8},
        "split: validation 0.8 and test 0.2 leave no rows to train on",
    ),
    ("split", ROWS | {"test": 0}, "split.test: must be greater than 0, got 0"),
    ("split", ROWS | {"by": "group"}, "split.column: missing"),
    (
        "split",
        GIVEN | {"test": 1},
        "split: train, validation and test must be different values",
    ),
    (POINT, {}, f"{POINT}: {FOUR} none"),
    (POINT, {"precision": 0.5, "recall": 0.4}, f"{POINT}: {FOUR} precision and recall"),
    (POINT, {"precision": 1.5}, f"{POINT}.precision: must be less than 1, got 1.5"),
    ("export.answer.interval", 1, "export.answer.interval: must be less than 1, got 1"),
    ("families.forest", {}, "families.forest: unknown key; known: network, trees"),
]
"""What is set to what, and what is said of it."""


def said_of(path: str, value: object, root: Path) -> str:
    [problem] = problems(root, edited(**{path.replace(".", "__"): value}))
    return problem


@pytest.mark.parametrize(("path", "value", "said"), RULES)
def test_each_rule_says_what_it_wants(path: str, value: object, said: str, tmp_path: Path):
    message = said_of(path, value, tmp_path).partition(": ")[2]
    assert message.replace("'1'", "1") == said.partition(": ")[2]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    RULES,
)
def test_each_rule_names_the_place_as_the_file_has_it(
    path: str, value: object, said: str, tmp_path: Path
):
    assert said_of(path, value, tmp_path).partition(": ")[0] == said.partition(": ")[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"families__trees__leaves": 1},
            "families.trees.leaves: must be greater than or equal to 2, got 1",
        ),
        (
            {"families__network__epoch": 1},
            "families.network.epoch: unknown key; did you mean 'epochs'?",
        ),
        (
            {"ingest__target": BINARY | {"problem": "binry"}},
            "ingest.target.problem: must be 'binary', 'multiclass' or 'regression', got 'binry'",
        ),
        ({"split": {"validation": 0.1}}, "split.by: missing"),
        (
            {"split": ROWS | {"colum": "x"}},
            "split.colum: unknown key; known: by, choose, test, validation",
        ),
    ],
)
def test_what_may_have_several_forms_is_told_once_and_of_the_form_that_it_has(
    changes: dict[str, object], said: str, tmp_path: Path
):
    assert problems(tmp_path, edited(**changes)) == [said]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"ingest__time": None},
            "split.by: time needs ingest.time, the column that places a row in time",
        ),
        ({"split": ROWS | {"by": "group", "column": "late"}}, "split.column is the target"),
        (
            {"families__trees": "off", "families__network": "off"},
            "families: all of them are off; one is needed",
        ),
        (
            {"families__trees": "off"},
            "prove.prefer must name each family that is not off once: network",
        ),
        (
            {"prove__prefer": ["trees", "trees", "network"]},
            "prove.prefer must name each family that is not off once: trees, network",
        ),
        (
            {"ingest__target": NUMBER, "export__answer__operating_point": {"recall": 0.9}},
            "export.answer.operating_point is for classes, the target is a number",
        ),
        (
            {"ingest__target": CLASSES, "export__answer__operating_point": {"recall": 0.9}},
            "export.answer.operating_point is for two classes; of several the likeliest is told",
        ),
        (
            {"export__answer__interval": 0.9},
            "export.answer.interval is for numbers, the target is one of several classes",
        ),
    ],
)
def test_sections_are_held_against_each_other(
    changes: dict[str, object], said: str, tmp_path: Path
):
    assert problems(tmp_path, edited(**changes)) == [f"the file: {said}"]


def test_classes_are_at_least_three_and_at_most_two_hundred(tmp_path: Path):
    for count, bound in ((2, "at least 3"), (201, "at most 200")):
        text = edited(ingest__target=CLASSES | {"classes": list(range(count))})
        said = f"ingest.target.classes: must have {bound} entries, got {count}"
        assert problems(tmp_path, text) == [said]


@pytest.mark.parametrize("classes", [[True, False, 1.5], [1.0, 2.0, 3.0], ["a", "b", None]])
def test_a_class_is_text_a_whole_number_or_a_truth_value(classes: list[object], tmp_path: Path):
    text = edited(ingest__target=CLASSES | {"classes": classes})
    assert all("classes" in problem for problem in problems(tmp_path, text))


@pytest.mark.parametrize("off", ["off", False])
def test_a_family_that_is_off_has_no_settings_and_is_preferred_to_none(off: object, tmp_path: Path):
    """Bare `off` is a truth value to YAML, quoted it is text: both mean it."""
    (tmp_path / "configs").mkdir()
    text = edited(families__network=off, prove__prefer=["trees"])
    (tmp_path / "configs/flights.yaml").write_text(text)
    config = load_config(tmp_path, "flights")
    assert (config.families.network, config.families.on()) == ("off", ["trees"])
    assert config.section("train", "network") == config.families
    assert config.section("train", "trees") == config.families.trees


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (BINARY, (0, 1)),
        (BINARY | {"positive": "yes", "negative": "no"}, ("no", "yes")),
        (BINARY | {"positive": False, "negative": True}, (True, False)),
        (CLASSES | {"classes": [3, 1, 2]}, (3, 1, 2)),
        (NUMBER, ()),
    ],
)
def test_a_target_keeps_its_values_in_their_own_type_the_positive_one_last(
    target: dict[str, object], classes: tuple[object, ...], tmp_path: Path
):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/flights.yaml").write_text(edited(ingest__target=target))
    found = load_config(tmp_path, "flights").ingest
    assert [(type(v), v) for v in found.target.classes] == [(type(v), v) for v in classes]
    assert (found.problem, found.label) == (target["problem"], "late")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"prove__quality": {"auc": {"worst": 0.7, "loss_max": 0.1}}},
            ["prove.quality: must limit auc and log_loss, by which a binary model is judged;"
             " limits auc"],
        ),
        (
            {"release__limits__quality": {}},
            ["release.limits.quality: must limit auc and log_loss, by which a binary model is"
             " judged; limits nothing"],
        ),
        (
            {"ingest__target": NUMBER, "release__limits__quality": {"rmse": 0.1, "mae": 0.1}},
            ["prove.quality: must limit rmse and mae, by which a regression model is judged;"
             " limits auc, log_loss"],
        ),
        (
            {"ingest__target": BINARY | {"positive": "yes", "negative": "no"}},
            ["ingest.target: 'late' is TINYINT, its values here ('no', 'yes') are of another type;"
             " write them as the column has them, or CAST it AS VARCHAR in ingest.query"],
        ),
        (
            {"ingest__target__column": "lte"},
            ["ingest.target.column: the query gives no column 'lte'; did you mean 'late'?"],
        ),
        (
            {"ingest__weight": "ditance"},
            ["ingest.weight: the query gives no column 'ditance'; did you mean 'distance'?"],
        ),
    ],
)  # fmt: skip
def test_targets_and_limits_are_held_against_the_columns_and_the_measures(
    changes: dict[str, object], said: list[str], tmp_path: Path
):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/flights.yaml").write_text(edited(**changes))
    with pytest.raises(ConfigError) as caught:
        names.check(tmp_path, "flights", load_config(tmp_path, "flights"), None)
    assert caught.value.problems == said


@pytest.mark.parametrize("by", ["group", "given"])
def test_the_column_that_parts_rows_is_one_that_the_query_gives(by: str, tmp_path: Path):
    split = GIVEN if by == "given" else ROWS | {"by": "group"}
    (tmp_path / "configs").mkdir()
    text = edited(split=split | {"column": "carier"})
    (tmp_path / "configs/flights.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"split\.column: the query gives no column 'carier'"):
        names.check(tmp_path, "flights", load_config(tmp_path, "flights"), None)


@pytest.mark.parametrize(
    "changes", [{"split": GIVEN | {"column": "late"}}, {"ingest__weight": "late"}]
)
def test_the_target_neither_parts_rows_nor_weighs_them(changes: dict[str, object], tmp_path: Path):
    [problem] = problems(tmp_path, edited(**changes))
    assert "is the target" in problem
