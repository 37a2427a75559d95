"""Boosted trees answer as LightGBM does, bit for bit, and so does the graph made of them."""

import math
import subprocess
import sys
from dataclasses import replace

import lightgbm
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import SlipwayError
from tasks import graph
from tasks.models.trees.boosted import fit, load, save
from tasks.models.trees.boosting import boost, side_by_side
from tasks.models.trees.forest import LEAF
from tasks.models.trees.graph import make_core, round_leaves
from tasks.models.trees.settings import LabelledRows, Settings
from tasks.models.trees.text import read_forest

SETTINGS = Settings(
    iterations=6,
    learning_rate=0.3,
    leaves=12,
    min_leaf_rows=2,
    l2=0.5,
    row_share=1.0,
    column_share=1.0,
    patience=2,
    seed=3,
)

TINY = np.float32(1e-45)  # the smallest float32 above zero
LARGEST = np.finfo(np.float32).max
ODD = np.array(
    [0, -0.0, TINY, -TINY, 1e-40, 1e-35, -1e-35, LARGEST, -LARGEST, np.inf, -np.inf, np.nan],
    np.float32,
)
"""Numbers at which comparisons go wrong."""

ODD_CODES = np.array([-7, -1, 999, 1000, 1 << 20])
"""Codes that no tree of these tests has seen, beside 0."""


