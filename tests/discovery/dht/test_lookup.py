"""Lookups find the nearest, whoever is gone, and what was published is found by everybody."""

from __future__ import annotations

import asyncio

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.watching import LookupEvent, Step
from schemas.dht import Contacts
from schemas.records import Signed
from tests.discovery.dht.net import KEY, Member, Net, contact_near, signer, value_of
from tests.transport.virtual import JumpingLoop

LIMITS = DEFAULT_DHT_LIMITS


def nearest(net: Net, count: int) -> list[DhtContact]:
    place = int.from_bytes(KEY, "big")
    contacts = [member.contact for member in net.members.values()]
    return sorted(contacts, key=lambda each: each.long_id ^ place)[:count]


def acquainted(loop: JumpingLoop, count: int) -> Net:
    net = Net(loop)
    members = net.add_many(count)
    for member in members:
        net.acquaint([member], net.rng.sample(members, min(count, 120)))
    # Everybody has looked around: those nearest to each other know each other.
    for member in members:
        net.acquaint([member], neighbours(member, members))
    return net


def neighbours(member: Member, members: list[Member]) -> list[Member]:
    place = member.contact.long_id
    return sorted(members, key=lambda other: other.contact.long_id ^ place)[1:17]


def test_the_nearest_are_found_from_anywhere(loop: JumpingLoop) -> None:
    net = acquainted(loop, 300)
    for member in net.rng.sample(list(net.members.values()), 5):
        found = net.run(member.node.lookup(KEY))
        wanted = [each for each in nearest(net, 9) if each != member.contact][:8]
        assert found[:8] == wanted


def test_what_one_publishes_everybody_finds(loop: JumpingLoop) -> None:
    net = acquainted(loop, 300)
    author, *readers = net.rng.sample(list(net.members.values()), 6)
    value = value_of(signer(1))
    assert net.run(author.node.publish(KEY, value)) == LIMITS.store_width
    for reader in readers:
        assert net.run(reader.node.find(KEY, lambda found: found)) == [value]


def test_it_is_found_when_a_third_of_all_are_gone(loop: JumpingLoop) -> None:
    net = acquainted(loop, 300)
    author, *readers = net.rng.sample(list(net.members.values()), 6)
    value = value_of(signer(1))
    net.run(author.node.publish(KEY, value))
    others = [each for each in net.members.values() if each not in (author, *readers)]
    for gone in net.rng.sample(others, 100):
        gone.answer = None
    for reader in readers:
        assert net.run(reader.node.find(KEY, lambda found: found)) == [value]


def test_a_slow_contact_does_not_hold_its_path_up(loop: JumpingLoop) -> None:
    net = acquainted(loop, 100)
    reader = next(iter(net.members.values()))
    for contact in reader.node.closest(KEY, 6):
        net.members[contact.address].answer = None
    began = loop.time()
    assert len(net.run(reader.node.lookup(KEY))) >= LIMITS.store_width
    assert loop.time() - began < LIMITS.rpc_s


def test_one_contact_is_enough_to_begin_with(loop: JumpingLoop) -> None:
    net = acquainted(loop, 200)
    known = net.rng.choice(list(net.members.values()))
    newcomer = net.add()
    assert net.run(newcomer.node.bootstrap([known.contact])) > LIMITS.bucket
    found = net.run(newcomer.node.lookup(KEY))
    assert set(found[:6]) <= set(nearest(net, 7))


def test_two_nodes_and_a_bootstrap(loop: JumpingLoop) -> None:
    net = Net(loop)
    relay, ada, bob = net.add(), net.add(server=False), net.add(server=False)
    for member in (ada, bob):
        assert net.run(member.node.bootstrap([relay.contact])) == 1
    value = value_of(signer(1))
    assert net.run(ada.node.publish(KEY, value)) == 1
    assert net.run(bob.node.find(KEY, lambda found: found)) == [value]


def test_a_lookup_tells_its_steps(loop: JumpingLoop) -> None:
    net = acquainted(loop, 200)
    author, reader, *_ = net.members.values()
    net.run(author.node.publish(KEY, value_of(signer(1))))
    net.members[reader.node.closest(KEY, 1)[0].address].answer = None
    events: list[LookupEvent] = []
    net.run(reader.node.find(KEY, lambda found: found, events.append))
    asked = {event.contact for event in events if event.step is Step.ASKED}
    assert sum(event.step is Step.ASKED for event in events) == len(asked), "asked on two paths"
    assert {event.path for event in events if event.step is Step.FOUND} == {0, 1, 2}
    for event in events:
        assert event.contact in asked
        assert event.seconds >= 0
        assert (event.teller is None) == (event.hops == 1)
        place = int.from_bytes(KEY, "big")
        assert event.distance == (event.contact.long_id ^ place).bit_length()


def test_a_lookup_that_is_given_up_leaves_nothing_running(loop: JumpingLoop) -> None:
    net = acquainted(loop, 50)
    reader = next(iter(net.members.values()))

    async def scenario() -> int:
        task = asyncio.create_task(reader.node.lookup(KEY))
        await asyncio.sleep(0.12)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return len(asyncio.all_tasks())

    assert net.run(scenario()) <= 2  # the scenario's own, and what waits for it


def test_with_nobody_known_nothing_is_found_at_once(loop: JumpingLoop) -> None:
    net = Net(loop)
    alone = net.add()
    assert net.run(alone.node.lookup(KEY)) == []
    assert net.run(alone.node.find(KEY, lambda found: found)) == []
    assert net.run(alone.node.publish(KEY, value_of(signer(1)))) == 0
    assert loop.time() == 0


def test_a_wrong_address_told_first_does_not_hide_the_right_one(loop: JumpingLoop) -> None:
    """A liar who names an honest node at a dead address costs a request, not the node."""
    for seed in range(6):  # whichever of the two is nearer, and asked first
        net = Net(loop, seed=seed)
        reader, liar, honest = net.add_many(3)
        target = net.add()
        wrong = DhtContact(target.device, net.address())
        liar.answer = lambda asker, request, wrong=wrong: Contacts([wrong])
        net.acquaint([honest], [target])
        net.acquaint([reader], [liar, honest])
        assert target.contact in net.run(reader.node.lookup(target.node.id))


def test_values_of_older_and_newer_holders_are_all_given(loop: JumpingLoop) -> None:
    net = acquainted(loop, 200)
    author, reader, *_ = net.members.values()
    old, new = value_of(signer(1)), value_of(signer(1), sequence=2)
    net.run(author.node.publish(KEY, old))
    for contact in nearest(net, 3):  # were away when the newer one came
        net.members[contact.address].answer = None
    net.run(author.node.publish(KEY, new))
    for contact in nearest(net, 3):
        member = net.members[contact.address]
        member.answer = member.node.answer
    found: list[Signed] = net.run(reader.node.find(KEY, lambda value: value))
    assert new in found


def test_contacts_near_a_key_can_be_made(loop: JumpingLoop) -> None:
    """The attack tests rest on it."""
    net = Net(loop)
    made = contact_near(net, KEY, 8, net.address())
    assert made.id[0] == KEY[0]
