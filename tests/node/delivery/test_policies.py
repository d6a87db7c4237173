"""Path policies with real nodes and a real relay: what each allows, and what the others see."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from discovery.record import newest
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine.commands import SetPathPolicy
from node.node import Node
from schemas.addresses import RelayAddress
from schemas.errors import Refused
from schemas.ids import IdentityKey
from schemas.path_policy import PathPolicy
from schemas.records import EndpointRecord
from tests.node.delivery.real import DONE, Person, befriend, joined, ledger, once_stocked, texts
from tests.node.delivery.support import Relays, eventually, within


async def choose(node: Node, policy: PathPolicy | None, whom: IdentityKey | None = None) -> None:
    await node.ask(SetPathPolicy(whom, policy))


def linked(a: Node, b: Node) -> bool:
    return a._net.links.get(b.device) is not None


async def group_of(a: Node, b: Node) -> object:
    await befriend(a, b)
    made = await once_stocked(a, b)
    await joined(b, made.group)
    return made.group


async def test_relay_only_hides_us_from_one_person(relays: Relays, tmp_path: Path) -> None:
    relay = str((await relays()).address)
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running(relay) as a, bob.running(relay) as b:
        group = await group_of(a, b)
        await eventually(lambda: linked(a, b))
        await choose(a, PathPolicy.RELAY_ONLY, b.identity)
        await eventually(lambda: not linked(a, b))

        for node, text in ((a, "hidden"), (b, "back")):
            sent = await node.ask(c.Send(group, text))  # type: ignore[arg-type]
            rows = await ledger(node, sent, DONE)
            assert {row.path for row in rows} == {"relay"}
        assert not linked(b, a)
        # Who asks for where we are over a link, or gets our news, learns it no longer.
        answer = await a.ask(d.AnswerBundle(a.identity, 0, b.device))
        assert answer.core is not None
        assert answer.endpoints == ()
        assert (await within(a.paths(b.identity)))[0].sentence.startswith("By relay.")

        await choose(a, None, b.identity)
        await within(a.ping(b.identity.hex()))
        assert linked(a, b)


async def test_who_is_hidden_from_one_person_is_told_by_no_relay(
    relays: Relays, tmp_path: Path
) -> None:
    """Anybody may ask it; whom we do not hide from is told by us, and prefers that."""
    relay = str((await relays()).address)
    ada, bob, cy = (Person(tmp_path, name) for name in ("ada", "bob", "cy"))
    async with ada.running(relay) as a, bob.running(relay) as b, cy.running(relay) as c_:
        await befriend(a, b)
        await befriend(a, c_)

        async def at_relay(node: Node) -> EndpointRecord:
            client = await node._net.pool.client(RelayAddress.parse(relay))
            signed = await client.resolve_endpoint(a.device)
            assert signed is not None
            return EndpointRecord.decode(signed.payload)

        async def shows(addresses: bool) -> EndpointRecord:
            async with asyncio.timeout(10):
                while bool((record := await at_relay(b)).addresses) is not addresses:
                    await asyncio.sleep(0.02)
            return record

        before = await shows(addresses=True)
        await choose(a, PathPolicy.RELAY_ONLY, b.identity)
        hidden = await shows(addresses=False)
        assert hidden.sequence > before.sequence
        assert hidden.relays == before.relays
        (given,) = (await a.ask(d.AnswerBundle(a.identity, 0, c_.device))).endpoints
        full = EndpointRecord.decode(given.payload)
        assert full.addresses == before.addresses
        assert newest(full, hidden) == full
        assert (await a.ask(c.WhoAmI())).addresses
        await choose(a, None, b.identity)
        assert (again := await shows(addresses=True)).sequence > hidden.sequence
        await choose(a, PathPolicy.RELAY_ONLY, b.identity)
        assert (await shows(addresses=False)).sequence > again.sequence


async def test_relay_only_for_everybody_publishes_no_address(
    relays: Relays, tmp_path: Path
) -> None:
    relay = str((await relays()).address)
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running(relay) as a, bob.running(relay) as b:
        await choose(a, PathPolicy.RELAY_ONLY)
        await eventually(lambda: a._net.own_relays is not None)

        async def hidden() -> bool:
            return not (await a.ask(c.WhoAmI())).addresses

        async with asyncio.timeout(5):
            while not await hidden():
                await asyncio.sleep(0.02)
        group = await group_of(a, b)
        sent = await b.ask(c.Send(group, "hello"))  # type: ignore[arg-type]
        rows = await ledger(b, sent, DONE)
        assert {row.path for row in rows} == {"relay"}
        peer = await b.ask(d.LookUpPeer(a.device))
        assert peer.hints == ()
        assert not linked(a, b)
        # A person's own policy cannot undo it.
        await choose(a, PathPolicy.AUTO, b.identity)
        assert (await a.ask(c.PathPolicyOf(b.identity))).policy is PathPolicy.RELAY_ONLY


async def test_direct_only_gives_nothing_to_a_relay(relays: Relays, tmp_path: Path) -> None:
    relay = str((await relays()).address)
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running(relay, relay_fallback_s=0.3) as a:
        async with bob.running(relay) as b:
            group = await group_of(a, b)
            await choose(a, PathPolicy.DIRECT_ONLY, b.identity)
        sent = await a.ask(c.Send(group, "only by hand"))  # type: ignore[arg-type]

        async def reason() -> str | None:
            rows = await a.ask(c.ReadLedger(sent.message.hex()))
            return rows[0].reason

        async with asyncio.timeout(10):
            while await reason() != "policy-direct-only":
                await asyncio.sleep(0.02)
        (why,) = await a.ask(c.Why(sent.message.hex()))
        assert "allows no relay" in why.sentence
        async with bob.running(relay) as b:
            assert (await texts(b, 1))[0].path == "direct"


async def test_lan_only_does_not_dial_elsewhere(tmp_path: Path) -> None:
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running() as a, bob.running() as b:
        await befriend(a, b)
        await choose(a, PathPolicy.LAN_ONLY)
        await within(a.ping(b.identity.hex()))  # loopback is a network that we are on
        assert (await a.paths(b.identity))[0].policy is PathPolicy.LAN_ONLY


@pytest.mark.parametrize("policy", list(PathPolicy))
async def test_a_policy_is_remembered(tmp_path: Path, policy: PathPolicy) -> None:
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with bob.running() as b, ada.running() as a:
        await befriend(a, b)
        await choose(a, policy, b.identity)
        him = b.identity
    async with ada.running() as a:
        assert (await a.ask(c.PathPolicyOf(him))).policy is policy


async def test_a_policy_for_nobody_we_know_is_refused(tmp_path: Path) -> None:
    """As for a device's key, which looks alike: the user would think that it holds."""
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with bob.running() as b, ada.running() as a:
        await befriend(a, b)
        with pytest.raises(Refused) as refused:
            await choose(a, PathPolicy.RELAY_ONLY, IdentityKey(b.device))
        assert refused.value.code == "unknown-person"
