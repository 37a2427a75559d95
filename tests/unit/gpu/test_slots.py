"""Turns on GPUs: in order of arrival, freed by the kernel, told to those who wait."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slipway.cli.doctor import _gpu_slots
from slipway.errors import SlipwayError
from slipway.gpu.devices import GpuDevice
from slipway.gpu.slots import Slots, hold, holders, queue
from tests.project import REPOSITORY
from tests.support.pace import limit
from tests.support.waiting import wait_until

ONE, TWO, THREE = (GpuDevice(f"nvidia{i}") for i in range(3))

STAGE = """
import sys, time
from pathlib import Path
from slipway.gpu.devices import GpuDevice
from slipway.gpu.slots import Slots, hold

name, folder, marks, *devices = sys.argv[1:]
chosen = tuple(GpuDevice(each) for each in devices)
with hold(Slots(Path(folder), chosen), chosen, name, lambda text: print(text, flush=True)):
    with Path(marks).open("a") as file:
        file.write(f"+{name}\\n")
    Path(folder, f"{name}.in").touch()
    while not Path(folder, f"{name}.go").exists():
        time.sleep(0.01)
    with Path(marks).open("a") as file:
        file.write(f"-{name}\\n")
"""


class Stages:
    """Processes that each hold devices until they are told to go on."""

    def __init__(self, root: Path) -> None:
        self.folder, self.marks = root / "slots", root / "marks"
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, *devices: str) -> "subprocess.Popen[str]":
        before = len(queue(self.folder))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        self.running[name] = subprocess.Popen(
            [sys.executable, "-c", STAGE, name, str(self.folder), str(self.marks), *devices],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_until(lambda: len(queue(self.folder)) > before, f"{name} has a ticket")
        return self.running[name]

    def holds(self, name: str) -> bool:
        return (self.folder / f"{name}.in").exists()

    def wait_until_it_holds(self, name: str) -> None:
        wait_until(lambda: self.holds(name), f"{name} has its devices")

    def let_go(self, name: str) -> str:
        (self.folder / f"{name}.go").touch()
        return self.running[name].communicate(timeout=limit(20))[0]

    def seen(self) -> list[str]:
        return self.marks.read_text().split()


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    stages = Stages(tmp_path)
    yield stages
    for process in stages.running.values():
        process.kill()
        process.communicate()


def test_turns_come_in_order_of_arrival(stages: Stages):
    names = ["a", "b", "c", "d"]
    for name in names:
        stages.start(name, "nvidia0")
    for name in names:
        stages.let_go(name)
    assert stages.seen() == [f"{sign}{name}" for name in names for sign in "+-"]


def test_other_devices_are_not_waited_for_but_whoever_came_before_is(stages: Stages):
    stages.start("a", "nvidia0")
    stages.start("both", "nvidia0", "nvidia1")
    stages.start("late", "nvidia1")
    stages.start("other", "nvidia2")
    stages.wait_until_it_holds("other")
    stages.wait_until_it_holds("a")
    assert (stages.holds("both"), stages.holds("late")) == (False, False)
    stages.let_go("a")
    stages.wait_until_it_holds("both")
    assert not stages.holds("late")
    stages.let_go("both")
    stages.wait_until_it_holds("late")


def test_a_killed_holder_frees_its_devices_at_once(stages: Stages):
    stages.start("a", "nvidia0")
    stages.wait_until_it_holds("a")
    stages.start("b", "nvidia0")
    stages.running["a"].send_signal(signal.SIGKILL)
    stages.wait_until_it_holds("b")
    assert [ticket.what for ticket in queue(stages.folder)] == ["b"]


def test_a_killed_waiter_holds_nobody_up(stages: Stages):
    stages.start("a", "nvidia0")
    stages.start("b", "nvidia0", "nvidia1")
    stages.start("c", "nvidia1")
    assert not stages.holds("c")
    stages.running["b"].kill()
    stages.wait_until_it_holds("c")


def test_a_stopped_holder_keeps_its_devices(stages: Stages):
    process = stages.start("a", "nvidia0")
    stages.wait_until_it_holds("a")
    process.send_signal(signal.SIGSTOP)
    stages.start("b", "nvidia0")
    assert [ticket.what for ticket in queue(stages.folder)] == ["a", "b"]
    process.send_signal(signal.SIGCONT)
    stages.let_go("a")
    stages.wait_until_it_holds("b")


def test_who_waits_says_for_whom_and_says_it_anew_when_that_changes(stages: Stages):
    first, second = stages.start("a", "nvidia0"), stages.start("b", "nvidia0")
    stages.start("c", "nvidia0")
    stages.let_go("a")
    stages.let_go("b")
    said = stages.let_go("c").splitlines()
    assert said[0].startswith(f"waiting for nvidia0: a in {Path.cwd()} (process {first.pid}, since")
    assert said[0].endswith("; 1 more before this one")
    assert said[-1].startswith(f"waiting for nvidia0: b in {Path.cwd()} (process {second.pid}, ")


def test_a_holder_that_fails_frees_its_devices(tmp_path: Path):
    slots = Slots(tmp_path / "slots", (ONE,))
    with pytest.raises(ZeroDivisionError), hold(slots, (ONE,), "a", print):
        raise ZeroDivisionError
    assert queue(slots.folder) == []


def test_a_process_that_a_stage_forked_and_left_does_not_keep_the_devices(tmp_path: Path):
    slots = Slots(tmp_path / "slots", (ONE,))
    ours, theirs = os.pipe()
    with hold(slots, (ONE,), "a", print):
        if (child := os.fork()) == 0:
            os.close(theirs)
            os.read(ours, 1)  # ends with this test
            os._exit(0)
    try:
        with hold(slots, (ONE,), "b", lambda text: pytest.fail(text)):
            pass
    finally:
        os.close(theirs)
        os.waitpid(child, 0)


def test_no_device_takes_no_turn_and_leaves_no_folder(tmp_path: Path):
    slots = Slots(tmp_path / "slots", ())
    with hold(slots, (), "a", print):
        assert not slots.folder.exists()


def test_what_a_killed_process_left_is_cleared_by_who_comes_next(tmp_path: Path):
    folder = tmp_path / "slots"
    folder.mkdir(mode=0o700)
    for name in ("000000000004.ticket", "new"):
        (folder / name).write_text("{")
    with hold(Slots(folder, (ONE,)), (ONE,), "a", lambda text: pytest.fail(text)):
        assert sorted(path.name for path in folder.iterdir()) == ["000000000001.ticket", "lock"]


def test_a_living_ticket_that_cannot_be_read_is_waited_for_by_all(stages: Stages):
    stages.start("a", "nvidia0")
    stages.wait_until_it_holds("a")
    (path,) = stages.folder.glob("*.ticket")
    path.write_text("{")
    stages.start("b", "nvidia1")
    assert not stages.holds("b")
    stages.let_go("a")
    stages.wait_until_it_holds("b")


@pytest.mark.parametrize("kind", ["link", "file", "open"])
def test_a_folder_that_somebody_else_may_have_laid_there_is_refused(tmp_path: Path, kind: str):
    folder = tmp_path / "slots"
    match kind:
        case "link":
            (tmp_path / "elsewhere").mkdir()
            folder.symlink_to(tmp_path / "elsewhere")
        case "file":
            folder.touch()
        case "open":
            folder.mkdir()
            folder.chmod(0o777)
    with (
        pytest.raises(SlipwayError, match="only its user"),
        hold(Slots(folder, (ONE,)), (ONE,), "a", print),
    ):
        pytest.fail("it was taken")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    slots = Slots(tmp_path / "file/slots", (ONE,))
    with pytest.raises(SlipwayError, match="cannot be written"), hold(slots, (ONE,), "a", print):
        pytest.fail("it was taken")


def test_the_doctor_says_who_has_a_gpu_and_who_waits(stages: Stages):
    stages.start("train@flights", "nvidia0")
    stages.start("train@trips", "nvidia0")
    slots = Slots(stages.folder, (ONE, TWO))
    found = _gpu_slots(slots)
    assert found["nvidia1"] == "free"
    first, waiting = found["nvidia0"].split("; ")
    assert first.startswith("train@flights in ")
    assert waiting.startswith("waiting: train@trips in ")
    assert [t.what for t in holders(queue(stages.folder))["nvidia0"]] == [
        "train@flights",
        "train@trips",
    ]


def test_a_machine_without_a_gpu_has_no_slots(tmp_path: Path):
    assert list(_gpu_slots(Slots(tmp_path, ()))) == ["none"]


def test_many_who_come_at_once_never_have_a_device_together(tmp_path: Path):
    slots = Slots(tmp_path / "slots", (ONE, TWO, THREE))
    held = tmp_path / "held"
    children = []
    for i in range(12):
        if (child := os.fork()) == 0:
            with ExitStack() as stack:
                stack.callback(os._exit, 1)
                for _ in range(5):
                    with hold(slots, (ONE, THREE) if i % 2 else (ONE,), str(i), lambda _: None):
                        held.mkdir()  # fails where another one is in
                        held.rmdir()
                os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 12
