"""The event loop stays awake between the requests of a caller who waits for each answer."""

import asyncio
from collections.abc import Callable

import pytest

from slipway.host.engine.spin import Spin
from tests.engines import Bench, on_loop

PAUSE_S = 0.02
LOOK_S = 0.001


def looks(calls: list[tuple[int, float, float]], pause_s: float = PAUSE_S) -> int:
    """Return how often the loop looks after these runs; a look takes `LOOK_S`.

    Each run: its requests, its begin and its end, in seconds of a clock that begins at 10.
    """

    async def run() -> int:
        now, count = 10.0, 0

        def clock() -> float:
            nonlocal now
            now += LOOK_S
            return now

        begun: list[Callable[[], None]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "call_soon", begun.append)
            spin = Spin(pause_s, clock)
            for jobs, started, ended in calls:
                spin.served(jobs, now + started, now + ended)
            assert len(begun) <= 1  # a pause is not begun twice
            while begun:
                begun.pop()()
                count += 1
        return count

    return asyncio.run(run())


def test_a_lone_request_soon_after_another_keeps_the_loop_awake_for_the_pause() -> None:
    assert looks([(1, -0.002, -0.001), (1, 0.0, 0.0005)]) == (PAUSE_S + LOOK_S) / LOOK_S


@pytest.mark.parametrize(
    "calls",
    [
        [(1, 0.0, 0.0)],  # the first of all
        [(1, -1.0, -0.5), (1, 0.0, 0.0)],  # rare
        [(1, -0.002, -0.001), (2, 0.0, 0.0)],  # two at once: there is load
        [(1, -0.003, -0.001), (1, -0.002, 0.0)],  # began before the last had ended: there is load
        [(1, -0.03, -0.001), (1, -0.0011, 0.0), (1, -0.0001, 0.01)],
    ],
)
def test_otherwise_the_loop_sleeps(calls: list[tuple[int, float, float]]) -> None:
    assert looks(calls) == 0


@pytest.mark.parametrize("started", [0.0, -0.002, 1e-9])
def test_a_pause_of_zero_is_none_at_all(started: float) -> None:
    assert looks([(1, -0.002, -0.001), (1, -0.001 + started, 0.0)], pause_s=0.0) == 0


def test_each_request_of_such_a_caller_prolongs_the_one_pause() -> None:
    quarter = PAUSE_S / 4
    alone = looks([(1, -0.002, -0.001), (1, 0.0, 0.0)])
    further = looks([(1, -0.002, -0.001), *((1, n * quarter, n * quarter) for n in range(3))])
    assert further - alone == 2 * quarter / LOOK_S


def test_an_engine_on_the_loop_tells_of_every_run() -> None:
    class Told(Spin):
        def served(self, jobs: int, started: float, ended: float) -> None:
            told.append((jobs, started, ended))

    told: list[tuple[int, float, float]] = []

    async def test() -> None:
        bench = Bench(spin=Told(0.0))
        bench.ask(0, 1.0)
        await bench.settle(1)
        bench.ask(1, 1.0)
        bench.ask(2, 1.0)
        await bench.settle(3)

    on_loop(test)
    assert [jobs for jobs, _, _ in told] == [1, 2]
    assert told[0][1] < told[0][2] < told[1][1] < told[1][2]
