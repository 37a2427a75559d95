"""Both families: the same bytes again, and the same answers from a folder and from a graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from slipway.bundle.session import open_session
from slipway.problem import PROBLEMS
from slipway.problem.calibration import Calibration
from tasks import graph
from tasks.columns import from_features
from tasks.models import FAMILIES, load_family, load_loop_family
from tasks.models.family import TrainedModel
from tests.unit.tasks.models.small_families import Small, build_network, fit_trees, make_small

Save = Callable[[Small, Path], None]


def save_network(small: Small, folder: Path, **changes: Any) -> None:
    load_loop_family("network").save(build_network(small, **changes), folder)


def save_trees(small: Small, folder: Path, **changes: Any) -> None:
    fit_trees(small, **changes).save(folder)


SAVES = {"network": save_network, "trees": save_trees}
SHAPES = {"both": (2, 2), "no category": (0, 2), "no number": (2, 0), "one of each": (1, 1)}


def slow(*values: Any) -> Any:
    """Mark a case that takes seconds."""
    return pytest.param(*values, marks=pytest.mark.slow)


each_family = pytest.mark.parametrize("family", sorted(FAMILIES))
each_problem = pytest.mark.parametrize("problem", PROBLEMS)
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def trained(family: str, small: Small, folder: Path, **changes: Any) -> TrainedModel:
    folder.mkdir(exist_ok=True)
    SAVES[family](small, folder, **changes)
    return load_family(family).load(folder)


def run_core(core: onnx.ModelProto, codes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    session = open_session(graph.to_bytes(core), "CPUExecutionProvider", 1)
    given = {graph.CATEGORIES: codes.astype(np.int64), graph.NUMBERS: numbers}
    return session.run({n: v for n, v in given.items() if n in session.inputs})[graph.SCORES]


def odd_rows(small: Small) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows, and some in which all is missing, unknown or far beyond what was seen."""
    codes, numbers = small.rows.categories, small.rows.numbers
    ends = np.array([np.nan, 0.0, -3e38, 3e38, 1e30], np.float32)
    return (
        np.concatenate([codes, np.zeros((5, codes.shape[1]), np.int32)]),
        np.concatenate([numbers, np.repeat(ends[:, None], numbers.shape[1], axis=1)]),
    )


@each_shape
@each_problem
@each_family
def test_scores_come_from_a_folder_as_the_problem_wants_them(
    tmp_path: Path, family: str, problem: str, shape: tuple[int, int]
) -> None:
    small = make_small(problem, columns=shape[0], numbers=shape[1])
    scores = trained(family, small, tmp_path / "a").score(*odd_rows(small))
    assert scores.shape == (605, PROBLEMS[problem].count_scores(small.target))
    assert np.isfinite(scores).all()
    assert scores.std(axis=0).min() > 0
    answers = PROBLEMS[problem].respond(scores, 1.0)
    if problem == "multiclass":
        np.testing.assert_allclose(answers.sum(axis=1), 1)
    if problem == "regression":
        assert 800 < np.median(answers) < 1200  # in the target's own unit


@each_problem
@each_family
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, family: str, problem: str) -> None:
    small = make_small(problem)
    for name in ("one", "two"):
        trained(family, small, tmp_path / name)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.parametrize("family", ["trees", slow("network")])
def test_the_same_model_makes_a_graph_of_the_same_bytes(tmp_path: Path, family: str) -> None:
    models = [trained(family, make_small("binary"), tmp_path / name) for name in ("one", "two")]
    one, two = (graph.to_bytes(model.to_core(20)) for model in models)
    assert one == two
    assert str(tmp_path).encode() not in one


@each_family
def test_other_rows_give_other_bytes(tmp_path: Path, family: str) -> None:
    """Or the test before would pass whatever is written."""
    for name, seed in (("one", 0), ("two", 1)):
        trained(family, make_small("regression", seed=seed), tmp_path / name)
    one, two = (
        b"".join(path.read_bytes() for path in sorted((tmp_path / name).iterdir()))
        for name in ("one", "two")
    )
    assert one != two


GRAPHS = [
    *(("trees", problem, shape, {}) for problem in PROBLEMS for shape in SHAPES),
    # torch takes seconds to export one
    ("network", "binary", "both", {"members": 3}),
    slow("network", "multiclass", "no category", {"members": 1}),
    slow("network", "multiclass", "one of each", {"members": 3}),
    slow("network", "regression", "no number", {"members": 3}),
    slow("network", "regression", "both", {"members": 1}),
    slow("network", "binary", "no number", {"members": 1}),
]


@pytest.mark.parametrize(("family", "problem", "shape", "changes"), GRAPHS)
def test_a_graph_answers_as_the_model_does_however_many_rows_there_are(
    tmp_path: Path, family: str, problem: str, shape: str, changes: dict[str, Any]
) -> None:
    columns, numbers = SHAPES[shape]
    small = make_small(problem, columns=columns, numbers=numbers)
    model = trained(family, small, tmp_path / "a", **changes)
    core, rows = model.to_core(20), odd_rows(small)
    expected = model.score(*rows)
    scale = small.rows.labels.std() if problem == "regression" else 1.0
    for count in (1, 2, 7, 605):
        part = slice(605 - count, 605)
        found = run_core(core, rows[0][part], rows[1][part])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found / scale, expected[part] / scale, atol=2e-5)
    raw = from_features(small.features, Calibration(2.0))
    made = graph.to_bytes(graph.assemble(core, raw.inputs, raw.answering))
    answers = open_session(made, "CPUExecutionProvider", 1).run(raw_rows(*rows))
    wanted = raw.answering.respond(expected)
    np.testing.assert_allclose(answers[raw.answering.judged], wanted, atol=2e-5 * scale)


def raw_rows(codes: np.ndarray, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Write prepared rows as a caller would: code i + 1 is the i-th value."""
    texts = {
        f"k{i}": np.array([f"v{code - 1}" if code else "?" for code in column], object)
        for i, column in enumerate(codes.T)
    }
    return texts | {f"n{i}": column.copy() for i, column in enumerate(numbers.T)}
