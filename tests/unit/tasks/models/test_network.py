"""The network: what it does with a row, its folder, and rows by the thousand."""

import math
from pathlib import Path

import numpy as np
import torch

from tasks.models.network import BATCH_ROWS, Network, TrainedNetwork, load, save


def network() -> Network:
    torch.manual_seed(0)
    return Network([3, 2], mean=[1.0, 10.0], std=[2.0, 5.0], hidden=8, blocks=1, dropout=0.5).eval()


def test_a_missing_number_is_the_mean_with_a_flag():
    net = network()
    codes = torch.tensor([[1, 1]] * 2)
    missing, mean = net(codes, torch.tensor([[math.nan, 10.0], [1.0, 10.0]]))
    assert torch.isfinite(missing)
    assert abs(missing - mean) > 1e-3  # more than a rounding apart


def test_an_outlier_moves_an_answer_no_further_than_eight_deviations():
    net = network()
    codes = torch.tensor([[1, 1]] * 2)
    far, further = net(codes, torch.tensor([[17.0, 10.0], [1e30, 10.0]]))
    assert far == further


def test_a_network_comes_back_from_its_folder_as_it_was(tmp_path: Path):
    net = network()
    save(net, tmp_path)
    codes, numbers = torch.tensor([[0, 2]]), torch.tensor([[0.3, math.nan]])
    assert torch.equal(load(tmp_path).network(codes, numbers), net(codes, numbers))


def test_answers_are_probabilities_of_the_logits():
    net = network()
    codes, numbers = np.array([[1, 2], [0, 1]], np.int32), np.array([[1, 2], [3, 4]], np.float32)
    logits = net(torch.tensor([[1, 2], [0, 1]]), torch.from_numpy(numbers))
    answers = TrainedNetwork(net).predict(codes, numbers)
    assert answers.dtype == np.float32
    assert answers.tolist() == torch.sigmoid(logits).tolist()


def test_rows_beyond_one_batch_are_answered_like_those_in_it():
    numbers = np.random.default_rng(0).normal(size=(BATCH_ROWS + 3, 2)).astype(np.float32)
    codes = np.ones((len(numbers), 2), np.int32)
    trained = TrainedNetwork(network())
    answers = trained.predict(codes, numbers)
    assert len(answers) == len(numbers)
    # as far as sums over another number of rows agree
    np.testing.assert_allclose(answers[-3:], trained.predict(codes[:3], numbers[-3:]), rtol=1e-5)