def make_rows(seed, problem="binary", classes=2, columns=2, numbers=2, rows=400, missing=0.1):
    """Make rows whose labels follow their columns, with odd numbers among them."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 60, columns)
    codes = np.stack([rng.integers(0, size, rows) for size in sizes], 1) if columns else None
    codes = np.zeros((rows, 0), np.int32) if codes is None else codes.astype(np.int32)
    values = rng.normal(0, 10.0 ** rng.integers(-3, 4), (rows, numbers)).astype(np.float32)
    odd = rng.random((rows, numbers)) < missing
    values[odd] = rng.choice(ODD, odd.sum())
    plain = np.clip(np.nan_to_num(values), -1e4, 1e4).astype(np.float64)
    signal = (codes % 5).sum(1) + 3 * np.sign(plain).sum(1) + rng.normal(size=rows)
    ranks = signal.argsort().argsort() / rows
    labels = signal * 1000 if problem == "regression" else np.floor(ranks * classes)
    return LabelledRows(codes, values, labels)


def boundary_rows(forest, seed, rows=300):
    """Make rows of numbers on both sides of every threshold, odd ones, seen and unseen codes."""
    rng = np.random.default_rng(seed)
    values = np.empty((rows, forest.numbers), np.float32)
    for column in range(forest.numbers):
        here = forest.nodes.threshold[forest.nodes.feature == column]
        with np.errstate(over="ignore"):  # the next after the largest is infinite
            around = [np.nextafter(here, np.float32(to)) for to in (-np.inf, np.inf)]
        values[:, column] = rng.choice(np.concatenate([here, *around, ODD]), rows)
    codes = [
        rng.choice(np.append(np.arange(len(table) + 2), ODD_CODES), rows)
        for table in forest.outside
    ]
    return np.stack(codes, 1) if codes else np.zeros((rows, 0), np.int64), values


def run_graph(core, categories, numbers, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        core.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    columns = {graph.CATEGORIES: categories.astype(np.int64), graph.NUMBERS: numbers}
    feed = {each.name: columns[each.name] for each in session.get_inputs()}
    return session.run(None, feed)[0]


def with_exact_leaves(forest):
    """Round leaves as the graph has them: their sums know no order."""
    nodes = forest.nodes
    trees = np.searchsorted(forest.roots, np.arange(len(nodes.feature)), side="right") - 1
    leaf = nodes.feature == LEAF
    value = np.zeros(len(nodes.value))
    value[leaf] = round_leaves(nodes.value[leaf], trees[leaf])
    return replace(forest, nodes=replace(nodes, value=value))


def numbering_leaves(forest):
    """Make every tree answer for itself, with the position of its leaf."""
    trees = len(forest.roots)
    value = np.arange(len(forest.nodes.value), dtype=np.float64)
    return replace(
        forest,
        nodes=replace(forest.nodes, value=value),
        outputs=np.arange(trees, dtype=np.int32),
        base=np.zeros(trees),
    )


def leaves_of(booster, forest, categories, numbers, rounds=None):
    """Return LightGBM's leaves as positions among the forest's nodes: splits come first."""
    found = booster.predict(side_by_side(categories, numbers), pred_leaf=True, num_iteration=rounds)
    sizes = np.diff(np.append(forest.roots, len(forest.nodes.feature)))
    return found.reshape(len(numbers), -1) + forest.roots + (sizes - 1) // 2


targets = st.one_of(
    st.just(("binary", 2)),
    st.just(("regression", 1)),
    st.integers(3, 20).map(lambda k: ("multiclass", k)),
)


@settings(max_examples=20, deadline=None)
@given(
    target=targets,
    seed=st.integers(0, 1 << 30),
    shape=st.sampled_from([(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (2, 3)]),
    rows=st.sampled_from([30, 300, 1000]),
    missing=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_trees_answer_as_lightgbm_and_the_graph_as_the_trees(target, seed, shape, rows, missing):
    problem, classes = target
    train = make_rows(seed, problem, classes, *shape, rows=rows, missing=missing)
    outputs = classes if problem == "multiclass" else 1
    boosting = boost(SETTINGS, (problem, outputs), train)
    model = fit(SETTINGS, problem, classes, train)
    forest = model.forest
    categories, numbers = boundary_rows(forest, seed, rows=200)
    theirs = boosting.booster.predict(side_by_side(categories, numbers), raw_score=True)
    theirs = theirs.reshape(len(numbers), outputs)

    scores = model.score(categories, numbers)
    assert (scores == boosting.unit.centre + boosting.unit.size * theirs).all()
    leaves = forest.find_leaves(categories, numbers)
    assert (leaves == leaves_of(boosting.booster, forest, categories, numbers)).all()
    numbering = make_core(numbering_leaves(forest), opset=20)
    assert (run_graph(numbering, categories, numbers) == leaves).all()
    exact = with_exact_leaves(forest).sum_scores(categories, numbers).astype(np.float32)
    answered = run_graph(model.to_core(20), categories, numbers)
    assert (answered == exact).all()
    size = np.abs(forest.base).max() + np.abs(forest.nodes.value[leaves]).sum(1, keepdims=True)
    assert (np.abs(answered - scores) <= 1e-6 * size).all()


THRESHOLDS = [0.0, -0.0, 1e-36, -1e-36, 1e-35, -1e-35, 1e-45, 1e300, -1e300, 0.1, -0.1, 16777217.0]


def write_tree(rng):
    """Write a tree as LightGBM does, with thresholds and sets that fitting would hardly make."""
    splits = int(rng.integers(0, 12))
    children, free = np.zeros((splits, 2), int), [(None, 0)]
    for split in range(splits):  # each split takes the place of a leaf
        place = free.pop(int(rng.integers(len(free))))
        if place[0] is not None:
            children[place] = split
        free += [(split, 0), (split, 1)]
    for leaf, place in enumerate(free):
        if place[0] is not None:
            children[place] = ~leaf
    columns, kinds = rng.integers(0, 2, splits), 8 * rng.integers(0, 2, splits)
    thresholds = np.where(
        rng.random(splits) < 0.5,
        rng.choice(THRESHOLDS, splits),
        rng.normal(size=splits) * 10.0 ** rng.integers(-40, 40, splits),
    )
    asks_category = columns == 0
    kinds += np.where(asks_category, 1, 2 * rng.integers(0, 2, splits))
    thresholds[asks_category] = np.arange(asks_category.sum())
    sizes = rng.integers(1, 4, asks_category.sum())
    words = rng.integers(0, 2**32, sizes.sum()) * rng.integers(0, 2, sizes.sum())
    fields = {"num_leaves": [splits + 1], "num_cat": [len(sizes)]}
    if splits:
        fields |= {"split_feature": columns, "threshold": thresholds, "decision_type": kinds}
        fields |= {"left_child": children[:, 0], "right_child": children[:, 1]}
    fields["leaf_value"] = rng.normal(size=splits + 1) * 10.0 ** rng.integers(-9, 9)
    if len(sizes):
        fields |= {"cat_boundaries": np.append(0, np.cumsum(sizes)), "cat_threshold": words}
    fields |= {"is_linear": [0], "shrinkage": [1]}
    return "\n".join(f"{name}={' '.join(map(str, each))}" for name, each in fields.items())


def write_model(trees):
    head = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        "max_feature_idx=1\nobjective=regression\nfeature_names=a b\nfeature_infos=none none\n\n"
    )
    parts = [f"Tree={i}\n{tree}\n\n\n" for i, tree in enumerate(trees)]
    return head + "".join(parts) + "end of trees\n"


@settings(max_examples=40, deadline=None)
@given(trees=st.integers(1, 5), seed=st.integers(0, 1 << 30))
def test_any_tree_that_can_be_written_is_read_as_lightgbm_reads_it(trees, seed):
    rng = np.random.default_rng(seed)
    text = write_model([write_tree(rng) for _ in range(trees)])
    booster = lightgbm.Booster(model_str=text)
    forest = read_forest(text, columns=1, numbers=1, outputs=1)
    categories, numbers = boundary_rows(forest, seed)

    leaves = forest.find_leaves(categories, numbers)
    assert (leaves == leaves_of(booster, forest, categories, numbers)).all()
    numbering = make_core(numbering_leaves(forest), opset=20)
    assert (run_graph(numbering, categories, numbers) == leaves).all()
    scores = forest.sum_scores(categories, numbers)
    theirs = booster.predict(side_by_side(categories, numbers), raw_score=True)
    assert (scores[:, 0] == theirs).all()


@pytest.mark.parametrize(
    ("problem", "classes"), [("binary", 2), ("multiclass", 4), ("regression", 1)]
)
def test_a_rows_answer_is_the_same_bits_in_every_batch_and_with_any_threads(problem, classes):
    train = make_rows(5, problem, classes, 2, 3, rows=2000)
    model = fit(replace(SETTINGS, iterations=150), problem, classes, train)
    core = model.to_core(20)
    categories, numbers = boundary_rows(model.forest, 6, rows=512)
    whole = run_graph(core, categories, numbers)
    for threads in (1, 2):
        for rows in (1, 7, 256):
            part = run_graph(core, categories[:rows], numbers[:rows], threads)
            assert (part == whole[:rows]).all()


def test_rounded_leaves_add_up_to_the_same_in_any_order():
    rng = np.random.default_rng(2)
    trees, leaves = 300, 31
    values = rng.normal(size=(trees, leaves)) * 10.0 ** rng.integers(-9, 1, (trees, 1))
    rounded = round_leaves(values.ravel(), np.repeat(np.arange(trees), leaves))
    rounded = rounded.reshape(values.shape)
    bound = np.abs(values).max(1).sum()
    assert np.abs(rounded - values).max() <= 2.0**-52 * bound
    for _ in range(200):
        row = rounded[np.arange(trees), rng.integers(0, leaves, trees)]
        sums = {np.add.reduce(rng.permutation(row)) for _ in range(5)} | {math.fsum(row)}
        assert len(sums) == 1


def test_leaves_that_are_all_zero_or_too_small_to_round_stay_what_they_are():
    for tiny in (0.0, 5e-324, 1e-310):
        assert round_leaves(np.array([tiny]), np.array([0])).tolist() == [tiny]


def test_constant_labels_and_constant_columns_make_trees_of_one_leaf():
    rows = 50
    for columns, numbers in ((1, 1), (0, 1), (1, 0)):
        train = LabelledRows(
            np.zeros((rows, columns), np.int32), np.ones((rows, numbers), np.float32), np.ones(rows)
        )
        model = fit(SETTINGS, "regression", 1, train)
        assert (model.score(train.categories, train.numbers) == 1.0).all()
        answered = run_graph(model.to_core(20), train.categories, train.numbers)
        assert answered.shape == (rows, 1)
        assert (answered == 1.0).all()


def test_numbers_far_from_zero_are_told_apart_by_seconds():
    rng = np.random.default_rng(1)
    codes = rng.integers(1, 9, (4000, 1)).astype(np.int32)
    labels = 1.7e9 + codes[:, 0]  # float32 holds these to 128
    train = LabelledRows(codes, np.zeros((4000, 0), np.float32), labels)
    model = fit(replace(SETTINGS, iterations=100), "regression", 1, train)
    assert np.abs(model.score(codes, train.numbers)[:, 0] - labels).max() < 0.1


def test_boosting_ends_by_the_stop_rows_and_keeps_what_answers_them_best():
    # none at -1e-35, which LightGBM takes for zero in answers, but not while it fits
    train, stop = (make_rows(seed, rows=300, missing=0.0) for seed in (1, 2))
    told = []
    lasting = replace(SETTINGS, iterations=200, patience=7)
    model = fit(lasting, "binary", 2, train, stop=stop, progress=lambda *at: told.append(at))
    losses = [loss for _, loss in told]
    best = int(np.argmin(losses)) + 1
    assert len(model.forest.roots) == best
    assert len(told) == best + 7
    assert [round_ for round_, _ in told] == list(range(1, best + 8))
    logit = model.score(stop.categories, stop.numbers)[:, 0]
    loss = np.mean(np.logaddexp(0, np.where(stop.labels == 1, -logit, logit)))
    assert losses[best - 1] == pytest.approx(loss, rel=1e-6)


def test_weights_count_as_repeated_rows_do():
    train = make_rows(4, rows=300)
    weights = np.where(train.labels == 1, 3.0, 1.0)
    weighted = fit(SETTINGS, "binary", 2, replace(train, weights=weights))
    first = weighted.score(train.categories, train.numbers).mean()
    assert first > fit(SETTINGS, "binary", 2, train).score(train.categories, train.numbers).mean()


@pytest.mark.parametrize("problem", ["binary", "regression"])
def test_a_model_comes_back_from_its_folder(problem, tmp_path):
    model = fit(SETTINGS, problem, 2, make_rows(7, problem))
    save(model, tmp_path)
    back = load(tmp_path)
    assert back.problem == problem
    assert back.to_core(20) == model.to_core(20)
    categories, numbers = boundary_rows(model.forest, 8)
    assert (back.score(categories, numbers) == model.score(categories, numbers)).all()


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_the_same_rows_give_the_same_bytes_with_any_threads(share, tmp_path):
    train = make_rows(9, rows=3000, columns=3, numbers=3)
    found = set()
    for threads in (1, 2, 1):
        drawn = replace(SETTINGS, threads=threads, row_share=share, column_share=share)
        save(fit(drawn, "binary", 2, train), tmp_path)
        found.add(b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir())))
    assert len(found) == 1


def test_another_seed_draws_other_rows_and_columns():
    train = make_rows(9, rows=3000, columns=3, numbers=3)
    for shares in ({"row_share": 0.7}, {"column_share": 0.5}):
        first = fit(replace(SETTINGS, **shares), "binary", 2, train)
        second = fit(replace(SETTINGS, **shares, seed=4), "binary", 2, train)
        every = fit(SETTINGS, "binary", 2, train)
        assert first.to_core(20) != every.to_core(20)
        assert first.to_core(20) != second.to_core(20)


def test_a_core_takes_only_the_columns_that_there_are():
    for columns, numbers, names in ((2, 0, ["categories"]), (0, 2, ["numbers"])):
        train = make_rows(3, columns=columns, numbers=numbers)
        core = fit(SETTINGS, "binary", 2, train).to_core(20)
        assert [each.name for each in core.graph.input] == names


def test_a_core_goes_with_the_encoders_of_raw_columns():
    core = fit(SETTINGS, "binary", 2, make_rows(3)).to_core(20)
    imports = {each.domain: each.version for each in core.opset_import}
    assert imports == {"": 20, "ai.onnx.ml": graph.ENCODER_OPSET}


def test_a_problem_that_trees_do_not_know_is_refused():
    with pytest.raises(SlipwayError, match="binary, multiclass, regression"):
        fit(SETTINGS, "ranking", 1, make_rows(1))


@pytest.mark.parametrize(
    ("problem", "label", "told"),
    [
        ("binary", 2.0, "train rows: labels of binary are 0 .. 1; 1 of 400 are not"),
        ("multiclass", np.nan, "the first is nan"),
        ("regression", np.inf, "finite numbers"),
    ],
)
def test_labels_that_mean_nothing_are_refused(problem, label, told):
    train = make_rows(1, problem)
    train.labels[7] = label
    with pytest.raises(SlipwayError, match=told):
        fit(SETTINGS, problem, 2, train)
    with pytest.raises(SlipwayError, match="stop rows"):
        fit(SETTINGS, problem, 2, make_rows(1, problem), stop=train)


def test_a_class_that_no_row_has_is_all_but_impossible():
    train = make_rows(1, "multiclass", 3)
    scores = fit(SETTINGS, "multiclass", 4, train).score(train.categories, train.numbers)
    assert scores.shape == (400, 4)
    assert (scores[:, 3] < scores[:, :3].min(1) - 20).all()


def test_trees_that_take_zeros_for_missing_values_are_refused():
    tree = (
        "num_leaves=2\nsplit_feature=1\nthreshold=1\ndecision_type=4\n"
        "left_child=-1\nright_child=-2\nleaf_value=1 2"
    )
    with pytest.raises(SlipwayError, match="zero_as_missing"):
        read_forest(write_model([tree]), columns=1, numbers=1, outputs=1)


def test_answering_waits_for_no_lightgbm(tmp_path):
    save(fit(SETTINGS, "binary", 2, make_rows(1)), tmp_path)
    code = (
        "import sys, pathlib; from tasks.models.trees.boosted import load;"
        "load(pathlib.Path(sys.argv[1])).to_core(20); print('lightgbm' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
