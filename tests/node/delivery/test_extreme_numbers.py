"""A relay that says numbers which no database, date or sum can hold, in any field that it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import mls_rs
import pytest

from node.delivery.relay_client import RelayClient
from node.engine import commands as c
from node.engine import engine
from schemas.errors import Blame, Malformed
from schemas.ids import ParcelId
from schemas.node_service import EnqueueItem
from tests.node.delivery.hostile_relay import Mischief, hostile_relay
from tests.node.delivery.real import DONE, Person, befriend, joined, ledger, texts
from tests.node.delivery.support import FakeNodes, Relays, eventually, stranger

SIGNED = (-(2**63), -1, 2**53, 2**63 - 1)
UNSIGNED = (2**53, 2**63, 2**64 - 1)
DATE = (*SIGNED, 253_402_300_800)  # the year 10000
TOO_MUCH = {
    "parcel.sequence": UNSIGNED,
    "parcel.expires": DATE,
    "peek.lowest": UNSIGNED,
    "peek.highest": UNSIGNED,
    "peek.refusedSince": DATE,
    "enqueued.sequence": UNSIGNED,
    "enqueued.expires": DATE,
    "health.uptimeS": UNSIGNED,
    "health.clockMs": SIGNED,
}


async def ask(client: RelayClient, about: str) -> object:
    match about:
        case "enqueued":
            return await client.enqueue(
                [EnqueueItem(stranger(), ParcelId(bytes(16)), 2**37, b"\1")]
            )
        case "health":
            return await client.health()
    return await client.peek(0, 10)


@pytest.mark.parametrize("field", TOO_MUCH)
async def test_what_has_such_a_number_is_no_answer(nodes: FakeNodes, field: str) -> None:
    mischief = Mischief("is honest")
    mischief.mail += mischief.nonsense(1)
    about = field.split(".")[0]
    node = await nodes()
    async with hostile_relay(mischief) as relay:
        client = await node.delivery.pool.client(relay)
        assert await ask(client, about)
        for number in TOO_MUCH[field]:
            mischief.numbers = {field: number}
            with pytest.raises(Malformed) as refused:
                await ask(client, about)
            assert refused.value.blame is Blame.PEER


@pytest.fixture
async def stack(kj: None) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.mark.parametrize("extreme", [max, min])
@pytest.mark.parametrize("part", ["parcel.expires", "parcel", "peek", "enqueued", "health"])
async def test_such_a_relay_of_ours_costs_us_nothing_but_itself(
    stack: AsyncExitStack,
    relays: Relays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    extreme: Callable[[tuple[int, ...]], int],
) -> None:
    """It is the first of both: mail goes and comes by the other one, and we see which it is."""
    mended: list[object] = []

    def mend(database: object) -> Counter[str]:
        mended.append(database)
        return Counter()

    monkeypatch.setattr(engine, "mend", mend)
    honest = await relays()
    mischief = Mischief("is honest")
    bad = await stack.enter_async_context(hostile_relay(mischief))
    both = (str(bad), str(honest.address))
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    a = await stack.enter_async_context(ada.running())
    async with bob.running(*both) as b:
        await befriend(a, b)
        group = (await a.direct_group(b.identity, suite=mls_rs.CLASSIC)).group
        await joined(b, group)
    first = await a.ask(c.Send(group, "first"))
    await ledger(a, first, ("held",))
    assert mischief.mail, "it takes parcels like any other"
    mischief.numbers = {
        field: extreme(numbers) for field, numbers in TOO_MUCH.items() if field.startswith(part)
    }
    mischief.takes = part == "enqueued"
    async with bob.running(*both, listen=None) as b:
        second = await a.ask(c.Send(group, "second"))
        assert "second" in [m.text for m in await texts(b, 2 if part == "enqueued" else 1)]
        await ledger(a, second, DONE)
        status = {view.relay: view.status for view in await b.health()}
        assert status[str(honest.address)] == "ok"
        assert status[str(bad)] == ("unreachable" if part == "health" else "ok")
        counters = a.counters if part == "enqueued" else b.counters
        await eventually(lambda: any("malformed-relay-answer" in name for name in counters))
        for node in (a, b):
            assert not any("internal" in name or "crash" in name for name in node.counters)
    assert not mended, "a relay makes us walk over the whole database"
