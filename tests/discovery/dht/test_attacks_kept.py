"""What strangers can try against the tables and the values of nodes."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from discovery.dht.contact import DhtContact, node_id
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.publication import cells_to_read, open_private_untrusted, private_publications
from discovery.dht.rpc import Asker
from identity.cell import Cell, cell_signer
from identity.signing import sign
from schemas.dht import (
    Contacts,
    DhtError,
    DhtValue,
    FindNode,
    FindValue,
    Store,
    Values,
)
from schemas.errors import Malformed
from schemas.ids import DhtId
from schemas.limits import DHT_CONTACTS, DHT_VALUE
from schemas.records import Signed, SignedType
from tests.discovery.dht.net import (
    KEY,
    START,
    Member,
    Net,
    record_of,
    signer,
    value_of,
)
from tests.discovery.dht.test_lookup import acquainted
from tests.transport.virtual import JumpingLoop

LIMITS = DEFAULT_DHT_LIMITS
SECRET = b"s" * 32
ADA = signer(1)


# --- the table


def test_hearsay_does_not_fill_the_table(loop: JumpingLoop) -> None:
    """Only who answered is in it: what others tell, and what is dead, is not."""
    net = Net(loop)
    reader, liar = net.add(), net.add()
    dead = [DhtContact(net.device_key(), net.address()) for _ in range(DHT_CONTACTS)]
    liar.answer = lambda asker, request: Contacts(dead)
    net.acquaint([reader], [liar])
    net.run(reader.node.lookup(KEY))
    assert list(reader.node.contacts()) == [liar.contact]


def test_who_announces_itself_is_asked_before_it_is_known(loop: JumpingLoop) -> None:
    net = Net(loop)
    server, honest = net.add(), net.add()
    dead = Asker(net.device_key(), net.address())
    for asker in (Asker(honest.device, honest.contact.address), dead):
        server.node.answer(asker, FindNode(KEY, announce=True))
        server.node.answer(asker, FindNode(KEY, announce=False))
    assert not server.node.contacts()
    net.run(server.node.maintain())
    assert list(server.node.contacts()) == [honest.contact]


def test_without_an_announcement_nobody_is_asked(loop: JumpingLoop) -> None:
    net = Net(loop)
    server, client = net.add(), net.add()
    asker = Asker(client.device, client.contact.address)
    server.node.answer(asker, FindNode(KEY))
    server.node.answer(asker, FindValue(KEY))
    net.run(server.node.maintain())
    assert client.asked.total() == 0
    assert not server.node.contacts()


def test_who_answers_nobody_is_not_in_a_table(loop: JumpingLoop) -> None:
    """It announces itself, and then refuses whoever asks."""
    net = Net(loop)
    server, client, other = net.add(), net.add(server=False), net.add()
    asker = Asker(client.device, client.contact.address)
    server.node.answer(asker, FindNode(KEY, announce=True))
    net.run(server.node.maintain())
    assert client.asked["FindNode"] == 1
    assert not server.node.contacts()
    net.acquaint([server], [client, other])  # it was a server once
    for _ in range(LIMITS.failures):
        net.run(server.node.lookup(client.node.id))
    assert list(server.node.contacts()) == [other.contact]


def test_announcements_without_end_are_bounded(loop: JumpingLoop) -> None:
    """And those of one network are two of them, whatever comes."""
    net = Net(loop)
    server = net.add()
    for prefix, expected in [("8.8.8", LIMITS.per_prefix), (None, LIMITS.newcomers)]:
        before = net.requests
        for _ in range(1_000):
            asker = Asker(net.device_key(), net.address(prefix))
            server.node.answer(asker, FindNode(KEY, announce=True))
        net.run(server.node.maintain())
        assert net.requests - before <= expected
    assert server.node.counts["newcomers-full"] > 1_000


def half_of_ids(net: Net, half: int) -> Member:
    """A member whose id begins with that bit."""
    while True:
        device = net.device_key()
        if node_id(device)[0] >> 7 == half:
            return net.add(device=device)


def test_two_full_tables_do_not_greet_each_other_for_ever(loop: JumpingLoop) -> None:
    """An announcement that is answered by another, and so on."""
    net = Net(loop)
    one, other = (half_of_ids(net, half) for half in (0, 1))
    for member, half in ((one, 1), (other, 0)):
        net.acquaint([member], [half_of_ids(net, half) for _ in range(LIMITS.bucket)])
        net.acquaint([member], [half_of_ids(net, 1 - half) for _ in range(LIMITS.bucket)])
    for _ in range(5):
        one.node.answer(Asker(other.device, other.contact.address), FindNode(KEY, announce=True))
        net.run(one.node.maintain())
        other.node.answer(Asker(one.device, one.contact.address), FindNode(KEY, announce=True))
        net.run(other.node.maintain())
    assert one.asked["FindNode"] <= 3
    assert other.asked["FindNode"] <= 3


# --- values


def cell_now() -> Cell:
    (cell,) = cells_to_read(ADA.public, SECRET, now=START, limits=LIMITS)
    return cell


def test_a_contact_fills_the_cell_and_the_owner_is_still_found(loop: JumpingLoop) -> None:
    """It knows the card, and puts what it likes after the owner, from many networks."""
    net = acquainted(loop, 100)
    author, reader, *others = net.members.values()
    cell, record = cell_now(), record_of(ADA)
    (owners,) = private_publications(ADA, SECRET, record, now=START, limits=LIMITS)
    assert owners.key == cell.id
    net.run(author.node.publish(cell.id, owners.value))
    for number, contact in enumerate(others[:30]):
        payload = DhtValue(cell.id, 2**50, int(START), int(START) + 3600, b"rubbish").encode()
        rubbish = sign(SignedType.DHT_VALUE, cell_signer(signer(50 + number), cell), payload)
        net.run(contact.node.publish(cell.id, rubbish))

    def check(value: Signed) -> Signed:
        return open_private_untrusted(cell, ADA.public, value, now=net.clock())

    assert net.run(reader.node.find(cell.id, check)) == [record]
    assert reader.node.counts["cannot-open"] > 0
    refused = Counter[str]()
    for each in others:
        refused += each.node.counts
    assert refused["cell-full"] > 0


@pytest.mark.parametrize(
    "value, code",
    [
        (dataclasses.replace(value_of(ADA), signature=bytes(64)), "bad-signature"),
        (value_of(ADA, now=START - 7200), "expired"),
        (value_of(ADA, now=START + 7200), "issued-in-future"),
        (value_of(ADA, lives_s=49 * 3600), "bad-lifetime"),
        (value_of(ADA, DhtId(bytes(32))), "wrong-cell"),
        (Signed(bytes(DHT_VALUE + 1), bytes(32), bytes(64)), "oversized-dht-value"),
        (Signed(b"", bytes(32), bytes(64)), "malformed-dht-value"),
        (Signed(b"rubbish", bytes(32), bytes(64)), "malformed-dht-value"),
    ],
)
def test_bad_values_are_refused_on_put_and_on_get(
    loop: JumpingLoop, value: Signed, code: str
) -> None:
    net = Net(loop)
    reader, liar = net.add(), net.add()
    response = liar.node.answer(Asker(ADA.public, net.address()), Store(KEY, value))
    assert isinstance(response, DhtError)
    assert response.code == code
    assert liar.node.counts[code] == 1
    liar.answer = lambda asker, request: Values([value], ())
    net.acquaint([reader], [liar])
    cell = Cell(KEY, b"k" * 32)

    def check(found: Signed) -> Signed:
        return open_private_untrusted(cell, ADA.public, found, now=net.clock())

    assert net.run(reader.node.find(KEY, check)) == []
    assert reader.node.counts[code] == 1


def test_a_value_is_checked_once_however_often_it_is_told(loop: JumpingLoop) -> None:
    """A signature each from each of twenty nodes would be the cheaper attack."""
    net = acquainted(loop, 60)
    author, reader, *_ = net.members.values()
    net.run(author.node.publish(KEY, value_of(ADA)))
    seen: list[Signed] = []

    def check(value: Signed) -> Signed:
        seen.append(value)
        raise Malformed("wrong-device", "not who is looked for")

    assert net.run(reader.node.find(KEY, check)) == []
    assert seen == [value_of(ADA)]


def test_a_client_answers_nobody(loop: JumpingLoop) -> None:
    net = acquainted(loop, 30)
    client = net.add(server=False)
    net.run(client.node.bootstrap([next(iter(net.members.values())).contact]))
    assert client.node.contacts()
    asker = Asker(net.device_key(), net.address())
    for request in (FindNode(KEY, announce=True), FindValue(KEY), Store(KEY, value_of(ADA))):
        response = client.node.answer(asker, request)
        assert isinstance(response, DhtError)
        assert response.code == "client-only"
    for member in net.members.values():
        net.run(member.node.maintain())
        assert client.contact not in member.node.contacts()
    client.node.server = True
    assert isinstance(client.node.answer(asker, FindNode(KEY)), Contacts)
