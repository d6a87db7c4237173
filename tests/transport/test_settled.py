"""A connection that has finished its handshake does not keep what only the handshake needed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest
from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicConnection

from tests.transport.virtual import JumpingLoop, virtual_pair
from transport import Connection, TransportLimits, settled
from transport.compact import PausingAead

PAIRS = 20
KIB_OF_A_PAIR = 70  # measured: 47; with all that the handshake left: 216


def test_an_idle_connection_is_small(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        kept = [virtual_pair(TransportLimits())]  # what is made once for all
        await kept[0][0].wait_established()
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(PAIRS):
                kept.append(virtual_pair(TransportLimits()))
                await kept[-1][0].wait_established()
            await asyncio.sleep(60)  # virtual: confirmed at both ends, and all that was queued sent
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not any(client.closed or server.closed for client, server, *_ in kept)
        assert held / PAIRS < KIB_OF_A_PAIR * 1024, held / PAIRS / 1024
        for client, server, *_ in kept:
            client.close_now()
            server.close_now()

    loop.run_until_complete(scenario())


def test_an_hour_of_pings_leaves_nothing(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        kept = [virtual_pair(TransportLimits()) for _ in range(2)]
        await asyncio.gather(*(each[0].wait_established() for each in kept))
        await asyncio.sleep(60)
        gc.collect()
        tracemalloc.start()
        try:
            await asyncio.sleep(3600)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # With sets of the packets' numbers: 20 KiB.
        assert held / len(kept) < 8 * 1024, held / len(kept) / 1024
        for client, server, *_ in kept:
            assert not client.closed
            client.close_now()
            server.close_now()

    loop.run_until_complete(scenario())


async def _settled_pair() -> tuple[Connection, Connection]:
    client, server, *_ = virtual_pair(TransportLimits())
    await client.wait_established()
    await asyncio.sleep(60)
    for end in (client, server):
        assert isinstance(end.quic._cryptos[tls.Epoch.ONE_RTT].recv.aead, PausingAead)
        assert end.quic.tls.key_schedule is not None
        assert not hasattr(end.quic.tls.key_schedule, "secret")
    return client, server


@pytest.mark.parametrize("updates", [1, 3])
def test_a_settled_connection_updates_its_keys(loop: JumpingLoop, updates: int) -> None:
    async def scenario() -> None:
        client, server = await _settled_pair()
        for end, other in ((client, server), (server, client)) * updates:
            phase = other.quic._cryptos[tls.Epoch.ONE_RTT].recv.key_phase
            end.quic.request_key_update()
            await end.ping()
            await other.ping()
            assert other.quic._cryptos[tls.Epoch.ONE_RTT].recv.key_phase != phase
        for end in (client, server):
            keys = end.quic._cryptos[tls.Epoch.ONE_RTT]
            assert isinstance(keys.recv.aead, PausingAead), "a peer would make both large"
            assert isinstance(keys.send.aead, PausingAead)
        client.close_now()
        await server.wait_closed()

    loop.run_until_complete(scenario())


def test_a_settled_connection_exports_and_knows_its_peer(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server = await _settled_pair()
        secrets = {end.export_keying_material(b"label", b"context", 32) for end in (client, server)}
        assert len(secrets) == 1
        assert client.key_exchange == server.key_exchange == "X25519MLKEM768"
        assert client.quic.peer == client.peer
        assert client.quic.refusal is None
        client.close_now()
        await server.wait_closed()

    loop.run_until_complete(scenario())


def test_datagrams_of_the_handshake_that_come_late_change_nothing(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, from_client, from_server = virtual_pair(TransportLimits())
        seen: list[tuple[Connection, bytes]] = []
        for pipe, to in ((from_client, server), (from_server, client)):

            def deliver(data: bytes, to: Connection = to, pass_on: object = pipe.deliver) -> None:
                seen.append((to, data))
                pass_on(data)  # type: ignore[operator]

            pipe.deliver = deliver  # type: ignore[method-assign]
        await client.wait_established()
        await asyncio.sleep(60)
        handshake = [(to, data) for to, data in seen if data[0] & 0x80]
        assert len(handshake) >= 3
        for to, data in handshake * 2:
            to.receive(data, to.quic._network_paths[0].addr, loop.time())
            to.after_receiving()
        await client.ping()
        await server.ping()
        client.close_now()
        await server.wait_closed()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("to_client", [True, False])
def test_tickets_are_read_by_a_client_and_refused_by_a_server(
    loop: JumpingLoop, to_client: bool
) -> None:
    ticket = Buffer(capacity=256)
    tls.push_new_session_ticket(
        ticket, tls.NewSessionTicket(ticket_lifetime=60, ticket_age_add=1, ticket=b"ticket")
    )

    async def scenario() -> None:
        client, server = await _settled_pair()
        sender, reader = (server, client) if to_client else (client, server)
        sender.quic._crypto_streams[tls.Epoch.ONE_RTT].sender.write(ticket.data)
        sender.transmit()
        await asyncio.sleep(1)
        assert reader.closed is not to_client
        client.close_now()
        server.close_now()

    loop.run_until_complete(scenario())


def test_the_peer_asks_for_an_answer_on_the_path(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server = await _settled_pair()
        path = server.quic._network_paths[0]
        for _ in range(40):  # each is answered, and five of ours are remembered
            path.remote_challenges.append(bytes(8))
            path.local_challenges.append(bytes(8))
        assert (len(path.remote_challenges), len(path.local_challenges)) == (40, 5)
        path.local_challenges.clear()
        await server.ping()
        assert not path.remote_challenges
        client.close_now()
        await server.wait_closed()

    loop.run_until_complete(scenario())


def test_usual_values_are_aioquics_own(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, *_ = virtual_pair(TransportLimits())
        own = vars(client.quic).keys() & vars(server.quic).keys()
        assert own >= settled._USUAL.keys() | settled._OF_HANDSHAKE
        assert not [name for name in settled._USUAL if hasattr(QuicConnection, name)]
        client.close_now()
        server.close_now()

    loop.run_until_complete(scenario())
