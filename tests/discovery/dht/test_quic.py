"""The DHT's requests over real sockets: who asks as whom, and what is held open for how long."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.dht.contact import DhtContact
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS
from schemas.errors import Unreachable
from schemas.records import Signed
from tests.discovery.dht.quic_support import KEY, OpenPlace, eventually, within
from tests.transport.test_endpoint import dead_address
from transport import Address
from transport.certificate import device_key_of

VALUE = Signed(b"a record", bytes(32), bytes(64))


async def test_requests_and_answers(place: OpenPlace) -> None:
    server, client = await place(), await place()
    server.shelf.contacts = [client.contact]
    found = await within(client.rpc.find_node(server.contact, KEY, announce=False))
    assert [(each.device, each.address) for each in found] == [
        (client.endpoint.device, client.endpoint.address)
    ]
    assert not (await within(client.rpc.find_value(server.contact, KEY))).values
    await within(client.rpc.store(server.contact, KEY, VALUE))
    assert list((await within(client.rpc.find_value(server.contact, KEY))).values) == [VALUE]


async def test_only_who_announces_itself_shows_its_device_and_its_port(place: OpenPlace) -> None:
    """Else those who keep values would know who looks for whom."""
    server, client = await place(), await place()
    await within(client.rpc.find_node(server.contact, KEY, announce=True))
    await within(client.rpc.find_node(server.contact, KEY, announce=False))
    await within(client.rpc.find_value(server.contact, KEY))
    await within(client.rpc.store(server.contact, KEY, VALUE))
    told, *others = [asker for asker, _ in server.shelf.asked]
    assert (told.device, told.address) == (client.endpoint.device, client.endpoint.address)
    for asker in others:
        assert asker.device != client.endpoint.device
        assert asker.address.port != client.endpoint.address.port


async def test_nobody_is_somebody_else_after_an_hour(place: OpenPlace) -> None:
    """A key and a port that stay would tie what is asked today to what is asked tomorrow."""
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, persona_s=0.0, retire_s=0.0)
    server, client = await place(), await place(limits)
    for _ in range(2):
        await within(client.rpc.find_value(server.contact, KEY))
    one, two = [asker for asker, _ in server.shelf.asked]
    assert one.device != two.device
    assert one.address.port != two.address.port
    await eventually(lambda: sum(not each.closed for each in server.accepted) == 1)


async def test_a_connection_is_used_again_and_let_go_when_idle(place: OpenPlace) -> None:
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, idle_s=0.1)
    server, client = await place(), await place(limits)
    await asyncio.gather(
        *(within(client.rpc.find_value(server.contact, KEY)) for _ in range(8))
    )  # at once: one dial
    assert len(server.accepted) == 1
    assert len(server.shelf.asked) == 8
    await eventually(lambda: server.accepted[0].closed)
    await within(client.rpc.find_value(server.contact, KEY))
    assert len(server.accepted) == 2


async def test_only_so_many_connections_are_held(place: OpenPlace) -> None:
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, connections=3)
    servers = [await place() for _ in range(6)]
    client = await place(limits)
    for server in servers:
        await within(client.rpc.find_value(server.contact, KEY))
    await eventually(lambda: sum(not server.accepted[0].closed for server in servers) == 3)
    assert not servers[-1].accepted[0].closed


async def test_a_contact_that_restarted_is_dialled_anew(place: OpenPlace) -> None:
    server, client = await place(), await place()
    await within(client.rpc.find_value(server.contact, KEY))
    await server.accepted[0].close()
    await within(client.rpc.find_value(server.contact, KEY))
    assert len(server.accepted) == 2


async def test_somebody_else_at_the_address_is_nobody(place: OpenPlace) -> None:
    server, client = await place(), await place()
    other = device_key_of(Ed25519PrivateKey.generate())
    with pytest.raises(Unreachable) as caught:
        await within(client.rpc.find_value(DhtContact(other, server.endpoint.address), KEY))
    assert caught.value.code == "wrong-peer"
    assert not server.accepted, "nothing of ours was said"


async def test_a_bootstrap_address_has_no_key_and_then_it_has(place: OpenPlace) -> None:
    server, client = await place(), await place()
    met = await within(client.rpc.meet(Address("localhost", server.endpoint.address.port)))
    assert met == server.contact
    assert server.accepted[0].peer != client.endpoint.device
    await within(client.rpc.find_value(met, KEY))
    assert len(server.accepted) == 1, "the connection is used on"


async def test_who_gives_up_does_not_end_the_dial_of_another(place: OpenPlace) -> None:
    server, client = await place(), await place()
    hasty = asyncio.create_task(client.rpc.find_value(server.contact, KEY))
    patient = asyncio.create_task(client.rpc.find_value(server.contact, KEY))
    await asyncio.sleep(0)
    hasty.cancel()
    assert not (await within(patient)).values
    await asyncio.gather(hasty, return_exceptions=True)


async def test_silence_has_a_deadline(place: OpenPlace) -> None:
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, dial_s=0.2)
    client = await place(limits)
    sock, dead = dead_address()
    contact = DhtContact(client.endpoint.device, dead)
    with pytest.raises(Unreachable) as caught:
        await within(client.rpc.find_value(contact, KEY))
    assert caught.value.code == "no-answer"
    sock.close()


async def test_dial_back_tells_whether_we_are_reachable(place: OpenPlace) -> None:
    server, client = await place(), await place()
    answer = await within(client.rpc.dial_back(server.contact))
    assert answer.reached
    assert answer.observed == str(client.endpoint.address)
    assert [each.peer for each in client.accepted] != [server.endpoint.device], "as nobody"
