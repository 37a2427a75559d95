"""The network: what it does with a row, with its members, and with rows by the thousand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slipway.problem import PROBLEMS
from tasks.models.network import Network, load, save
from tasks.models.network.module import BATCH_ROWS, CLIPPED, TrainedNetwork, embedding_width
from tasks.models.network.objectives import OBJECTIVES
from tests.unit.tasks.models.small_families import build_network, make_small

SMALL = make_small("binary")
CENTERS = [each["center"] for each in SMALL.features["numbers"]]
SCALES = [each["scale"] for each in SMALL.features["numbers"]]


def network() -> Network:
    return build_network(SMALL)


def answer(net: Network, codes: list[list[int]], numbers: list[list[float]]) -> torch.Tensor:
    return net.score(net(torch.tensor(codes), torch.tensor(numbers))).detach()


def test_a_missing_number_is_the_middle_with_a_flag():
    missing, middle = answer(
        network(), [[1, 1]] * 2, [[math.nan, CENTERS[1]], [CENTERS[0], CENTERS[1]]]
    )
    assert torch.isfinite(missing).all()
    assert (missing - middle).abs().max() > 1e-3  # more than a rounding apart


def test_an_outlier_moves_an_answer_no_further_than_eight_deviations():
    end = CENTERS[0] + (CLIPPED + 1) * SCALES[0]
    far, further, furthest = answer(
        network(), [[1, 1]] * 3, [[end, CENTERS[1]], [1e30, CENTERS[1]], [3.4e38, CENTERS[1]]]
    )
    assert far.tolist() == further.tolist() == furthest.tolist()


def test_an_unknown_category_has_an_embedding_of_its_own():
    unknown, known = answer(network(), [[0, 1], [1, 1]], [CENTERS] * 2)
    assert (unknown - known).abs().max() > 1e-3


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_network_comes_back_from_its_folder_as_it_was(tmp_path: Path, problem: str, members: int):
    net = build_network(make_small(problem), members=members)
    save(net, tmp_path)
    codes, numbers = torch.tensor([[0, 2]]), torch.tensor([[0.3, math.nan]])
    assert torch.equal(load(tmp_path).network(codes, numbers), net(codes, numbers))
    assert load(tmp_path).network.architecture == net.architecture


def test_scores_are_the_members_joined():
    net = network()
    codes, numbers = np.array([[1, 2], [0, 1]], np.int32), np.array([[1, 2], [3, 4]], np.float32)
    raw = net(torch.from_numpy(codes).long(), torch.from_numpy(numbers))
    scores = TrainedNetwork(net).score(codes, numbers)
    assert (scores.dtype, scores.shape, raw.shape) == (np.float32, (2, 1), (2, 3, 1))
    mean = torch.sigmoid(raw).mean(dim=1)
    np.testing.assert_allclose(
        PROBLEMS["binary"].respond(scores, 1.0), mean[:, 0].detach().numpy(), rtol=1e-5
    )


def test_several_classes_are_joined_by_their_mean_probability():
    raw = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)) * 3
    scores = OBJECTIVES["multiclass"].join(raw)
    found = PROBLEMS["multiclass"].respond(scores.numpy(), 1.0)
    np.testing.assert_allclose(found, torch.softmax(raw, 2).mean(1).numpy(), atol=1e-5)


def test_numbers_are_joined_by_their_mean_in_the_targets_unit():
    small = make_small("regression")
    net = build_network(small)
    codes, numbers = torch.tensor([[1, 2]]), torch.tensor([[9.0, 11.0]])
    raw = net(codes, numbers)
    train = small.features["parts"]["train"]
    expected = raw.mean(dim=1) * train["std"] + train["mean"]
    torch.testing.assert_close(net.score(raw), expected)


@pytest.mark.parametrize("sure", [40.0, 200.0, 1e4])
def test_members_that_are_sure_beyond_float32_give_finite_scores(sure: float):
    raw = torch.tensor([sure, sure, -sure])[None, :, None]
    for sign in (1, -1):
        assert torch.isfinite(OBJECTIVES["binary"].join(sign * raw)).all()
        several = torch.cat([sign * raw, -sign * raw, 0 * raw], dim=2)
        assert torch.isfinite(OBJECTIVES["multiclass"].join(several)).all()


def test_members_learn_each_by_itself():
    """The mean loss of the members, not the loss of their mean."""
    raw = torch.tensor([[[1.0], [3.0]]], requires_grad=True)
    labels = torch.tensor([2.0])
    assert OBJECTIVES["regression"].loss(raw, labels).tolist() == [1.0]
    binary = OBJECTIVES["binary"].loss(torch.tensor([[[-5.0], [5.0]]]), torch.tensor([1.0]))
    each = [math.log1p(math.exp(5)), math.log1p(math.exp(-5))]
    assert binary.item() == pytest.approx(sum(each) / 2, rel=1e-5)
    several = OBJECTIVES["multiclass"].loss(
        torch.tensor([[[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]]), torch.tensor([0.0])
    )
    each = [math.log(3), math.log(1 + 2 * math.exp(-5))]
    assert several.item() == pytest.approx(sum(each) / 2, rel=1e-5)


def test_a_networks_loss_of_numbers_is_in_standard_deviations():
    small = make_small("regression")
    net = build_network(small)
    train = small.features["parts"]["train"]
    labels = torch.tensor([train["mean"] + 2 * train["std"]])
    assert net.loss(torch.zeros(1, 3, 1), labels).item() == pytest.approx(4.0, rel=1e-4)


def test_members_begin_unlike_each_other_and_one_alone_as_it_is():
    raw = network()(torch.tensor([[1, 1]]), torch.tensor([[1.0, 2.0]]))
    assert len(set(raw.flatten().tolist())) == 3
    assert torch.equal(build_network(SMALL, members=1).members, torch.ones_like(
        build_network(SMALL, members=1).members
    ))  # fmt: skip


def test_the_same_seed_builds_the_same_network():
    one, two, other = build_network(SMALL, 0), build_network(SMALL, 0), build_network(SMALL, 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.enter.weight, other.enter.weight)


def test_a_number_that_never_varies_is_no_trouble():
    numbers = [{**each, "quantiles": [3.0], "scale": 1.0} for each in SMALL.features["numbers"]]
    small = replace(SMALL, features={**SMALL.features, "numbers": numbers})
    values = [[3.0, 3.0], [math.nan, 4.0], [-3.4e38, 3.4e38]]
    assert torch.isfinite(answer(build_network(small), [[1, 1]] * 3, values)).all()


def test_rows_beyond_one_batch_are_answered_like_those_in_it():
    numbers = np.random.default_rng(0).normal(size=(BATCH_ROWS + 3, 2)).astype(np.float32)
    codes = np.ones((len(numbers), 2), np.int32)
    trained = TrainedNetwork(network())
    scores = trained.score(codes, numbers)
    assert len(scores) == len(numbers)
    # as far as sums over another number of rows agree
    np.testing.assert_allclose(
        scores[-3:], trained.score(codes[:3], numbers[-3:]), rtol=1e-5, atol=1e-6
    )


def test_an_embedding_grows_with_the_values_but_not_for_ever():
    assert [embedding_width(n) for n in (1, 10, 100, 100_000)] == [2, 6, 21, 32]
