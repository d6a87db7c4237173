"""The stores that tests are run on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay.store.contract import Quotas, RelayStore


class Opener:
    """Opens the data of one test, the same each time, as restarts do."""

    def __init__(self, factory: Callable[[Quotas], Awaitable[RelayStore]]) -> None:
        self._factory = factory
        self._opened: list[RelayStore] = []

    async def __call__(self, quotas: Quotas | None = None) -> RelayStore:
        await self.close()
        store = await self._factory(quotas or Quotas())
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
