"""What strangers in the DHT can try, against nodes that ask and nodes that answer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import pytest

from discovery.dht.contact import DhtContact, Reach
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.node import NOT_BELIEVED, TOO_LONG
from discovery.dht.rpc import Asker
from discovery.dht.watching import LookupEvent, Step
from schemas.addresses import Address
from schemas.dht import (
    Contacts,
    DhtResponse,
    FindNode,
    FindValue,
    ReadContact,
    Store,
    Stored,
    Values,
)
from schemas.errors import Malformed
from schemas.ids import DhtId
from schemas.limits import DHT_CONTACTS, DHT_VALUES
from schemas.records import Signed
from tests.discovery.dht.net import (
    KEY,
    Answer,
    Member,
    Net,
    contact_near,
    signer,
    value_of,
)
from tests.discovery.dht.test_lookup import acquainted, nearest
from tests.transport.virtual import JumpingLoop

LIMITS = DEFAULT_DHT_LIMITS
SECRET = b"s" * 32
ADA = signer(1)


def checked(value: Signed) -> Signed:
    """A reader who knows whose value it looks for."""
    if value.signer != ADA.public:
        raise Malformed("wrong-device", "somebody else's")
    return value


def league(contacts: Sequence[DhtContact]) -> Answer:
    """They tell of nobody but each other, say that there is no value, and keep none."""

    def answer(asker: Asker, request: FindNode | FindValue | Store) -> DhtResponse:
        if isinstance(request, Store):
            return Stored()
        target = request.target if isinstance(request, FindNode) else request.key
        place = int.from_bytes(target, "big")
        near = sorted(contacts, key=lambda each: each.long_id ^ place)[:DHT_CONTACTS]
        return Contacts(near) if isinstance(request, FindNode) else Values((), near)

    return answer


def sybils(net: Net, count: int, prefixes: Sequence[str | None]) -> list[Member]:
    """Near KEY, as somebody grinds them who makes a few hundred keys for each."""
    made = []
    for number in range(count):
        address = net.address(prefixes[number % len(prefixes)])
        made.append(net.add(address, device=contact_near(net, KEY, 8, address).device))
    answer = league([each.contact for each in made])
    for each in made:
        each.answer = answer
    return made


# --- Sybils


def test_a_thousand_sybils_of_few_networks_do_not_hide_a_value(loop: JumpingLoop) -> None:
    """Nearer to the key than every honest node, and in honest nodes' tables."""
    net = acquainted(loop, 200)
    honest = list(net.members.values())
    net.run(honest[0].node.publish(KEY, value_of(ADA)))
    bad = sybils(net, 1_000, [f"5.5.{number}" for number in range(3)])
    for member in honest:
        net.acquaint([member], net.rng.sample(bad, 50))
    for reader in honest[1:6]:
        before = net.requests
        assert net.run(reader.node.find(KEY, checked)) == [value_of(ADA)]
        assert net.requests - before < LIMITS.lookup_messages
    for member in honest[1:]:
        places = Counter(each.prefix for each in member.node.contacts())
        assert max(places.values()) <= 2 * len(member.node._table.buckets)


def test_a_path_asks_few_of_one_network(loop: JumpingLoop) -> None:
    """A liar who is believed tells of its friends: those of one network are two of them."""
    net = Net(loop)
    reader, liar = net.add_many(2)
    bad = sybils(net, DHT_CONTACTS, ["5.5.5"])
    liar.answer = bad[0].answer
    net.acquaint([reader], [liar])
    events: list[LookupEvent] = []
    net.run(reader.node.find(KEY, checked, events.append))
    asked = Counter(each.path for each in events if each.step is Step.ASKED)
    asked[next(e.path for e in events if e.contact == liar.contact)] -= 1
    assert max(asked.values()) == LIMITS.per_prefix


def test_nor_do_they_take_what_is_published(loop: JumpingLoop) -> None:
    net = acquainted(loop, 200)
    author, *honest = net.members.values()
    bad = {each.contact for each in sybils(net, 300, ["8.8.1", "8.8.2"])}
    by_address = [net.members[each.address] for each in bad]
    for member in (author, *honest):
        net.acquaint([member], net.rng.sample(by_address, 50))
    net.run(author.node.publish(KEY, value_of(ADA)))
    keepers = [each for each in honest if each.node._values.get(KEY, net.clock())]
    assert len(keepers) >= LIMITS.store_width - 2 * LIMITS.per_prefix


