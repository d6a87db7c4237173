"""Two nodes that no direct dial connects are brought together; a signaller that lies gains nothing
but a few packets."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest

from discovery.scope import OwnNetworks
from node.delivery.link import Link
from node.delivery.requests import ask_meeting
from relay.server import Relay
from schemas.addresses import Address
from schemas.errors import Refused
from schemas.frames import Meet, MeetRequest
from schemas.ids import DeviceKey
from schemas.path_policy import PathPolicy
from tests.node.delivery.support import (
    QUICK,
    FakeEngine,
    FakeNode,
    FakeNodes,
    Relays,
    eventually,
    stranger,
    within,
)
from tests.timing import soonest


class Victim(asyncio.DatagramProtocol):
    """Somebody who never asked for anything, and counts what comes."""

    def __init__(self) -> None:
        self.datagrams = 0
        self.address = Address("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = Address(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.datagrams += 1


async def victim(relays: Relays, host: str = "127.0.0.1") -> Victim:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Victim, local_addr=(host, 0))
    relays.stack.callback(transport.close)
    return protocol


def at(relay: Relay) -> FakeEngine:
    """An engine whose mailbox is at this relay."""
    engine = FakeEngine()
    engine.relays = (str(relay.address),)
    return engine


async def subscribed(relay: Relay, *nodes: FakeNode) -> None:
    latest = relay.service.subscriptions.latest
    await eventually(lambda: all(latest(node.engine.key) for node in nodes))


async def acquainted(relay: Relay, nodes: FakeNodes, **changes: Any) -> tuple[FakeNode, FakeNode]:
    """Two who know each other, and their relay, but not where the other one is."""
    a, b = await nodes(engine=at(relay), **changes), await nodes(engine=at(relay), **changes)
    a.knows(b.engine, relays=[str(relay.address)])
    b.knows(a.engine, relays=[str(relay.address)])
    await subscribed(relay, a, b)
    return a, b


def invitation(relay: Relay, node: FakeNode) -> Any:
    """The sink by which the relay, lying or not, tells the node to meet somebody."""
    subscription = relay.service.subscriptions.latest(node.engine.key)
    assert subscription is not None
    return subscription.sink


async def invite(
    relay: Relay, node: FakeNode, device: DeviceKey, addresses: Sequence[str]
) -> list[str]:
    """As a relay that says what it likes."""
    answer = await within(
        invitation(relay, node).meet(peer=bytes(device), addresses=list(addresses))
    )
    return list(answer.addresses)


async def test_a_relay_brings_two_together(nodes: FakeNodes, relays: Relays) -> None:
    relay = await relays()
    a, b = await acquainted(relay, nodes)
    a.post(b.engine)
    await within(_link(a, b))
    known = a.delivery.dialer.candidates.of
    await eventually(lambda: all(each.result for each in known(b.engine.key)))
    [candidate] = known(b.engine.key)
    assert candidate.sources == ("meeting",)
    assert candidate.endpoint.address == b.address
    assert candidate.result in ("answered", "overtaken"), "by b's dial"
    assert relay.service.rendezvous.counters["met"] == 1
    assert b.delivery.counters["meeting-agreed"] == 1
    await eventually(lambda: len(a.delivery.endpoint.connections) == 2)  # the relay's, and b's


@pytest.mark.parametrize("mute", ["a", "b"])
async def test_both_dial(nodes: FakeNodes, relays: Relays, mute: str) -> None:
    """Whose packets come through is for the NATs to say."""
    relay = await relays()
    a, b = await acquainted(relay, nodes)
    meetings = (a if mute == "a" else b).delivery.meetings
    meetings._means = dataclasses.replace(meetings._means, dial=_never)
    a.post(b.engine)
    link = await within(_link(a, b))
    assert link.dialed == (mute == "b")


async def _never(*_: object, **__: object) -> Link:
    await asyncio.Event().wait()
    raise AssertionError


async def _link(a: FakeNode, b: FakeNode) -> Link:
    await a.delivery.links.watch(b.engine.key)
    link = a.delivery.links.get(b.engine.key)
    assert link is not None
    return link


async def test_a_common_peer_brings_two_together(nodes: FakeNodes) -> None:
    """No relay at all: the one whom both are linked to tells them."""
    a, b, common = await nodes(), await nodes(), await nodes()
    for one in (a, b):
        one.meets(common)
        common.meets(one)
        assert await within(one.delivery.dialer.reach(common.engine.key, 5.0))
    a.knows(b.engine)
    b.knows(a.engine)
    a.engine.introducers = (common.engine.key,)
    common.engine.introducers = (a.engine.key,)
    [outcome] = await a.outcomes(a.post(b.engine))
    assert outcome.acked


async def test_a_common_peer_tells_strangers_nothing(nodes: FakeNodes) -> None:
    """The same words after the same time: it is no oracle for who is online, either."""
    a, b, common = await nodes(), await nodes(), await nodes(meeting_answer_s=0.3)
    for one in (a, b):
        one.meets(common)
        assert await within(one.delivery.dialer.reach(common.engine.key, 5.0))
    link = a.delivery.links.get(common.engine.key)
    assert link is not None
    loop = asyncio.get_running_loop()
    common.knows(a.engine)
    common.engine.introducers = (a.engine.key,)
    for why in ("b is a stranger", "b does not know a", "nobody has that key", "a is a stranger"):
        peer = stranger() if why == "nobody has that key" else b.engine.key
        if why == "b does not know a":
            common.knows(b.engine)
        if why == "a is a stranger":
            del common.engine.known[a.engine.key]

        async def refused(peer: DeviceKey = peer, why: str = why) -> float:
            started = loop.time()
            with pytest.raises(Refused) as refusal:
                await within(ask_meeting(link, MeetRequest(peer, ()), QUICK))
            assert refusal.value.code == "not-here", why
            assert refusal.value.message == "that device cannot be met"
            took = loop.time() - started
            assert took >= 0.3, why
            return took

        assert await soonest(refused, below_s=0.6) < 0.6, why


@pytest.mark.parametrize("unknown", ["a", "b"])
async def test_a_common_peer_introduces_no_strangers(nodes: FakeNodes, unknown: str) -> None:
    """They know each other; whom we do not know uses us for nothing."""
    a, b, common = await nodes(), await nodes(), await nodes(meeting_answer_s=0.3)
    for one in (a, b):
        one.meets(common)
        assert await within(one.delivery.dialer.reach(common.engine.key, 5.0))
    common.knows((b if unknown == "a" else a).engine)
    common.engine.introducers = (a.engine.key,)
    b.knows(a.engine)
    link = a.delivery.links.get(common.engine.key)
    assert link is not None
    with pytest.raises(Refused) as refusal:
        await within(ask_meeting(link, MeetRequest(b.engine.key, ()), QUICK))
    assert refusal.value.code == "not-here"
    assert not b.delivery.counters["meeting-agreed"]


async def test_a_common_peer_does_not_say_whom_it_knows(nodes: FakeNodes) -> None:
    """All three are acquainted, but the asker has no way to know that we know the other."""
    a, b, common = await nodes(), await nodes(), await nodes(meeting_answer_s=0.3)
    for one in (a, b):
        one.meets(common)
        assert await within(one.delivery.dialer.reach(common.engine.key, 5.0))
        common.knows(one.engine)
    b.knows(a.engine)
    link = a.delivery.links.get(common.engine.key)
    assert link is not None
    with pytest.raises(Refused) as refusal:
        await within(ask_meeting(link, MeetRequest(b.engine.key, ()), QUICK))
    assert refusal.value.code == "not-here"
    common.engine.introducers = (a.engine.key,)
    assert await within(ask_meeting(link, MeetRequest(b.engine.key, ()), QUICK))


async def test_a_dead_link_to_whoever_wants_to_meet_us_is_given_up(
    nodes: FakeNodes, relays: Relays
) -> None:
    """It lost its side of the link, as by a restart behind a NAT: only our dial reaches it."""
    relay = await relays()
    a, b = await acquainted(relay, nodes, proof_s=0.2)
    a.post(b.engine)
    link = await within(_link(b, a))
    for connection in a.delivery.endpoint.connections:
        if connection.peer == b.engine.key:
            connection.abort()
    answer = await invite(relay, b, a.engine.key, [str(a.address)])
    assert answer
    await eventually(lambda: b.delivery.links.get(a.engine.key) not in (None, link))


async def test_strangers_are_not_met(nodes: FakeNodes, relays: Relays) -> None:
    relay = await relays()
    _, b = await acquainted(relay, nodes)
    harmed = await victim(relays)
    assert await invite(relay, b, stranger(), [str(harmed.address)]) == []
    assert b.delivery.counters["meeting-declined"] == 1
    await asyncio.sleep(0.1)
    assert harmed.datagrams == 0


async def test_strangers_bring_nobody_together(nodes: FakeNodes) -> None:
    """Anybody may link to us; the budget of meetings is for those whom we know."""
    b, friend, mallory = await nodes(), FakeEngine(), await nodes()
    b.knows(friend)
    mallory.meets(b)
    link = await within(mallory.delivery.dialer.reach(b.engine.key, 5.0))
    assert link is not None
    assert await within(ask_meeting(link, Meet(friend.key, ()), QUICK)) == ()
    assert b.delivery.counters["meeting-declined"] == 1


@pytest.mark.parametrize("policy", [PathPolicy.RELAY_ONLY, PathPolicy.LAN_ONLY])
async def test_who_hides_its_address_meets_nobody(
    nodes: FakeNodes, relays: Relays, policy: PathPolicy
) -> None:
    relay = await relays()
    a, b = await acquainted(relay, nodes)
    b.engine.policy = policy
    assert await invite(relay, b, a.engine.key, [str(a.address)]) == []
    a.engine.policy = policy
    await a.outcomes(a.post(b.engine))
    assert relay.service.rendezvous.counters.total() == 0, "and asks nobody for one"


async def test_a_lying_relay_makes_us_send_a_bounded_number_of_packets(
    nodes: FakeNodes, relays: Relays
) -> None:
    """A thousand invitations of a contact to a victim: a few handshakes, none of them answered."""
    relay = await relays()
    a, b = await acquainted(
        relay, nodes, meetings_with_device_burst=2, meetings_with_device_every_s=1000.0
    )
    one, other, third = [await victim(relays) for _ in range(3)]
    lies = [str(each.address) for each in (one, other, third)]
    answers = [await invite(relay, b, a.engine.key, lies) for _ in range(100)]
    assert sum(map(bool, answers)) == 2
    await eventually(lambda: one.datagrams and other.datagrams)
    await asyncio.sleep(QUICK_DIAL_S)
    assert third.datagrams == 0, "two addresses of one host"
    # Each dial sends its first flight of two datagrams, and repeats it after 0.2 s, 0.6 s, …
    assert one.datagrams + other.datagrams <= 2 * 2 * 2 * 4
    assert b.delivery.counters["meeting-rate-limited"] == 98


QUICK_DIAL_S = 1.1  # QUICK_TRANSPORT's deadline of a dial, and a moment


async def test_a_signaller_has_a_budget_whoever_it_speaks_for(
    nodes: FakeNodes, relays: Relays
) -> None:
    """It can make up as many contacts as it knows of."""
    relay = await relays()
    _, b = await acquainted(
        relay, nodes, meetings_of_signaller_burst=5, meetings_of_signaller_every_s=1000.0
    )
    friends = [FakeEngine() for _ in range(20)]
    for friend in friends:
        b.knows(friend)
    answers = [await invite(relay, b, friend.key, []) for friend in friends]
    assert [bool(each) for each in answers] == [True] * 5 + [False] * 15


async def test_all_signallers_together_have_a_budget(nodes: FakeNodes) -> None:
    b = await nodes(meetings_burst=4, meetings_every_s=1000.0)
    friends = [await nodes() for _ in range(4)]
    answers = []
    for friend in friends:
        friend.meets(b)
        b.knows(friend.engine)
        link = await within(friend.delivery.dialer.reach(b.engine.key, 5.0))
        assert link is not None
        for other in friends[:2]:
            frame = Meet(other.engine.key, ())
            answers.append(bool(await within(ask_meeting(link, frame, QUICK))))
    assert sum(answers) <= 4


class Networks:
    """A machine on 192.168.1.0/24, for which loopback is nothing special."""

    def __call__(self) -> OwnNetworks:
        return OwnNetworks((ipaddress.ip_network("192.168.1.0/24"),))


async def test_only_addresses_that_the_device_can_have_are_dialled(
    nodes: FakeNodes, relays: Relays
) -> None:
    relay = await relays()
    _, b = await acquainted(relay, nodes)
    meetings = b.delivery.meetings
    meetings._means = dataclasses.replace(meetings._means, networks=Networks())
    signaller = next(iter(b.delivery.endpoint.connections))
    told = [
        Address("11.0.0.1", 7000),
        Address("11.0.0.1", 7001),
        Address("11.0.0.1", 7002),  # the third of a host
        Address("192.168.1.7", 7000),
        Address("192.168.2.7", 7000),  # another machine in every network
        Address("224.0.0.1", 7000),
        Address("0.0.0.0", 7000),
        Address("10.0.0.1", 7000),
        Address("11.0.0.9", 7000),  # the ninth
    ]
    admitted = meetings._admitted(told, signaller)
    assert admitted == [told[0], told[1], told[3]]


async def test_whoever_answers_for_the_device_is_not_believed_more(
    nodes: FakeNodes, relays: Relays
) -> None:
    relay = await relays()
    a, b = await acquainted(relay, nodes)
    one, other, third = [await victim(relays) for _ in range(3)]
    lies = [each.address for each in (one, other, third)]
    meetings = b.delivery.meetings
    meetings._means = dataclasses.replace(meetings._means, own_addresses=lambda: lies, dial=_never)
    a.post(b.engine)
    # The relay puts the port that it sees us at first: that makes two of this host.
    await eventually(lambda: a.delivery.counters["meeting-address-refused"] == 2)
    await within(_link(a, b))
    assert other.datagrams == third.datagrams == 0


async def test_loopback_is_for_those_who_are_there(nodes: FakeNodes, relays: Relays) -> None:
    """A relay elsewhere would have us talk to the services of our own machine."""
    relay = await relays()
    _, b = await acquainted(relay, nodes)

    class Elsewhere:
        remote = Address("11.0.0.1", 7000)

    here = next(iter(b.delivery.endpoint.connections))
    told = [Address("127.0.0.1", 53)]
    meetings = b.delivery.meetings
    assert meetings._admitted(told, here) == told
    assert meetings._admitted(told, Elsewhere()) == []  # type: ignore[arg-type]


async def test_an_impostor_at_the_address_gets_nothing(nodes: FakeNodes, relays: Relays) -> None:
    """The relay sends us to itself, or to anybody: the device's key is pinned."""
    relay = await relays()
    a, b = await acquainted(relay, nodes)
    other = await nodes()
    assert await invite(relay, b, a.engine.key, [str(other.address)])
    await eventually(lambda: b.delivery.counters["meeting-wrong-peer"])
    assert not b.delivery.links.all()
    assert not other.delivery.links.all()


