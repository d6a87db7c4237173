"""One socket for everything: dialling, strangers' packets, bounds, the end."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable
from tests.transport.support import ALPN, QUICK, Inbox, Open, eventually, pair, within
from transport import Address, Connection, ConnectionLost, EndedBy, Endpoint
from transport.address import address_of_socket
from transport.certificate import device_key_of
from transport.udp import bind_udp


def dead_address() -> tuple[socket.socket, Address]:
    """A bound socket that never answers."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock, address_of_socket(sock.getsockname())


# Dialling


async def test_dead_candidates_cost_their_stagger_only(open_endpoint: Open) -> None:
    inbox = Inbox()
    server, client = await open_endpoint(inbox), await open_endpoint()
    one, dead_one = dead_address()
    two, dead_two = dead_address()
    started = asyncio.get_running_loop().time()
    connection = await within(
        client.dial([dead_one, dead_two, server.address], expected=server.device, alpn=ALPN)
    )
    took = asyncio.get_running_loop().time() - started
    assert connection.peer == server.device
    assert 2 * QUICK.dial_stagger_s <= took < QUICK.dial_deadline_s
    assert len(client._ids) == 1, "the losers are gone"
    one.close()
    two.close()


async def test_first_answer_wins_and_the_other_link_is_closed(open_endpoint: Open) -> None:
    """The same peer by two addresses: one link stays, at both ends."""
    inbox = Inbox()
    server = await open_endpoint(inbox, listen=Address("0.0.0.0", 0))
    client = await open_endpoint(limits=replace(QUICK, dial_stagger_s=0.0))
    port = server.address.port
    connection = await within(
        client.dial(
            [Address("127.0.0.1", port), Address("127.0.0.2", port)],
            expected=server.device,
            alpn=ALPN,
        )
    )
    await eventually(lambda: len(server.connections) == 1 and len(server._ids) == 1)
    assert client.connections == [connection]
    assert await within(connection.ping()) > 0


async def test_no_answer(open_endpoint: Open) -> None:
    client = await open_endpoint()
    sock, dead = dead_address()
    with pytest.raises(Unreachable) as caught:
        await within(client.dial([dead], expected=client.device, alpn=ALPN, deadline_s=0.1))
    assert caught.value.code == "no-answer"
    assert not client._ids
    sock.close()


async def test_no_candidates(open_endpoint: Open) -> None:
    client = await open_endpoint()
    with pytest.raises(Unreachable) as caught:
        await within(client.dial([], expected=client.device, alpn=ALPN))
    assert caught.value.code == "no-answer"


async def test_the_most_telling_failure_is_raised(open_endpoint: Open) -> None:
    """One address is dead, another belongs to somebody else: the user must hear of the second."""
    stranger, client = await open_endpoint(Inbox()), await open_endpoint()
    sock, dead = dead_address()
    wanted = device_key_of(Ed25519PrivateKey.generate())
    with pytest.raises(Refused) as caught:
        await within(
            client.dial([stranger.address, dead], expected=wanted, alpn=ALPN, deadline_s=0.5)
        )
    assert caught.value.code == "wrong-peer"
    sock.close()


async def test_an_impostor_does_not_shut_out_the_peer(open_endpoint: Open) -> None:
    impostor, inbox = await open_endpoint(Inbox()), Inbox()
    server, client = await open_endpoint(inbox), await open_endpoint()
    connection = await within(
        client.dial([impostor.address, server.address], expected=server.device, alpn=ALPN)
    )
    assert connection.peer == server.device


@pytest.mark.parametrize("address", [Address("::1", 9), Address("127.0.0.1", 0)])
async def test_no_route(open_endpoint: Open, address: Address) -> None:
    client = await open_endpoint()  # an IPv4 socket
    with pytest.raises(Unreachable) as caught:
        await within(client.dial([address], expected=client.device, alpn=ALPN))
    assert caught.value.code == "no-route"


async def test_a_name_is_looked_up(open_endpoint: Open) -> None:
    server, client = await open_endpoint(Inbox()), await open_endpoint()
    await within(
        client.dial([Address("localhost", server.address.port)], expected=server.device, alpn=ALPN)
    )


async def test_a_name_that_does_not_exist(
    open_endpoint: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await open_endpoint()

    async def fails(*_: object, **__: object) -> list[object]:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
    with pytest.raises(Unreachable) as caught:
        await within(client.dial([Address("nobody.invalid", 1)], expected=client.device, alpn=ALPN))
    assert caught.value.code == "name-not-found"


async def test_cancelled_dial_leaves_nothing(open_endpoint: Open) -> None:
    client = await open_endpoint()
    sock, dead = dead_address()
    dialing = asyncio.create_task(client.dial([dead], expected=client.device, alpn=ALPN))
    await eventually(lambda: client._ids)
    dialing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(dialing)
    assert not client._ids
    sock.close()


# Binding


async def test_busy_port(open_endpoint: Open) -> None:
    first = await open_endpoint()
    with pytest.raises(Fault) as caught:
        await open_endpoint(listen=first.address)
    assert caught.value.code == "port-busy"
    assert caught.value.blame is Blame.ENVIRONMENT
    assert caught.value.hint


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(Fault) as caught:
        await Endpoint.open(Ed25519PrivateKey.generate(), Address("192.0.2.1", 0), handlers={})
    assert caught.value.code == "cannot-bind"
    with pytest.raises(Refused):
        await Endpoint.open(Ed25519PrivateKey.generate(), Address("localhost", 0), handlers={})


def test_without_a_free_file_descriptor_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", exhausted)
    with pytest.raises(Fault) as caught:
        bind_udp(Address("127.0.0.1", 0), 1)
    assert caught.value.code == "cannot-bind"


@pytest.mark.parametrize(
    "listen, reach, dialer",
    [
        ("::1", "::1", "::1"),
        ("::", "::1", "::"),
        ("::", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "::"),
        ("0.0.0.0", "127.0.0.1", "0.0.0.0"),
    ],
)
async def test_both_address_families(
    open_endpoint: Open, listen: str, reach: str, dialer: str
) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox, listen=Address(listen, 0))
    client = await open_endpoint(listen=Address(dialer, 0))
    connection = await within(
        client.dial([Address(reach, server.address.port)], expected=server.device, alpn=ALPN)
    )
    assert connection.remote == Address(reach, server.address.port)
    assert (await inbox.next()).remote.host == reach


