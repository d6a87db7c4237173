"""Waiting for something that holds after the next packet, or never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.errors import Unreachable


class Conditions:
    """Tasks that wait, each for a condition of its own."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def wait(self, condition: Callable[[], bool], deadline_s: float | None) -> None:
        """Until `look` finds that it holds, or `release`. Raises Unreachable `deadline`."""
        if condition():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, waiter)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(deadline_s):
                await waiter
        except TimeoutError as error:
            raise Unreachable("deadline", f"The peer did not react for {deadline_s:g} s") from error
        finally:
            self._waiting.remove(entry)

    def look(self) -> None:
        """Wake those whose condition holds now."""
        for condition, waiter in self._waiting:
            if not waiter.done() and condition():
                waiter.set_result(None)

    def release(self) -> None:
        """Wake all: there will be nothing to wait for."""
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
