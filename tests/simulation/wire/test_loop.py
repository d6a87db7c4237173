"""Virtual time: it jumps over sleep, and stands still over work."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from simulation.wire.loop import VirtualLoop, run

DAY_S = 86_400.0


def test_timers_fire_in_order_each_at_its_time() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[str, float]] = []

        def fire(name: str) -> None:
            fired.append((name, loop.time()))

        for name, when in (("late", 10 * DAY_S), ("second", 0.6), ("third", 0.7), ("first", 0.5)):
            loop.call_at(when, fire, name)
        await asyncio.sleep(11 * DAY_S)
        return fired

    fired = run(main())
    assert [name for name, _ in fired] == ["first", "second", "third", "late"]
    assert [when for _, when in fired] == pytest.approx([0.5, 0.6, 0.7, 10 * DAY_S])


def test_a_sleeper_wakes_when_it_wanted_to_however_many_there_are() -> None:
    async def sleeper(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async def main() -> list[float]:
        return await asyncio.gather(*(sleeper(number / 7) for number in range(1000)))

    assert run(main()) == pytest.approx([number / 7 for number in range(1000)])


@pytest.mark.parametrize("own_pool", [False, True])
def test_time_waits_for_a_thread(own_pool: bool) -> None:
    def work() -> str:
        time.sleep(0.05)  # real: the loop has nothing else to do, and a timer to jump to
        return "done"

    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(3600, pytest.fail, "time passed while a thread worked")
        if own_pool:
            with ThreadPoolExecutor(1) as pool:
                result = await loop.run_in_executor(pool, work)
        else:
            result = await asyncio.to_thread(work)
        alarm.cancel()
        return result, loop.time()

    assert run(main()) == ("done", 0.0)


def test_a_thread_that_nobody_waits_for_any_more_does_not_stop_time_for_ever() -> None:
    go = threading.Event()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(None, go.wait)
        working.cancel()
        await asyncio.sleep(DAY_S)
        go.set()
        return loop.time()

    assert run(main()) == DAY_S


def test_a_deadline_passes_at_its_time_and_cancels() -> None:
    async def main() -> tuple[float, bool]:
        sleeping = asyncio.ensure_future(asyncio.sleep(DAY_S))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await sleeping
        return asyncio.get_running_loop().time(), sleeping.cancelled()

    assert run(main()) == (5.0, True)


def test_what_a_thread_reports_is_heard() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(heard.set)

        await asyncio.gather(asyncio.to_thread(work), heard.wait())
        return loop.time()

    assert run(main()) == 0.0


def test_time_waits_for_a_thread_that_somebody_else_started() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        done = loop.create_future()
        loop.wait_for_thread(done)
        alarm = loop.call_later(3600, pytest.fail, "time passed while a thread worked")
        threading.Timer(0.05, loop.call_soon_threadsafe, (done.set_result, None)).start()
        await done
        alarm.cancel()
        return loop.time()

    assert run(main()) == 0.0


def test_waiting_for_nothing_is_an_error_and_not_a_standstill() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer is left"):
        run(main())