# Connections


async def test_a_library_error_costs_one_connection(
    open_endpoint: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dialed, accepted = await pair(open_endpoint)
    other, _ = await pair(open_endpoint)

    def breaks(*_: object, **__: object) -> None:
        raise AssertionError("peer data tripped the library")

    monkeypatch.setattr(accepted.quic, "receive_datagram", breaks)
    with pytest.raises((Unreachable, ConnectionLost)):
        await within(dialed.ping(0.2))
    assert accepted.closed
    assert await within(other.ping()) > 0
    assert "dropped" in caplog.text


async def test_a_peer_that_retires_our_ids_for_ever_leaves_none_behind(
    open_endpoint: Open,
) -> None:
    """Each is replaced by one that is known twice: when it is made, and when it is sent."""
    inbox = Inbox()
    server = await open_endpoint(inbox)
    # The attacker's own bound is not what is tried here.
    client = await open_endpoint(limits=replace(QUICK, peer_connection_ids=1 << 30))
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    accepted = await inbox.next()
    await within(dialed.ping())
    quic = accepted.quic
    for _ in range(50):
        assert dialed.quic._peer_cid_available, "each that was retired is replaced"
        dialed.quic.change_connection_id()
        await within(dialed.ping())
    ids = server._ids[accepted]
    first_named = quic.original_destination_connection_id  # no id of ours: nobody can retire it
    assert sorted(ids) == sorted([first_named, *(each.cid for each in quic._host_cids)])
    assert set(ids) == server._routes.keys()
    assert len(ids) == 1 + QUICK.connection_ids
    dialed.close_now()
    await eventually(lambda: not server._ids and not server._routes)


# Handlers and the end


async def test_a_crashed_handler_is_logged_counted_and_closes(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashes(_: Connection) -> None:
        raise ZeroDivisionError("secret detail")

    server, client = await open_endpoint(crashes), await open_endpoint()
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    reason = await within(connection.wait_closed())
    assert (reason.by, reason.code, reason.application) == (EndedBy.PEER, 1, True)
    assert "secret" not in reason.text
    await eventually(lambda: server.counters["handler-crashed"] == 1)
    assert "ZeroDivisionError" in caplog.text


async def test_a_handler_that_finds_malformed_bytes_closes_with_the_code(
    open_endpoint: Open,
) -> None:
    async def refuses(_: Connection) -> None:
        raise Malformed("frame-too-large", "too large")

    server, client = await open_endpoint(refuses), await open_endpoint()
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    reason = await within(connection.wait_closed())
    assert (reason.code, reason.text) == (2, "frame-too-large")
    assert server.counters["handler-frame-too-large"] == 1


async def test_a_task_group_in_a_handler_ends_like_a_handler(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.accept_stream())
            group.create_task(connection.accept_stream())

    server, client = await open_endpoint(handler), await open_endpoint()
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    await eventually(lambda: server.connections)
    await connection.close()
    await eventually(lambda: not server._tasks._tasks)
    assert not server.counters
    assert not caplog.records


async def test_a_handler_that_ignores_the_end_is_cancelled(open_endpoint: Open) -> None:
    cancelled = asyncio.Event()

    async def stubborn(_: Connection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server, client = await open_endpoint(stubborn), await open_endpoint()
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    await eventually(lambda: server.connections)
    await connection.close()
    await within(cancelled.wait(), 2)


async def test_close_tells_all_peers_and_frees_the_port(open_endpoint: Open) -> None:
    inbox = Inbox()
    server, client = await open_endpoint(inbox), await open_endpoint()
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    await inbox.next()
    await within(server.close(), 1.0)
    reason = await within(connection.wait_closed())
    assert (reason.by, reason.code, reason.text) == (EndedBy.PEER, 0, "endpoint closed")
    await server.close()
    again = await open_endpoint(listen=server.address)
    assert again.address == server.address
    with pytest.raises(Fault) as caught:
        await server.dial([client.address], expected=client.device, alpn=ALPN)
    assert caught.value.code == "endpoint-closed"


async def test_many_connections_come_and_go(open_endpoint: Open) -> None:
    server, client = await open_endpoint(Inbox()), await open_endpoint()
    for _ in range(100):
        connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
        await connection.close()
    await eventually(lambda: not server._ids and not server._tasks._tasks)
    assert not client._ids
    assert not client._routes
