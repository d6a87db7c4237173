"""Objects of the loop that ended in a cycle are freed by the loop's thread: by another one, pycapnp
aborts the process."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

from transport import kj_loop


class Knot:
    """In a cycle with itself, as a connection's objects are with their exceptions."""

    def __init__(self) -> None:
        self.itself = self


async def test_cycles_are_freed_by_the_thread_of_the_loop() -> None:
    freed: list[int] = []
    async with kj_loop():
        for _ in range(20):
            weakref.finalize(Knot(), lambda: freed.append(threading.get_ident()))

        def allocate() -> None:
            for _ in range(50):
                [Knot() for _ in range(1000)]  # far above every threshold

        thread = threading.Thread(target=allocate)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
        assert freed == [] or set(freed) == {threading.get_ident()}
        async with asyncio.timeout(10):
            while len(freed) < 20:
                await asyncio.sleep(0.05)
    assert set(freed) == {threading.get_ident()}
    assert gc.isenabled(), "outside of the loop Python collects as ever"
