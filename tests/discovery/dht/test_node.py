"""A node over hours: its table follows who comes and goes, at a price that is known."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.rpc import Asker
from schemas.dht import FindNode
from tests.discovery.dht.net import KEY, Member, Net, signer, value_of
from tests.discovery.dht.test_lookup import acquainted
from tests.transport.virtual import JumpingLoop

LIMITS = DEFAULT_DHT_LIMITS
HOUR_S = 3600.0


async def live(members: list[Member], for_s: float) -> None:
    """All of them run for so long."""
    tasks = [asyncio.create_task(member.node.run()) for member in members]
    await asyncio.sleep(for_s)
    for task in tasks:
        assert not task.done() or task.exception() is None
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_newcomers_are_known_within_seconds(loop: JumpingLoop) -> None:
    net = acquainted(loop, 40)
    old = list(net.members.values())
    newcomer = net.add()

    async def scenario() -> None:
        running = asyncio.create_task(live(old, 10))
        await asyncio.sleep(1)
        await newcomer.node.bootstrap([old[0].contact])
        await running

    net.run(scenario())
    assert sum(newcomer.contact in member.node.contacts() for member in old) >= 10


def test_those_who_are_gone_are_forgotten(loop: JumpingLoop) -> None:
    net = acquainted(loop, 60)
    members = list(net.members.values())
    gone, left = members[:15], members[15:]
    for member in gone:
        member.answer = None
    net.run(live(left[:4], 2 * HOUR_S))
    dead = {member.contact for member in gone}
    for member in left[:4]:
        assert not dead & set(member.node.contacts())
        assert len(member.node.contacts()) >= 20


def test_what_a_quiet_node_sends_is_bounded(loop: JumpingLoop) -> None:
    """When nothing happens: its neighbourhood twice an hour, and stale contacts."""
    net = acquainted(loop, 100)
    one = next(iter(net.members.values()))
    net.run(live([one], HOUR_S))  # it settles
    before = net.requests
    net.run(live([one], HOUR_S))
    assert net.requests - before < 300


def test_an_empty_table_is_filled_from_those_it_began_with(loop: JumpingLoop) -> None:
    """A node that started without a network has one a round after the network is there."""
    net = acquainted(loop, 40)
    known = next(iter(net.members.values()))
    newcomer = net.add()
    answer, known.answer = known.answer, None
    assert net.run(newcomer.node.bootstrap([known.contact])) == 0
    known.answer = answer
    net.run(live([newcomer], 2 * LIMITS.round_s))
    assert len(newcomer.node.contacts()) > 10


def test_beginning_does_not_wait_for_all_that_are_dead(loop: JumpingLoop) -> None:
    net = acquainted(loop, 60)
    alive = [member.contact for member in net.members.values()][: LIMITS.bucket]
    dead = [DhtContact(net.device_key(), net.address()) for _ in range(40)]
    newcomer = net.add()
    net.run(newcomer.node.bootstrap([*alive, *dead]))
    assert loop.time() < 2 * LIMITS.rpc_s


def test_seeds_are_bounded(loop: JumpingLoop) -> None:
    net = Net(loop)
    one = net.add()
    for _ in range(3):
        dead = (DhtContact(net.device_key(), net.address()) for _ in range(1_000))
        net.run(one.node.bootstrap(dead))
    assert net.requests <= 3 * LIMITS.seeds


def test_values_that_nobody_asks_for_are_swept(loop: JumpingLoop) -> None:
    net = acquainted(loop, 30)
    author, *others = net.members.values()
    net.run(author.node.publish(KEY, value_of(signer(1), now=net.clock(), lives_s=600)))
    keepers = [member for member in others if len(member.node._values)]
    assert len(keepers) == LIMITS.store_width
    net.run(live(keepers, 700))
    assert not any(len(member.node._values) for member in keepers)


def test_a_published_value_moves_to_who_takes_it(loop: JumpingLoop) -> None:
    """Those who refuse or are gone are passed over."""
    net = acquainted(loop, 60)
    author, *others = net.members.values()
    full = sorted(others, key=lambda m: m.contact.long_id ^ int.from_bytes(KEY, "big"))[:4]
    for member in full:
        for number in range(LIMITS.cell_values):
            member.node._values.put(KEY, value_of(signer(90 + number)), net.address(), net.clock())
    assert net.run(author.node.publish(KEY, value_of(signer(1)))) == LIMITS.store_width
    assert author.node.counts["cell-full"] == len(full)


def test_an_asker_is_not_told_of_itself(loop: JumpingLoop) -> None:
    net = acquainted(loop, 30)
    server, asker, *_ = net.members.values()
    net.acquaint([server], [asker])
    response = server.node.answer(Asker(asker.device, asker.contact.address), FindNode(KEY))
    assert asker.contact not in response.contacts  # type: ignore[union-attr]


@pytest.mark.parametrize("server", [True, False])
def test_only_servers_announce_themselves(loop: JumpingLoop, server: bool) -> None:
    net = acquainted(loop, 30)
    node = net.add(server=server)
    announced: Counter[bool] = Counter()
    for member in list(net.members.values())[:-1]:

        def answer(asker: Asker, request: object, member: Member = member) -> object:
            if isinstance(request, FindNode):
                announced[request.announce and asker.device == node.device] += 1
            return member.node.answer(asker, request)  # type: ignore[arg-type]

        member.answer = answer  # type: ignore[assignment]
    net.run(node.node.bootstrap([next(iter(net.members.values())).contact]))
    assert bool(announced[True]) is server
    announced.clear()
    net.run(node.node.lookup(KEY))
    net.run(node.node.publish(KEY, value_of(signer(1))))
    assert not announced[True], "values are looked for and published as nobody"
