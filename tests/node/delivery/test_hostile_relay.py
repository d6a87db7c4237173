"""A relay is anybody's: whatever one does, the node stays bounded, and its other paths deliver."""

from __future__ import annotations

import asyncio

import pytest

from node.engine.delivery_commands import Arrived
from node.engine.values import Accepted, Rejected, Verdict
from schemas.errors import Malformed
from schemas.node_service import StoredParcel
from tests.node.delivery.hostile_relay import Mischief, hostile_relay
from tests.node.delivery.support import FakeEngine, FakeNodes, Relays, eventually

# What each does, and the counter that says so (None: nothing of it can be seen to be wrong).
WAYS = {
    "reorders": "own-relay-malformed-mailbox",
    "repeats": "own-relay-malformed-mailbox",
    "truncates": "arrival-cannot-open",
    "rewrites": "arrival-cannot-open",
    "withholds": None,
    "lies": "own-relay-malformed-relay-answer",
    "endless": "arrival-cannot-open",
    "never answers": "own-relay-rpc-deadline",
    "pushes garbage": "arrival-cannot-open",
    "pushes endlessly": "arrival-cannot-open",
    "pushes the impossible": "rpc-malformed-mailbox",
}


@pytest.mark.parametrize("how", WAYS)
async def test_one_hostile_relay_takes_nothing_from_the_other(
    nodes: FakeNodes, relays: Relays, how: str
) -> None:
    """Bob reads his mail at two relays, the first of which is hostile."""
    honest = await relays()
    mischief = Mischief(how)
    bob = FakeEngine()

    def judge(arrived: Arrived) -> Verdict:
        try:
            bob.open(arrived)
        except Malformed as fault:
            return Rejected(fault.code)
        return Accepted()

    bob.verdict = judge
    ada = await nodes()
    async with hostile_relay(mischief) as bad:
        bob.relays = (str(bad), str(honest.address))
        ada.knows(bob, relays=[str(bad)])
        swallowed = ada.post(bob, 3)
        assert all(o.held for o in await ada.outcomes(swallowed)), "it takes parcels like any other"
        node = await nodes(engine=bob, relay_call_s=0.5)
        ada.knows(bob, relays=[str(honest.address)])
        kept = ada.post(bob, 5)
        await ada.outcomes(kept)
        await eventually(lambda: {a.parcel.id for a in bob.arrived} >= set(kept), 5)
        if (reason := WAYS[how]) is not None:
            await eventually(lambda: node.delivery.counters[reason], 5)
        asked, arrived = mischief.pages + mischief.pushes, len(bob.arrived)
        await asyncio.sleep(
            1.0
        )  # not a wait for something: how much it can make us do in that time
        assert mischief.pages + mischief.pushes - asked < 60, "no busy loop"
        assert len(bob.arrived) - arrived < 400, "rubbish is taken slowly"
        assert not any("crash" in name for name in node.delivery.counters)


async def test_a_relay_that_counts_anew_after_a_reconnection_is_read_again(
    nodes: FakeNodes,
) -> None:
    """Restored from yesterday's backup, its numbers start below what was seen."""
    mischief = Mischief("is honest")
    bob = FakeEngine()
    ada = await nodes()
    async with hostile_relay(mischief) as relay:
        bob.relays = (str(relay),)
        ada.knows(bob, relays=bob.relays)
        node = await nodes(engine=bob)
        first = ada.post(bob, 3)
        await ada.outcomes(first)
        await eventually(lambda: len(mischief.acked) == 3)
        mischief.mail[:] = [
            StoredParcel(1, parcel.id, parcel.expires, parcel.sealed)
            for parcel in mischief.mail[:1]
        ]
        mischief.acked.clear()
        client = await node.delivery.pool.client(relay)
        client.connection.close_now(0)
        await eventually(lambda: len(bob.arrived) > 3)
