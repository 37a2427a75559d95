"""The parts of training that need no second process."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tasks.network import Network, load_network, save_network
from tasks.train import checkpoint
from tasks.train.checkpoint import State
from tasks.train.worker import new_optimizer, rate


def network() -> Network:
    torch.manual_seed(0)
    return Network([3, 2], mean=[1.0, 10.0], std=[2.0, 5.0], hidden=8, blocks=1, dropout=0.5).eval()


def test_the_rate_warms_up_then_falls_to_zero():
    rates = [rate(step, warmup=10, total=100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0)


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
    save_network(net, tmp_path)
    codes, numbers = torch.tensor([[0, 2]]), torch.tensor([[0.3, math.nan]])
    assert torch.equal(load_network(tmp_path)(codes, numbers), net(codes, numbers))


def test_only_matrices_decay():
    from slipway.config import load_config
    from tests.project import REPOSITORY

    config = load_config(REPOSITORY, "flights").train
    decayed, free = new_optimizer(network(), config).param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in free["params"]} == {1}
    assert (decayed["weight_decay"], free["weight_decay"]) == (config.weight_decay, 0.0)


def saved(folder: Path, step: int) -> None:
    part = {"w": torch.tensor([float(step)])}
    checkpoint.save(folder, State(step=step, best_step=step), {"model": part, "best": part})


def test_the_newest_checkpoint_comes_back(tmp_path: Path):
    for step in (10, 20, 30):
        saved(tmp_path, step)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    state, tensors = checkpoint.load(found)
    assert (state.step, tensors["best"]["w"].item()) == (30, 30.0)


def test_two_checkpoints_are_kept(tmp_path: Path):
    for step in (10, 20, 30, 40):
        saved(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000030", "step-00000040"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path):
    saved(tmp_path, 10)
    saved(tmp_path, 20)
    file = tmp_path / "step-00000020/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000010"


def test_a_save_that_was_killed_is_not_resumed_from(tmp_path: Path):
    saved(tmp_path, 10)
    (tmp_path / "step-00000020.new").mkdir()
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000010"


def test_an_optimizer_goes_on_where_it_stood():
    def step(net: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    one = torch.nn.Linear(2, 1)
    first = torch.optim.AdamW(one.parameters(), lr=0.1)
    step(one, first)
    two = torch.nn.Linear(2, 1)
    two.load_state_dict(one.state_dict())
    second = torch.optim.AdamW(two.parameters(), lr=0.1)
    checkpoint.restore_optimizer(second, checkpoint.optimizer_tensors(first))
    step(one, first)
    step(two, second)
    assert torch.equal(one.weight, two.weight)


def test_nothing_in_training_can_unpickle():
    tasks = Path(checkpoint.__file__).parents[1]
    code = "".join(path.read_text("utf-8") for path in tasks.rglob("*.py"))
    for way in ("torch.load(", "import pickle", "import joblib", "allow_pickle=True"):
        assert way not in code