def test_sybils_of_many_networks_cost_a_lookup_its_bound_and_no_more(loop: JumpingLoop) -> None:
    """Who owns a thousand networks hides the one key that it stands around. It costs us no more
    than any lookup may, and says so; the other keys are found."""
    net = acquainted(loop, 200)
    author, reader, *honest = net.members.values()
    bad = sybils(net, 1_000, [None])
    for member in (author, reader, *honest):
        net.acquaint([member], net.rng.sample(bad, 50))
    before = net.requests
    net.run(reader.node.find(KEY, checked))
    assert net.requests - before <= LIMITS.lookup_messages
    elsewhere = DhtId(bytes(255 - byte for byte in KEY))
    value = value_of(ADA, elsewhere)
    net.run(author.node.publish(elsewhere, value))
    assert net.run(reader.node.find(elsewhere, checked)) == [value]


# --- liars on the way


def test_an_eclipsing_neighbour_leads_one_path_astray(loop: JumpingLoop) -> None:
    """The contact nearest to the key tells of its friends only, all nearer than anybody else."""
    net = acquainted(loop, 200)
    author, *honest = net.members.values()
    net.run(author.node.publish(KEY, value_of(ADA)))
    friends = sybils(net, 40, [None])
    for _ in range(5):
        reader = net.add()
        net.acquaint([reader], [friends[0], *net.rng.sample(honest, 60)])
        assert reader.node.closest(KEY, 1) == [friends[0].contact]
        events: list[LookupEvent] = []
        assert net.run(reader.node.find(KEY, checked, events.append)) == [value_of(ADA)]
        astray = {each.path for each in events if each.contact == friends[0].contact}
        assert len(astray) == 1


def test_a_liars_friends_are_not_all_that_a_path_sees(loop: JumpingLoop) -> None:
    """Even on one path: another contact leads to the value, though all friends are nearer."""
    net = acquainted(loop, 200)
    author, *honest = net.members.values()
    net.run(author.node.publish(KEY, value_of(ADA)))
    friends = sybils(net, 40, [None])
    for _ in range(5):
        reader = net.add(limits=dataclasses.replace(LIMITS, paths=1, store_width=8))
        net.acquaint([reader], [friends[0], *net.rng.sample(honest, 30)])
        assert reader.node.closest(KEY, 1) == [friends[0].contact]
        assert net.run(reader.node.find(KEY, checked)) == [value_of(ADA)]


def test_nobody_is_asked_on_two_paths(loop: JumpingLoop) -> None:
    net = acquainted(loop, 200)
    reader = next(iter(net.members.values()))
    events: list[LookupEvent] = []
    net.run(reader.node.lookup(KEY, events.append))
    asked = [each.contact for each in events if each.step is Step.ASKED]
    assert len(set(asked)) == len(asked)
    assert len({each.path for each in events}) == LIMITS.paths


@pytest.mark.parametrize("lie", ["nothing", "forged", "old"])
def test_a_liar_among_the_keepers_does_not_win(loop: JumpingLoop, lie: str) -> None:
    """It answers with nothing, a forgery or an older value; the newest valid one is found."""
    net = acquainted(loop, 200)
    author, reader, *_ = net.members.values()
    old, new = value_of(ADA), value_of(ADA, sequence=2)
    net.run(author.node.publish(KEY, new))
    said = {
        "nothing": [],
        "forged": [dataclasses.replace(new, signer=bytes(signer(9).public))],
        "old": [old],
    }
    for contact in [each for each in nearest(net, 4) if each != reader.contact][:2]:
        member = net.members[contact.address]
        if member is not author:
            member.answer = lambda asker, request: Values(said[lie], ())
    assert new in net.run(reader.node.find(KEY, checked))


