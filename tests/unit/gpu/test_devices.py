"""Which GPUs a process may use: as CUDA reads its variable, and as the driver's files say."""

from pathlib import Path

import pytest

from slipway.gpu.devices import GpuDevice, environment, present, visible

A = GpuDevice("nvidia0", "GPU-aaaa-1")
B = GpuDevice("nvidia1", "GPU-aabb-2")
C = GpuDevice("nvidia2", "GPU-cccc-3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (A,)),
        ("2,0", (C, A)),
        (" 1 , 2 ", (B, C)),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", (A,)),
        ("7", ()),
        ("1,1", (B,)),
        ("NoDevFiles", ()),
        ("GPU-cc", (C,)),
        ("GPU-aa", ()),
        ("GPU-aaaa-1,2", (A, C)),
        ("gpu-cc", ()),
        ("²", ()),
        ("0,,1", (A,)),
        ("MIG-1f", (GpuDevice("MIG-1f", "MIG-1f"),)),
    ],
)
def test_the_devices_are_those_that_cuda_would_show(text: str, expected: tuple[GpuDevice, ...]):
    assert visible((A, B, C), {"CUDA_VISIBLE_DEVICES": text}) == expected


def test_without_a_word_all_devices_are_meant():
    assert visible((A, B), {}) == (A, B)


def test_numbers_that_count_by_speed_may_mean_any_device():
    env = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert visible((A, B), env) == (A, B)
    assert visible((A, B), {**env, "CUDA_VISIBLE_DEVICES": "GPU-cc"}) == ()


def test_a_child_is_told_what_it_has_and_keeps_what_its_user_said():
    assert environment((A, B), {}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    said = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert environment((A, B), said) == said


def machine(root: Path, nodes: list[str], driver: dict[str, str]) -> tuple[Path, Path]:
    """Lay out files as a driver does."""
    dev, proc = root / "dev", root / "gpus"
    dev.mkdir()
    for name in nodes:
        (dev / name).touch()
    for address, text in driver.items():
        (proc / address).mkdir(parents=True)
        (proc / address / "information").write_text(text)
    return dev, proc


def test_devices_count_by_their_place_on_the_bus_and_control_nodes_are_none(tmp_path: Path):
    nodes = ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia1x"]
    driver = {
        "0000:04:00.0": "Model: \t H200\nGPU UUID: \t GPU-b\nDevice Minor: \t 1\n",
        "0000:81:00.0": "GPU UUID:  GPU-a\nDevice Minor:  0\n",
        "0000:82:00.0": "GPU UUID:  GPU-hidden\nDevice Minor:  5\n",
    }
    found = present(*machine(tmp_path, nodes, driver))
    assert found == (GpuDevice("nvidia1", "GPU-b"), GpuDevice("nvidia0", "GPU-a"))


def test_a_device_of_which_the_driver_says_nothing_counts_by_its_number(tmp_path: Path):
    nodes, driver = ["nvidia10", "nvidia9"], {"0000:04:00.0": "what is this\n"}
    assert present(*machine(tmp_path, nodes, driver)) == (
        GpuDevice("nvidia9"),
        GpuDevice("nvidia10"),
    )


def test_a_machine_without_a_gpu_has_none(tmp_path: Path):
    assert present(tmp_path / "nothing", tmp_path / "nowhere") == ()
