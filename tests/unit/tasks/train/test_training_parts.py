"""The parts of training that need no second process."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from slipway.gpu.devices import MEMORY_SHARE
from tasks.train import checkpoint
from tasks.train.checkpoint import State
from tasks.train.worker import leave_memory, new_optimizer, rate


def test_the_rate_warms_up_then_falls_to_zero():
    rates = [rate(step, warmup=10, total=100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0)


def two_kinds() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))


def test_only_matrices_decay():
    from slipway.config import load_config
    from tests.project import REPOSITORY

    config = load_config(REPOSITORY, "flights").families.network
    decayed, free = new_optimizer(two_kinds(), config).param_groups
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


@pytest.mark.parametrize(
    ("share", "ranks", "expected"),
    [("0.8", 1, 0.8), ("0.8", 2, 0.4), ("1.0", 1, None), (None, 1, None)],
)
def test_a_rank_leaves_memory_to_what_serves_on_its_gpu(
    monkeypatch: pytest.MonkeyPatch, share: str | None, ranks: int, expected: float | None
):
    limits: dict[torch.device, float] = {}
    if share is not None:
        monkeypatch.setenv(MEMORY_SHARE, share)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda fraction, device: limits.update({device: fraction}),
    )
    device = torch.device("cuda", 0)
    leave_memory(device, ranks=ranks)
    assert limits.get(device) == expected


@pytest.mark.gpu
def test_a_gpu_refuses_what_is_beyond_the_share(monkeypatch: pytest.MonkeyPatch):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    device = torch.device("cuda", 0)
    total = torch.cuda.get_device_properties(device).total_memory
    monkeypatch.setenv(MEMORY_SHARE, "0.05")
    leave_memory(device, ranks=1)
    torch.empty(int(total * 0.02), dtype=torch.uint8, device=device)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(int(total * 0.06), dtype=torch.uint8, device=device)
    torch.cuda.set_per_process_memory_fraction(1.0, device)
