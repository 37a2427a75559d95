"""Parts as Arrow files: codes, raw numbers, labels, units, weights, and the features' facts."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from slipway.errors import SlipwayError
from slipway.problem import Target
from tasks.shards import Rows, read_features, read_shards, read_split, read_train, target_of
from tasks.splitting import PARTS
from tasks.tables import open_table
from tests.unit.tasks.small_tables import (
    BY_GROUP,
    BY_ROWS,
    BY_TIME,
    GIVEN,
    LATE,
    ROWS,
    more_columns,
    run_prepare,
    table,
    with_column,
    write_folder,
)

ALL_PARTS = ("stop", "choose", "test")
SIZE_OF_IDS = {"numbers": {"id": "its number"}}


def read_all(out: Path) -> dict[str, Rows]:
    return {"train": read_train(out), **{name: read_split(out, name) for name in ALL_PARTS}}


def number(out: Path, place: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = read_features(out)["numbers"][place]
    return found


def sizes(values: Any) -> pa.Table:
    return with_column(table(len(values)), "size", pa.array(values, from_pandas=True))


@pytest.mark.parametrize("split", [BY_TIME, BY_ROWS, BY_GROUP, GIVEN], ids=lambda s: s["by"])
def test_every_part_holds_its_rows_in_the_order_of_the_table(tmp_path: Path, split: dict[str, Any]):
    out = run_prepare(tmp_path, more_columns(), split, settings=SIZE_OF_IDS)
    found = {name: rows.numbers[:, 0].astype(int).tolist() for name, rows in read_all(out).items()}
    assert all(keys == sorted(keys) and keys for keys in found.values())
    together = [key for keys in found.values() for key in keys]
    assert len(together) == len(set(together))
    assert split["by"] == "given" or len(together) == ROWS
    assert read_features(out)["rows"] == {name: len(found[name]) for name in PARTS}


def test_rows_of_a_unit_have_one_number_and_others_have_another(tmp_path: Path):
    out = run_prepare(tmp_path, more_columns(), BY_TIME, settings=SIZE_OF_IDS)
    days: dict[int, set[int]] = {}
    for rows in read_all(out).values():
        for key, unit in zip(rows.numbers[:, 0].astype(int), rows.units.tolist(), strict=True):
            days.setdefault(key * 60 // ROWS, set()).add(unit)
    assert len(days) == 60
    assert {len(units) for units in days.values()} == {1}
    assert len({min(units) for units in days.values()}) == 60


@pytest.mark.parametrize("rows", [3000, 140_000])
def test_shards_hold_the_training_rows_one_after_the_other(tmp_path: Path, rows: int):
    settings = {"shard_rows": rows // 10 + 1, **SIZE_OF_IDS}
    out = run_prepare(tmp_path, table(rows), BY_TIME, settings=settings)
    shards = read_shards(out)
    assert len(list(out.glob("train-*.arrow"))) == -(-len(shards) // (rows // 10 + 1)) == 7
    everything = shards.take(np.arange(len(shards)))
    assert everything.numbers[:, 0].tolist() == list(range(len(shards)))
    some = np.array([len(shards) - 1, 0, 777, rows // 10 + 1, rows // 10])
    taken = shards.take(some)
    assert np.array_equal(taken.numbers, everything.numbers[some])
    assert np.array_equal(taken.labels, everything.labels[some])
    assert np.array_equal(taken.units, everything.units[some])
    assert np.array_equal(taken.categories, everything.categories[some])


def test_the_same_table_gives_the_same_bytes_again(tmp_path: Path):
    one, two = (run_prepare(tmp_path / n, more_columns(), BY_GROUP) for n in "ab")
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_values_not_seen_in_training_get_the_code_of_unknown(tmp_path: Path):
    rows = table()
    kinds = rows["kind"].to_pylist()
    kinds[-1], kinds[-2], kinds[-3] = "never seen", None, ""
    out = run_prepare(tmp_path, with_column(rows, "kind", kinds))
    assert read_split(out, "test").categories[-4:, 0].tolist() == [1, 0, 0, 0]
    assert read_features(out)["categories"][0]["vocabulary"] == ["a", "b"]


def test_a_value_of_too_few_training_rows_is_unknown(tmp_path: Path):
    kinds = table()["kind"].to_pylist()
    kinds[:4], kinds[4:9] = ["four"] * 4, ["five"] * 5
    kinds[-50:] = ["four"] * 50  # in test rows, which nobody learns from
    out = run_prepare(tmp_path, with_column(table(), "kind", kinds))
    assert read_features(out)["categories"][0]["vocabulary"] == ["a", "b", "five"]
    assert read_train(out).categories[:9, 0].tolist() == [0] * 4 + [3] * 5


def test_a_category_without_any_value_is_refused(tmp_path: Path):
    with pytest.raises(SlipwayError, match=r"prepare\.categories\.kind: no value has 5 training"):
        run_prepare(tmp_path, with_column(table(), "kind", pa.nulls(ROWS, pa.string())))


def test_statistics_come_from_training_rows_alone(tmp_path: Path):
    found = table()["size"].to_numpy().copy()
    found[-1000:] = 1e6
    assert number(run_prepare(tmp_path, sizes(found)))["max"] == 6


def test_missing_and_infinite_numbers_become_nan(tmp_path: Path):
    found = table()["size"].to_pylist()
    found[0], found[1] = None, float("nan")
    found[-1], found[-2], found[-3] = None, float("inf"), float("-inf")
    out = run_prepare(tmp_path, sizes(pa.array(found, pa.float32())))
    assert np.isnan(read_split(out, "test").numbers[-3:, 0]).all()
    assert number(out)["missing_share"] == pytest.approx(2 / 2000)


def test_one_value_of_1e30_moves_neither_center_nor_scale(tmp_path: Path):
    dice = np.random.default_rng(0)
    usual = dice.normal(50, 10, ROWS)
    odd = usual.copy()
    odd[[3, 77]] = 1e30
    one, two = (number(run_prepare(tmp_path / n, sizes(v))) for n, v in (("a", usual), ("b", odd)))
    assert two["center"] == pytest.approx(one["center"], rel=1e-3)
    assert two["scale"] == pytest.approx(one["scale"], rel=1e-2)
    assert one["scale"] == pytest.approx(10, rel=0.05)  # that of the normal distribution
    assert two["max"] == float(np.float32(1e30))


def test_one_value_of_1e30_does_not_move_the_scale_of_a_column_that_is_mostly_one_value(
    tmp_path: Path,
):
    values = np.where(np.arange(ROWS) % 5 == 0, 1.0 + np.arange(ROWS) % 3, 0.0)
    values[3] = 1e30
    assert number(run_prepare(tmp_path, sizes(values)))["scale"] < 100


def test_a_column_of_which_a_half_is_one_value_is_measured_by_all_but_its_ends(
    tmp_path: Path,
):
    values = np.where(np.arange(ROWS) % 5 == 0, 10.0, 0.0)
    # 98 % of a normal distribution lie within 4.652 of its standard deviations
    assert number(run_prepare(tmp_path, sizes(values)))["scale"] == pytest.approx(10 / 4.652)


def test_a_constant_has_a_scale_of_one_however_large_it_is(tmp_path: Path):
    found = number(run_prepare(tmp_path, sizes(np.full(ROWS, 1e9))))
    assert (found["center"], found["scale"], found["quantiles"]) == (1e9, 1.0, [1e9])


@pytest.mark.parametrize(
    ("base", "step"),
    [
        (1e9, 1.0),
        (1.7e9, 60.0),
        (5e4, 1e-3),
        pytest.param(1e5, 1e-4),
        pytest.param(1.0, 1e-9),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_refused(
    tmp_path: Path, base: float, step: float
):
    with pytest.raises(SlipwayError, match="which float32 cannot tell apart; subtract"):
        run_prepare(tmp_path, sizes(base + step * (np.arange(ROWS) % 5)))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_a_number_beyond_float32_is_as_missing_as_an_infinite_one(tmp_path: Path):
    values = np.arange(ROWS) % 7.0
    values[3] = 1e300
    found = number(run_prepare(tmp_path, sizes(values)))
    assert (found["max"], found["missing_share"]) == (6.0, pytest.approx(1 / 2000))


def test_quantiles_ascend_and_differ_from_the_least_to_the_largest(tmp_path: Path):
    found = number(run_prepare(tmp_path, sizes(np.random.default_rng(1).exponential(size=ROWS))))
    quantiles = found["quantiles"]
    assert len(quantiles) == 49
    assert quantiles == sorted(set(quantiles))
    assert (quantiles[0], quantiles[-1]) == (found["min"], found["max"])


def test_a_feature_that_the_query_does_not_give_is_refused(tmp_path: Path):
    with pytest.raises(SlipwayError, match="names columns that the query does not give: weight"):
        run_prepare(tmp_path, table(), settings={"numbers": {"weight": "kg"}})


def test_a_number_used_as_a_category_is_refused_with_the_way_out(tmp_path: Path):
    settings = {"categories": {"size": "x"}, "numbers": {"id": "x"}}
    with pytest.raises(SlipwayError, match="must be text, is FLOAT; CAST it"):
        run_prepare(tmp_path, table(), settings=settings)


@pytest.mark.parametrize("name", ["kind", "at"])
def test_what_is_no_number_is_refused_by_its_name(tmp_path: Path, name: str):
    settings = {"categories": {}, "numbers": {name: "x"}}
    with pytest.raises(SlipwayError, match=rf"prepare\.numbers\.{name}: must be a number"):
        run_prepare(tmp_path, table(), settings=settings)


def test_a_number_that_every_training_row_lacks_is_refused(tmp_path: Path):
    values = np.where(np.arange(ROWS) < 2000, np.nan, 1.0)
    with pytest.raises(SlipwayError, match=r"prepare\.numbers\.size: every training row lacks it"):
        run_prepare(tmp_path, sizes(values))


@pytest.mark.parametrize(
    "settings", [{"categories": {}}, {"numbers": {}}], ids=["no category", "no number"]
)
def test_a_table_may_have_features_of_one_kind_alone(tmp_path: Path, settings: dict[str, Any]):
    out = run_prepare(tmp_path, table(), settings=settings)
    widths = (int("categories" not in settings), int("numbers" not in settings))
    for name, rows in read_all(out).items():
        assert (rows.categories.shape[1], rows.numbers.shape[1]) == widths
        assert len(rows.categories) == len(rows.numbers) == len(rows) > 0, name
    assert len(read_shards(out).take(np.array([1, 0])).categories) == 2


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_period_without_rows_is_refused_with_what_the_data_covers(tmp_path: Path, part: str):
    years = {"train": "2001", "validation": "2024", "test": "2031"}
    empty = {"start": f"{years[part]}-02-11", "end": f"{years[part]}-02-13"}
    split = {**BY_TIME, part: empty}
    rows = table()
    if part == "validation":
        days = [f"{at:%m-%d}" not in ("02-11", "02-12") for at in rows["at"].to_pylist()]
        rows = rows.filter(pa.array(days))
    covers = ["2024-01-01T00:00:00", "2024-02-29T23:31:00"]
    name = {"validation": "stop"}.get(part, part)
    with pytest.raises(SlipwayError) as caught:
        run_prepare(tmp_path, rows, split, time_range=covers)
    assert str(caught.value).startswith(f"there are no {name} rows among {len(rows):,}; the data")
    assert "covers 2024-01-01T00:00:00 to 2024-02-29T23:31:00; see the section split" in str(
        caught.value
    )


def test_a_group_column_that_the_query_does_not_give_is_refused(tmp_path: Path):
    with pytest.raises(SlipwayError, match="customer"):
        run_prepare(tmp_path, table(), BY_GROUP)


def labelled(values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    return with_column(table(), "late", pa.array(values, kind))


SEVERAL = Target("late", "multiclass", ("low", "mid", "high"))
NUMBER = Target("late", "regression")


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        (LATE, [None, 0, 1] * 1000, r"has no value in 667 of 2,000 rows of the train rows"),
        (LATE, [0] * ROWS, r"must hold 0, 1 in the train rows, found only 0; there is no row of 1"),
        (LATE, [0, 1, 2] * 1000, r"must hold 0, 1 only in the train rows, found 2"),
        (LATE, [0, 1] * 1250 + [0] * 500, r"found only 0; there is no row of 1"),
        (LATE, ["0", "1"] * 1500, r"they are of the type str there: write them so"),
        (SEVERAL, ["low", "mid", "high", "?"] * 750, r"must hold 'high', 'low', 'mid' only"),
        (SEVERAL, ["low", "mid"] * 1500, r"no training row has 'high'; leave such a class out"),
        (SEVERAL, ["low"] * ROWS, r"must hold at least two of its classes in the train rows"),
        (NUMBER, ["1.5", "2"] * 1500, r"must be a number in the train rows, is a text"),
        (NUMBER, [1.5, float("nan")] * 1500, r"has NaN or an infinite value in 1,000 of 2,000"),
        (NUMBER, [1.5, float("inf")] * 1500, r"has NaN or an infinite value in 1,000 of 2,000"),
        (NUMBER, [1.5, None] * 1500, r"has no value in 1,000 of 2,000 rows"),
        (NUMBER, [7.25] * ROWS, r"must vary in the train rows, is 7\.25 in every row"),
    ],
)
def test_a_target_that_leaves_nothing_to_learn_or_to_measure_is_refused(
    tmp_path: Path, target: Target, values: list[Any], message: str
):
    with pytest.raises(SlipwayError, match=message):
        run_prepare(tmp_path, labelled(values), target=target)


def test_one_odd_label_far_behind_in_one_part_is_found(tmp_path: Path):
    values: list[Any] = [1.5, 2.5] * 1500
    values[-1] = float("nan")
    with pytest.raises(SlipwayError, match=r"in 1 of 500 rows of the test rows"):
        run_prepare(tmp_path, labelled(values), target=NUMBER)


@pytest.mark.parametrize(
    ("target", "values", "labels"),
    [
        (Target("late", "binary", ("no", "yes")), ["yes", "no"], [1, 0]),
        (Target("late", "binary", (True, False)), [True, False], [0, 1]),
        (Target("late", "binary", (7, 3)), [7, 3], [0, 1]),
        (SEVERAL, ["high", "low", "mid"], [2, 0, 1]),
        (Target("late", "multiclass", (30, 10, 20)), [10, 20, 30], [1, 2, 0]),
        (NUMBER, [1.5, -2.25], [1.5, -2.25]),
        (NUMBER, [3, 4], [3.0, 4.0]),
        (NUMBER, [1.7e9 + 0.25, 1.7e9], [1.7e9 + 0.25, 1.7e9]),
    ],
)
def test_labels_are_the_places_of_classes_or_the_numbers_themselves(
    tmp_path: Path, target: Target, values: list[Any], labels: list[float]
):
    out = run_prepare(tmp_path, labelled(values * (ROWS // len(values))), target=target)
    found = read_train(out).labels
    assert found.dtype == np.float64
    assert found[: 2 * len(labels)].tolist() == labels * 2
    assert target_of(read_features(out)) == target


def test_the_facts_describe_every_part_in_the_problems_numbers(tmp_path: Path):
    values = [1.0, 3.0] * 1500
    found = read_features(run_prepare(tmp_path, labelled(values), target=NUMBER))
    assert found["target"] == {"name": "late", "problem": "regression", "classes": []}
    assert found["parts"]["train"] == {"rows": 2000, "mean": 2.0, "std": 1.0}
    assert found["parts"]["test"] == {"rows": 500, "mean": 2.0, "std": 1.0}
    assert found["weight"] is None
    assert set(found["parts"]) == set(PARTS)


WEIGHTS = [0.0, 1.0, 3.0] * 1000


def test_weights_go_along_with_their_rows(tmp_path: Path):
    rows = with_column(table(), "count", WEIGHTS)
    out = run_prepare(tmp_path, rows, weight="count", settings=SIZE_OF_IDS)
    for part in read_all(out).values():
        assert part.weights is not None
        assert part.weights.tolist() == [WEIGHTS[int(key)] for key in part.numbers[:, 0]]
    taken = read_shards(out).take(np.array([1999, 2])).weights
    assert taken is not None
    assert taken.tolist() == [1.0, 3.0]


def test_weights_count_in_what_the_parts_hold(tmp_path: Path):
    rows = with_column(labelled([5.0, 1.0, 2.0] * 1000), "count", WEIGHTS)
    found = read_features(run_prepare(tmp_path, rows, target=NUMBER, weight="count"))
    # 2,000 rows: 667 of 5.0 that count nothing, 667 of 1.0, 666 of 2.0 that count three times
    assert found["parts"]["train"]["mean"] == pytest.approx((667 + 666 * 6) / (667 + 666 * 3))
    assert found["weight"] == "count"


@pytest.mark.parametrize("odd", [-1.0, float("nan"), float("inf"), None])
def test_a_weight_that_is_none_is_refused(tmp_path: Path, odd: float | None):
    weights: list[float | None] = [*WEIGHTS[:-1], odd]
    with pytest.raises(SlipwayError, match=r"ingest\.weight 'count' must be a finite number of at"):
        run_prepare(tmp_path, with_column(table(), "count", weights), weight="count")


def test_a_part_in_which_nothing_counts_is_refused(tmp_path: Path):
    weights = [1.0] * 2500 + [0.0] * 500
    with pytest.raises(SlipwayError, match="and more than 0 somewhere in each part"):
        run_prepare(tmp_path, with_column(table(), "count", weights), weight="count")


def test_many_rows_one_after_the_other_may_count_nothing(tmp_path: Path):
    weights = np.ones(105_000)
    weights[65_536:70_000] = 0  # the end of the training rows
    rows = with_column(table(105_000), "count", weights)
    out = run_prepare(tmp_path, rows, weight="count", settings={"shard_rows": 70_000})
    assert read_features(out)["rows"]["train"] == 70_000


def test_a_column_may_be_called_like_one_of_the_files(tmp_path: Path):
    settings = {"categories": {}, "numbers": {"size": "x"}}
    rows = with_column(table(), "unit", list(range(ROWS)))
    out = run_prepare(tmp_path, rows, settings=settings)
    assert not np.array_equal(read_train(out).units, np.arange(len(read_train(out))))


def test_a_table_is_read_by_one_thread_since_several_hand_batches_over_in_any_order(tmp_path: Path):
    rows = table(200_000)
    folder = write_folder(tmp_path / "valid", rows)
    with open_table(folder) as database:
        [(threads,)] = database.execute("SELECT current_setting('threads')").fetchall()
        ids = database.sql("SELECT id FROM rows").to_arrow_reader(1 << 12).read_all()["id"]
    assert threads == 1
    assert ids.equals(rows["id"])
