"""Whole nodes that publish no address at all: only a meeting links them."""

from __future__ import annotations

from pathlib import Path

from node.engine import commands as c
from node.node import Node
from tests.node.delivery.real import Person, befriend, card
from tests.node.delivery.support import Relays, eventually, within


async def reached(one: Node, other: Node) -> bool:
    device = (await other.ask(c.WhoAmI())).device
    return await within(one._net.dialer.reach(device, 8.0, eager=True)) is not None


async def test_their_relay_brings_them_together(kj: None, relays: Relays, tmp_path: Path) -> None:
    relay = await relays()
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with (
        ada.running(str(relay.address), listen=None) as a,
        bob.running(str(relay.address), listen=None) as b,
    ):
        await befriend(a, b)
        await eventually(lambda: len(relay.service.subscriptions) == 2)
        assert await reached(a, b)
        assert relay.service.rendezvous.counters["met"] >= 1


async def test_a_contact_of_both_brings_them_together(kj: None, tmp_path: Path) -> None:
    """There is no relay anywhere."""
    ada, bob, cy = (Person(tmp_path, name) for name in ("ada", "bob", "cy"))
    async with (
        ada.running(listen=None) as a,
        bob.running(listen=None) as b,
        cy.running() as common,
    ):
        await befriend(a, b)
        await befriend(a, common)
        await befriend(b, common)
        assert await reached(a, common)
        assert await reached(b, common)
        assert await reached(a, b)
        mallory = Person(tmp_path, "mallory")
        async with mallory.running(listen=None) as m:
            await m.add_contact(await card(common))
            await m.add_contact(await card(b))
            assert await reached(m, common)
            device = (await b.ask(c.WhoAmI())).device
            assert await m._net.dialer.reach(device, 1.0, eager=True) is None, "a stranger to both"
