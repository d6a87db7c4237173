"""An author who came back under another address is found there, whoever keeps the old one."""

from __future__ import annotations

from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.rpc import Asker
from schemas.dht import Store, Stored
from schemas.records import Signed
from tests.discovery.dht.net import KEY, Member, Net, signer, value_of
from tests.transport.virtual import JumpingLoop

PLACE = int.from_bytes(KEY, "big")


def nodes_with(net: Net, old: Signed, new: Signed) -> list[Member]:
    """The nine nearest keep the old value; the next three the new one."""
    members = net.add_many(40)
    net.acquaint(members)
    members.sort(key=lambda member: member.contact.long_id ^ PLACE)
    author = Asker(net.device_key(), net.address())
    for value, keepers in ((old, members[:9]), (new, members[9:12])):
        for member in keepers:
            assert member.node.answer(author, Store(KEY, value)) == Stored()
    return members


def test_a_value_that_was_not_put_again_does_not_end_a_lookup(loop: JumpingLoop) -> None:
    """Else a contact is dialled where it was before, for as long as anybody keeps that."""
    net = Net(loop)
    long_ago = net.clock() - DEFAULT_DHT_LIMITS.current_s - 1
    old = value_of(signer(1), now=long_ago, lives_s=7200)
    new = value_of(signer(1), sequence=2, now=net.clock())
    reader = nodes_with(net, old, new)[-1]
    assert new in net.run(reader.node.find(KEY, lambda value: value))


def test_one_of_the_last_period_ends_it(loop: JumpingLoop) -> None:
    """Whom a contact is dialled by should not wait for all who could know."""
    net = Net(loop)
    value = value_of(signer(1), now=net.clock() - DEFAULT_DHT_LIMITS.republish_s)
    reader = nodes_with(net, value, value)[-1]
    began = net.requests
    assert net.run(reader.node.find(KEY, lambda found: found)) == [value]
    assert net.requests - began <= DEFAULT_DHT_LIMITS.paths * DEFAULT_DHT_LIMITS.in_flight
