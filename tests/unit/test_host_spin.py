"""The event loop stays awake between the requests of a caller who waits for each answer."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest

from slipway.host.engine.spin import Spin
from tests.engines import Bench, on_loop

PAUSE_S = 0.02


def looks(calls: list[tuple[int, float, float]]) -> tuple[int, float]:
    """Return how often the loop was kept awake after these runs, and for how long in all.

    Each run: its requests, its begin and its end, in seconds from now.
    """

    async def run() -> tuple[int, float]:
        spin = Spin(PAUSE_S)
        loop = asyncio.get_running_loop()
        times: list[float] = []
        call_soon: Callable[..., Any] = loop.call_soon

        def counted(callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if getattr(callback, "__self__", None) is spin:
                times.append(perf_counter())
            return call_soon(callback, *args, **kwargs)

        loop.call_soon = counted  # type: ignore[method-assign]
        now = perf_counter()
        for jobs, started, ended in calls:
            spin.served(jobs, now + started, now + ended)
        await asyncio.sleep(3 * PAUSE_S)
        return len(times), times[-1] - now if times else 0.0

    return asyncio.run(run())


def test_a_lone_request_soon_after_another_keeps_the_loop_awake_for_the_pause() -> None:
    count, last_s = looks([(1, -0.002, -0.001), (1, 0.0, 0.0)])
    assert count > 10
    assert 0.5 * PAUSE_S < last_s < 2 * PAUSE_S


@pytest.mark.parametrize(
    "calls",
    [
        [(1, 0.0, 0.0)],  # the first of all
        [(1, -1.0, -0.5), (1, 0.0, 0.0)],  # rare
        [(1, -0.002, -0.001), (2, 0.0, 0.0)],  # two at once: there is load
    ],
)
def test_otherwise_the_loop_sleeps(calls: list[tuple[int, float, float]]) -> None:
    assert looks(calls) == (0, 0.0)


def test_one_pause_is_not_begun_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        begun: list[Any] = []
        spin = Spin(PAUSE_S)
        now = perf_counter()
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.get_running_loop(), "call_soon", begun.append)
            for n in range(3):
                spin.served(1, now + n * PAUSE_S / 4, now + n * PAUSE_S / 4)
        assert len(begun) == 1

    asyncio.run(run())


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
