"""Work that must go on, whatever becomes of it in between."""

from __future__ import annotations

import asyncio

import pytest

from tests.transport.virtual import JumpingLoop
from transport.supervise import AGAIN_FIRST_S, AGAIN_LAST_S, begun_again


def test_what_fails_begins_anew_less_and_less_often() -> None:
    """And as often as at first, once it has lasted."""
    begun: list[float] = []
    lasts = [0.0] * 10 + [AGAIN_LAST_S, 0.0]
    failures = 0

    async def work() -> None:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) > len(lasts):
            return
        await asyncio.sleep(lasts[len(begun) - 1])
        raise OSError("by the test")

    def failed() -> None:
        nonlocal failures
        failures += 1

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(begun_again(work, failed))
    pauses = [
        after - before - lasted
        for before, after, lasted in zip(begun[:-1], begun[1:], lasts, strict=True)
    ]
    assert pauses[:3] == [AGAIN_FIRST_S, 2 * AGAIN_FIRST_S, 4 * AGAIN_FIRST_S]
    assert pauses[9] == AGAIN_LAST_S
    assert pauses[10] == pytest.approx(AGAIN_FIRST_S)
    assert failures == len(lasts)


async def test_what_fails_while_it_is_ended_does_not_begin_anew() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("by the test")

    task = asyncio.create_task(begun_again(work, lambda: None))
    await begun.wait()
    task.cancel()
    with pytest.raises(OSError, match="by the test"):
        await asyncio.wait_for(task, 1)
