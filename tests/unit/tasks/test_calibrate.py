"""What export fits on the rows that choose: a temperature, a threshold's rule, a margin."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from slipway.bundle.session import open_session
from slipway.errors import SlipwayError
from slipway.problem import BINARY, PROBLEMS, Target
from slipway.problem.calibration import Calibration
from slipway.settings.answers import AnswerConfig
from tasks import export, graph
from tasks.answers import Answering
from tasks.shards import Rows
from tests.unit.tasks.test_answers import column, pass_on

CLASSES = {"binary": [0, 1], "multiclass": ["a", "b", "c"], "regression": []}


@dataclass(frozen=True)
class Told:
    """A trained model whose scores are the first numbers of a row."""

    width: int = 1

    def score(self, categories: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return numbers[:, : self.width]

    def to_core(self, opset: int) -> Any:
        raise NotImplementedError


def rows_of(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Rows:
    return Rows(
        categories=np.zeros((len(labels), 0), np.int32),
        numbers=scores.astype(np.float32),
        labels=labels.astype(np.float64),
        units=np.arange(len(labels)),
        weights=weights,
    )


def calibrate(
    problem: str, rows: Rows, point: dict[str, float] | None = None, interval: float | None = None
) -> tuple[Calibration, dict[str, Any]]:
    config = AnswerConfig.model_validate({"operating_point": point, "interval": interval})
    target = {"name": "y", "problem": problem, "classes": CLASSES[problem]}
    return export.calibrate(config, Told(rows.numbers.shape[1]), {"target": target}, rows)


def two_classes(
    rows: int = 4000, *, confidence: float = 1.0, seed: int = 0, weighted: bool = False
) -> Rows:
    """Make rows whose logits are so many times as large as they should be."""
    dice = np.random.default_rng(seed)
    logits = dice.normal(scale=1.5, size=(rows, 1))
    labels = dice.random(rows) < 1 / (1 + np.exp(-logits[:, 0]))
    weights = dice.integers(0, 4, rows).astype(float) if weighted else None
    return rows_of(labels, logits * confidence, weights)


def three_classes(rows: int = 4000, confidence: float = 1.0) -> Rows:
    dice = np.random.default_rng(1)
    logits = dice.normal(scale=1.5, size=(rows, 3))
    # the largest of logits and Gumbel noise is drawn by the softmax of the logits
    labels = (logits + dice.gumbel(size=logits.shape)).argmax(axis=1)
    return rows_of(labels, logits * confidence)


@pytest.mark.parametrize("confidence", [0.3, 1.0, 4.0])
def test_the_temperature_is_how_much_too_sure_the_scores_are(confidence: float) -> None:
    for found, _ in (
        calibrate("binary", two_classes(confidence=confidence)),
        calibrate("multiclass", three_classes(confidence=confidence)),
    ):
        assert found.temperature == pytest.approx(confidence, rel=0.1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("confidence", [0.01, 1.0, 100.0, -1.0])
def test_log_loss_is_never_worse_than_without_a_temperature(confidence: float, seed: int) -> None:
    """Whatever the scores are: also of few rows, and of a model that is wrong."""
    rows = two_classes(40, confidence=confidence, seed=seed)
    found, told = calibrate("binary", rows)
    losses = [
        BINARY.stopping(rows.labels, BINARY.respond(rows.numbers.astype(float), t))
        for t in (found.temperature, 1.0)
    ]
    assert losses[0] <= losses[1] + 1e-9
    assert told["after"]["log_loss"] == pytest.approx(losses[0], abs=1e-6)
    assert told["before"]["log_loss"] == pytest.approx(losses[1], abs=1e-6)


def test_a_temperature_changes_no_order() -> None:
    _, told = calibrate("binary", two_classes(confidence=3.0))
    assert told["before"]["auc"] == told["after"]["auc"]
    assert told["after"]["log_loss"] < told["before"]["log_loss"] - 0.01
    assert told["after"]["ece"] < told["before"]["ece"]


def test_rows_that_count_nothing_fit_nothing() -> None:
    right, wrong = two_classes(3000, confidence=2.0), two_classes(3000, confidence=-5.0, seed=1)
    both = rows_of(
        np.concatenate([right.labels, wrong.labels]),
        np.concatenate([right.numbers, wrong.numbers]),
        np.repeat([1.0, 0.0], 3000),
    )
    assert calibrate("binary", both)[0] == calibrate("binary", right)[0]


def test_numbers_have_no_temperature() -> None:
    dice = np.random.default_rng(0)
    scores = dice.normal(size=(100, 1))
    found, told = calibrate("regression", rows_of(scores[:, 0] * 3, scores))
    assert found == Calibration(1.0, None, None)
    assert told["before"] == told["after"]


def decided(rows: Rows, found: Calibration) -> np.ndarray:
    """Decide as the graph does: in float32."""
    answers = BINARY.respond(rows.numbers.astype(float), found.temperature)
    assert found.threshold is not None
    return answers.astype(np.float32) >= np.float32(found.threshold)


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("value", [0.05, 0.5, 0.9, 0.99])
def test_a_threshold_for_recall_finds_this_share_of_the_positives_and_hardly_more(
    value: float, weighted: bool
) -> None:
    rows = two_classes(weighted=weighted)
    found, _ = calibrate("binary", rows, {"recall": value})
    weigh = np.ones(len(rows)) if rows.weights is None else rows.weights
    positive = rows.labels == 1
    recall = weigh[positive & decided(rows, found)].sum() / weigh[positive].sum()
    assert value <= recall < value + 0.005


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("value", [0.55, 0.7, 0.9])
def test_a_threshold_for_precision_is_right_so_often_and_finds_all_that_it_can(
    value: float, weighted: bool
) -> None:
    rows = two_classes(weighted=weighted)
    found, _ = calibrate("binary", rows, {"precision": value})
    weigh = np.ones(len(rows)) if rows.weights is None else rows.weights
    taken = decided(rows, found)
    precision = weigh[taken & (rows.labels == 1)].sum() / weigh[taken].sum()
    assert value <= precision < value + 0.005
    answers = BINARY.respond(rows.numbers.astype(float), found.temperature)
    for lower in np.unique(answers[~taken]):
        more = answers >= lower
        assert weigh[more & (rows.labels == 1)].sum() / weigh[more].sum() < value


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("value", [0.01, 0.2, 0.75])
def test_a_threshold_for_a_share_takes_no_more_of_the_rows_and_hardly_less(
    value: float, weighted: bool
) -> None:
    rows = two_classes(weighted=weighted)
    found, _ = calibrate("binary", rows, {"share": value})
    weigh = np.ones(len(rows)) if rows.weights is None else rows.weights
    share = weigh[decided(rows, found)].sum() / weigh.sum()
    assert value - 0.005 < share <= value


def told_by_the_graph(rows: Rows, found: Calibration) -> np.ndarray:
    """Let the graph decide, from the same scores."""
    answering = Answering(Target("y", "binary", (0, 1)), found)
    model = graph.assemble(pass_on(1), [column("score")], answering)
    session = open_session(graph.to_bytes(model), "CPUExecutionProvider", 1)
    return session.run({"score": rows.numbers[:, 0].copy()})["label"] == 1


@pytest.mark.parametrize("point", [{"recall": 0.9}, {"precision": 0.9}, {"share": 0.2}], ids=str)
def test_the_graph_decides_as_the_rule_did_but_for_what_float32_cannot_tell(
    point: dict[str, float],
) -> None:
    """A row whose probability is the threshold may fall on either side, and no other may."""
    for seed in range(10):
        rows = two_classes(300, seed=seed, confidence=2.0)
        found, _ = calibrate("binary", rows, point)
        differing = np.flatnonzero(told_by_the_graph(rows, found) != decided(rows, found))
        answers = BINARY.respond(rows.numbers.astype(float), found.temperature)
        assert np.abs(answers[differing] - found.threshold).max(initial=0) < 1e-6
        assert len(differing) <= 1


def test_the_graph_keeps_a_recall_of_all_on_the_rows_that_chose() -> None:
    for seed in range(30):
        rows = two_classes(300, seed=seed, confidence=2.0)
        found, _ = calibrate("binary", rows, {"recall": 0.999999})
        assert told_by_the_graph(rows, found)[rows.labels == 1].all()


def test_a_share_is_not_exceeded_where_the_likeliest_rows_are_alike() -> None:
    rows = rows_of(np.array([0, 1] * 50), np.zeros((100, 1)))
    found, _ = calibrate("binary", rows, {"share": 0.1})
    assert decided(rows, found).mean() <= 0.1


@pytest.mark.parametrize("ratio", [0.25, 1.0, 9.0])
def test_a_threshold_for_costs_costs_the_least(ratio: float) -> None:
    rows = two_classes(20_000)
    found, _ = calibrate("binary", rows, {"cost_ratio": ratio})
    assert found.threshold == pytest.approx(1 / (1 + ratio))
    answers = BINARY.respond(rows.numbers.astype(float), found.temperature)

    def cost(threshold: float) -> float:
        said = answers >= threshold
        missed, alarms = (rows.labels == 1) & ~said, (rows.labels == 0) & said
        return float(ratio * missed.sum() + alarms.sum())

    # of probabilities that come true no other threshold is much better
    assert cost(found.threshold) <= 1.02 * min(cost(t) for t in np.linspace(0.01, 0.99, 99))


def test_a_precision_that_nothing_reaches_is_refused() -> None:
    rows = rows_of(np.array([0, 0, 1, 0] * 50), np.array([[3.0], [2.0], [1.0], [0.0]] * 50))
    with pytest.raises(SlipwayError) as caught:
        calibrate("binary", rows, {"precision": 0.9})
    assert str(caught.value) == (
        "export.answer.operating_point: no threshold reaches a precision of 0.9 on the 200 rows"
        " that choose; ask for less"
    )


def test_rows_that_count_nothing_reach_no_precision() -> None:
    rows = rows_of(
        np.array([0, 0, 1, 0] * 50),
        np.array([[3.0], [2.0], [1.0], [0.0]] * 50),
        np.array([0.0, 1.0, 1.0, 1.0] * 50),
    )
    with pytest.raises(SlipwayError, match="no threshold reaches a precision"):
        calibrate("binary", rows, {"precision": 0.9})


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_an_interval_holds_this_share_of_new_rows(level: float) -> None:
    dice = np.random.default_rng(3)
    shares = []
    for _ in range(200):
        scores = dice.normal(size=(100, 1)).astype(np.float32)
        rows = rows_of(scores[:, 0] + dice.standard_t(3, size=100), scores)
        margin = calibrate("regression", rows, interval=level)[0].margin
        assert margin is not None
        shares.append(np.mean(np.abs(dice.standard_t(3, size=1000)) <= margin))
    # the mean of a split conformal interval's coverage lies in [level, level + 1 / 101]
    assert level - 0.008 < np.mean(shares) < level + 1 / 101 + 0.008


def test_an_interval_holds_this_share_of_the_rows_that_it_was_taken_from() -> None:
    labels = np.arange(1, 20, dtype=float)
    rows = rows_of(labels, np.zeros((19, 1)))
    assert calibrate("regression", rows, interval=0.9)[0].margin == 18.0
    assert calibrate("regression", rows, interval=0.95)[0].margin == 19.0


def test_too_few_rows_for_an_interval_are_refused_with_the_way_out() -> None:
    rows = rows_of(np.arange(10, dtype=float), np.zeros((10, 1)))
    with pytest.raises(SlipwayError, match="10 rows that choose are too few for an interval of 0"):
        calibrate("regression", rows, interval=0.95)


def test_what_was_fitted_is_told_with_the_measures_of_the_problem() -> None:
    found, told = calibrate("binary", two_classes(), {"recall": 0.5})
    assert (told["rows"], told["temperature"]) == (4000, found.temperature)
    assert (told["threshold"], told["margin"]) == (found.threshold, None)
    assert list(told["after"]) == [m.key for m in PROBLEMS["binary"].measures]
