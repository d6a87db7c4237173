"""Whichever database: the same operations in the same order have the same outcomes.

The rules of enqueue stand twice, in Python and in PL/pgSQL; here each random history is lived
through in both. Sequence numbers may differ (SQLite leaves gaps); their order may not.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.store.contract import MailboxName, Quotas, RelayStore
from relay.store.delivery_tokens import Bringer, token_hash
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Refused
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import EnqueueItem
from tests.relay.support import NOW

QUOTAS = Quotas(mailbox_parcels=4, mailbox_bytes=1_000, token_share=0.5)
TOKENS = [bytes([n]) * 32 for n in range(2)]
SOON, LATE = 60, 10_000

boxes = st.integers(0, 1)
bring = st.tuples(
    st.just("bring"),
    boxes,
    st.integers(0, 7),  # the parcel's id
    st.sampled_from([100, 100, 300, 700]),
    st.sampled_from([b"", TOKENS[0], *TOKENS]),
    st.sampled_from(["owner", "member", "member", "nobody", "not making"]),
    st.sampled_from([SOON, LATE]),
)
operations = st.one_of(
    bring,
    bring,
    bring,
    st.tuples(st.just("tokens"), boxes, st.sets(st.integers(0, 1)), st.booleans()),
    st.tuples(st.just("open"), boxes),
    st.tuples(st.just("acknowledge"), boxes, st.sets(st.integers(0, 7), min_size=1)),
    st.tuples(st.just("seen"), boxes),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("wait"), st.sampled_from([SOON, LATE])),
)


@dataclass
class World:
    """One store as the operations see it."""

    store: RelayStore
    people: list[DeviceKey]
    now: int = NOW

    async def do(self, kind: str, *arguments: Any) -> object:
        outcome: object = await getattr(self, kind)(*arguments)
        return outcome, [await self.show(box) for box in range(len(self.people))]

    async def bring(
        self, box: int, number: int, size: int, token: bytes, who: str, lifetime: int
    ) -> object:
        recipient = self.people[box]
        item = EnqueueItem(
            recipient, ParcelId(bytes([number]) * 16), self.now + lifetime, bytes(size), b"", token
        )
        by = Bringer(
            recipient if who == "owner" else DeviceKey(bytes(32)),
            admitted=who != "nobody",
            making=who != "not making",
        )
        [outcome] = await self.store.enqueue([item], now=self.now, by=by)
        return outcome.code if isinstance(outcome, Refused) else outcome.expires

    async def tokens(self, box: int, which: set[int], optional: bool) -> object:
        hashes = [token_hash(TOKENS[n]) for n in which]
        tokens = self.store.delivery_tokens
        await tokens.set(self.people[box], hashes, optional=optional, now=self.now)
        return await tokens.of(self.people[box])

    async def open(self, box: int) -> None:
        await self.store.open_mailbox(MailboxName(self.people[box]), now=self.now)

    async def acknowledge(self, box: int, which: set[int]) -> object:
        name = MailboxName(self.people[box])
        mailbox = await self.look(box)
        found = [each.sequence for each in mailbox.parcels if each.id[0] in which]
        return await self.store.acknowledge(name, found)

    async def seen(self, box: int) -> None:
        name = MailboxName(self.people[box])
        await self.store.forget_refusal(name, (await self.look(box)).refused_since)

    async def sweep(self) -> int:
        before = self.store.counters["expired"]
        await self.store.sweep(now=self.now)
        return self.store.counters["expired"] - before

    async def wait(self, seconds: int) -> None:
        self.now += seconds

    async def look(self, box: int) -> Any:
        name = MailboxName(self.people[box])
        return await self.store.peek(name, after=0, limit=100, max_bytes=2**20, now=self.now)

    async def show(self, box: int) -> object:
        mailbox = await self.look(box)
        numbers = [each.sequence for each in mailbox.parcels]
        assert numbers == sorted(set(numbers))
        assert [mailbox.lowest, mailbox.highest] == (
            [numbers[0], numbers[-1]] if numbers else [0] * 2
        )
        state = await self.store.mailbox_state(MailboxName(self.people[box]))
        return (
            [(each.id, each.expires, len(each.sealed)) for each in mailbox.parcels],
            mailbox.refused_since,
            (state.parcels, state.bytes, state.refused_since),
        )


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[list[RelayStore]]:
    both: list[RelayStore] = [
        await SqliteStore.open(tmp_path / "relay.db", QUOTAS),
        await PostgresStore.open(database_url, QUOTAS),
    ]
    yield both
    for store in both:
        await store.close()


histories = itertools.count()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(operations, min_size=10, max_size=40))
async def test_both_stores_live_through_the_same(
    stores: list[RelayStore], history: list[tuple[Any, ...]]
) -> None:
    number = next(histories)
    people = [DeviceKey(bytes([1 + box]) * 24 + number.to_bytes(8)) for box in range(2)]
    begun = NOW + number * 10**7  # what earlier ones left has expired
    worlds = [World(store, people, begun) for store in stores]
    for world in worlds:
        while await world.store.sweep(now=begun):
            pass
    for operation in history:
        here, there = [await world.do(*operation) for world in worlds]
        assert here == there, operation