def test_endless_closer_nodes_have_an_end(loop: JumpingLoop) -> None:
    """Each tells of others that are nearer still, who exist, each in a network of its own."""
    net = Net(loop)
    reader = net.add()
    depth = Counter[DhtContact]()

    def deeper(asker: Asker, request: FindNode | FindValue | Store) -> DhtResponse:
        told = []
        for _ in range(8):
            address = net.address()
            bits = min(8, 1 + len(net.members) // 40)
            member = net.add(address, device=contact_near(net, KEY, bits, address).device)
            member.answer = deeper
            depth[member.contact] += 1
            told.append(member.contact)
        return Contacts(told) if isinstance(request, FindNode) else Values((), told)

    first = net.add()
    first.answer = deeper
    net.acquaint([reader], [first])
    endless = dataclasses.replace(LIMITS, path_width=1_000)
    for limits in (LIMITS, endless):
        reader.node._limits = limits
        before, began = net.requests, loop.time()
        net.run(reader.node.find(KEY, checked))
        assert net.requests - before <= LIMITS.lookup_messages
        assert loop.time() - began <= LIMITS.lookup_s
    assert reader.node.counts[TOO_LONG] >= 1


def test_who_answers_late_each_time_is_left_at_the_end_of_time(loop: JumpingLoop) -> None:
    net = Net(loop)
    slow = dataclasses.replace(LIMITS, rpc_s=1_000.0, slow_s=1_000.0)
    reader = net.add(limits=slow)
    dead = net.add()
    dead.answer = None
    net.acquaint([reader], [dead])
    assert net.run(reader.node.lookup(KEY)) == []
    assert loop.time() == pytest.approx(LIMITS.lookup_s)
    assert reader.node.counts[TOO_LONG] == 1


def test_an_oversized_answer_is_cut(loop: JumpingLoop) -> None:
    """Through an Rpc that has no codec; on the wire it is no answer at all."""
    net = Net(loop)
    reader, liar = net.add(), net.add()
    many = [ReadContact(net.device_key(), net.address()) for _ in range(10_000)]
    values = [value_of(signer(number)) for number in range(2, 50)]
    seen: list[Signed] = []
    liar.answer = lambda asker, request: (
        Contacts(many) if isinstance(request, FindNode) else Values(values, many)
    )
    net.acquaint([reader], [liar])
    before = net.requests
    net.run(reader.node.find(KEY, seen.append))
    assert len(seen) == DHT_VALUES
    assert net.requests - before <= 1 + DHT_CONTACTS


# --- addresses


def test_nobody_has_us_dial_into_our_own_network(loop: JumpingLoop) -> None:
    """Private, link-local, reserved and loopback addresses in answers: none is asked."""
    net = Net(loop)
    reader, liar = net.add(), net.add()
    hosts = ["10.0.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "::1", "fd00::1"]
    hosts += ["0.0.0.0", "224.0.0.1", "240.0.0.1", "100.64.1.1", "fe80::1", "localhost"]
    told = [ReadContact(net.device_key(), Address(host, 7000)) for host in hosts]
    told.append(ReadContact(net.device_key(), Address("8.8.8.8", 0)))
    liar.answer = lambda asker, request: Contacts(told)
    net.acquaint([reader], [liar])
    before = net.requests
    assert net.run(reader.node.lookup(KEY)) == [liar.contact]
    assert net.requests == before + 1
    assert reader.node.counts[NOT_BELIEVED] == len(told)


def test_on_our_own_network_they_are_asked(loop: JumpingLoop) -> None:
    net = Net(loop)
    reader = net.add(ours=lambda address: address.host.startswith("192.168.1."))
    teller, neighbour = net.add(), net.add(Address("192.168.1.7", 7000))
    teller.answer = lambda asker, request: Contacts([neighbour.contact])
    net.acquaint([reader], [teller])
    assert neighbour.contact in net.run(reader.node.lookup(KEY))


def test_nodes_of_one_machine_find_each_other(loop: JumpingLoop) -> None:
    net = Net(loop)
    members = [net.add(Address("127.0.0.1", 7000 + number)) for number in range(30)]
    for member in members[1:]:
        net.run(member.node.bootstrap([members[0].contact]))
    for member in members:
        net.run(member.node.maintain())
    value = value_of(ADA)
    assert net.run(members[3].node.publish(KEY, value)) == LIMITS.store_width
    assert net.run(members[29].node.find(KEY, checked)) == [value]


def test_our_neighbours_are_not_told_to_strangers(loop: JumpingLoop) -> None:
    net = Net(loop)
    server = net.add(ours=lambda _: True)
    inside = [net.add(Address("127.0.0.1", 9)), net.add(Address("10.0.0.1", 9)), net.add()]
    net.acquaint([server], inside)
    asker = Asker(net.device_key(), net.address())
    response = server.node.answer(asker, FindNode(KEY))
    assert isinstance(response, Contacts)
    assert [DhtContact(e.device, e.address).reach for e in response.contacts] == [Reach.ANYWHERE]