async def test_a_meeting_that_never_comes_holds_up_no_message(
    nodes: FakeNodes, relays: Relays
) -> None:
    """The relay takes its time to say that the other one is away; it has the message long since."""
    relay = await relays()
    limits = dataclasses.replace(QUICK, meeting_patience_s=0.2)
    loop = asyncio.get_running_loop()

    async def first_message() -> float:
        a = await nodes(engine=at(relay), limits=limits)
        away = FakeEngine()
        a.knows(away, relays=[str(relay.address)])
        started = loop.time()
        [outcome] = await a.outcomes(a.post(away))
        assert outcome.held
        return loop.time() - started

    assert await soonest(first_message, below_s=1.0) < 1.0


async def test_news_of_an_address_do_not_wait_for_a_meeting(
    nodes: FakeNodes, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.rendezvous.MEETING_DEADLINE_S", 8.0)
    relay = await relays()
    a, b = await nodes(engine=at(relay)), await nodes()
    a.knows(b.engine, relays=[str(relay.address)])
    await a.outcomes(a.post(b.engine))
    a.knows(b.engine, at=str(b.address), relays=[str(relay.address)])
    a.delivery.dialer.news(b.engine.key)
    await within(_link(a, b), 3.0)
    # Had it begun anew, the other side would have dialled too early for the second.
    assert relay.service.rendezvous.counters.total() == 1
