"""A peer that was killed and came back is noticed at the first packet, not at the idle timeout."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.transport.support import ALPN, QUICK, Inbox, Open, eventually, pair, within
from transport import Connection, EndedBy, Endpoint, TransportLimits
from transport.stateless_reset import (
    MAX_RESET,
    MIN_RESET,
    PAST,
    QUIET_S,
    TOKEN_LENGTH,
    PeerTokens,
    ResetKey,
)

PATIENT = TransportLimits()  # 30 s to the idle timeout: silence would not be noticed in these tests


async def killed(endpoint: Endpoint) -> None:
    """As kill -9 does: no goodbye, the port is free."""
    for connection in list(endpoint._ids):
        connection.abort()
    await endpoint.close()


async def linked(
    open_endpoint: Open, server_key: Ed25519PrivateKey, client_key: Ed25519PrivateKey
) -> tuple[Endpoint, Endpoint, Connection, Connection]:
    inbox = Inbox()
    server = await open_endpoint(inbox, key=server_key, limits=PATIENT)
    client = await open_endpoint(Inbox(), key=client_key, limits=PATIENT)
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    accepted = await inbox.next()
    await within(dialed.ping())  # the ids with tokens have arrived
    await within(accepted.ping())
    return server, client, dialed, accepted


@pytest.mark.parametrize("who", ["acceptor", "dialler"])
async def test_a_killed_and_restarted_peer_is_noticed_at_once(
    open_endpoint: Open, who: str
) -> None:
    keys = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    server, client, dialed, accepted = await linked(open_endpoint, *keys)
    victim, survivor = (server, client) if who == "acceptor" else (client, server)
    link = dialed if who == "acceptor" else accepted
    await killed(victim)
    again = await open_endpoint(
        Inbox(), key=keys[0 if who == "acceptor" else 1], listen=victim.address, limits=PATIENT
    )
    stream = await within(link.open_stream())
    await stream.write(b"are you there?")
    reason = await within(link.wait_closed(), 0.5)
    assert reason.by is EndedBy.RESET
    assert survivor.counters["reset-received"] == 1
    assert again.counters["reset-sent"] == 1
    # And the way is free for a new link at once.
    await within(survivor.dial([again.address], expected=again.device, alpn=ALPN), 1.0)


async def test_somebody_else_at_the_address_cannot_reset(open_endpoint: Open) -> None:
    keys = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    server, client, dialed, _ = await linked(open_endpoint, *keys)
    await killed(server)
    other = await open_endpoint(Inbox(), listen=server.address, limits=PATIENT)
    stream = await within(dialed.open_stream())
    await stream.write(b"are you there?")
    await eventually(lambda: other.counters["reset-sent"])
    await eventually(lambda: client.counters["unknown-connection"])
    assert not dialed.closed
    assert client.counters["reset-received"] == 0


async def test_forged_resets_do_nothing(open_endpoint: Open) -> None:
    keys = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    server, client, dialed, accepted = await linked(open_endpoint, *keys)
    token = dialed.quic.peer_reset_token
    assert token is not None
    spoiled = token[:-1] + bytes([token[-1] ^ 1])
    forged = [os.urandom(26) + spoiled, os.urandom(42), token, b"\x40" * 4 + token]
    forged += [os.urandom(26) + token + b"\x00"]
    # The token of an id that is not in use ends nothing either (RFC 9000, 10.3.1).
    forged += [
        b"\x40" * 26 + each.stateless_reset_token for each in dialed.quic._peer_cid_available
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in forged:
            sock.sendto(b"\x40" + datagram[1:], tuple(client.address))
            sock.sendto(b"\x40" + datagram[1:], tuple(server.address))
    await within(dialed.ping())
    await within(accepted.ping())
    assert not dialed.closed
    assert not accepted.closed
    assert client.counters["reset-received"] == server.counters["reset-received"] == 0
    # The right one, from wherever, ends it: what was sent above fails for its token alone.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"\x40" * 26 + token, tuple(client.address))
        assert (await within(dialed.wait_closed())).by is EndedBy.RESET


async def test_a_goodbye_is_not_drowned_by_a_reset(open_endpoint: Open) -> None:
    """What was on its way when we closed is late, not a sign of another life."""
    dialed, accepted = await pair(open_endpoint, limits=replace(QUICK, idle_timeout_s=5.0))
    stream = await within(accepted.open_stream())
    await stream.write(b"x" * 100_000)
    await dialed.close(7, "bye")
    await stream_or_end(accepted)
    reason = await within(accepted.wait_closed())
    assert (reason.by, reason.code, reason.text) == (EndedBy.PEER, 7, "bye")
    await asyncio.sleep(0)
    assert all(not each.counters["reset-sent"] for each in open_endpoint.endpoints)


async def test_a_goodbye_in_the_same_batch_says_more_than_a_reset(open_endpoint: Open) -> None:
    keys = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    _, client, dialed, accepted = await linked(open_endpoint, *keys)
    token = dialed.quic.peer_reset_token
    assert token is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        accepted.close_now(7, "bye")  # both wait in the socket when the client next looks
        sock.sendto(b"\x40" * 26 + token, tuple(client.address))
    reason = await within(dialed.wait_closed())
    assert (reason.by, reason.code) == (EndedBy.PEER, 7)
    await eventually(lambda: client.counters["reset-late"] == 1)


async def stream_or_end(connection: Connection) -> None:
    async with asyncio.timeout(5):
        while not connection.closed:
            await asyncio.sleep(0)


def test_tokens_outlive_the_process_and_belong_to_key_and_id() -> None:
    key, connection_id = Ed25519PrivateKey.generate(), os.urandom(8)
    token = ResetKey(key, 1.0).token(connection_id)
    assert len(token) == TOKEN_LENGTH
    assert ResetKey(key, 1.0).token(connection_id) == token
    assert ResetKey(key, 1.0).token(os.urandom(8)) != token
    assert ResetKey(Ed25519PrivateKey.generate(), 1.0).token(connection_id) != token


def test_a_reset_is_shorter_than_what_it_answers_so_two_of_us_come_to_an_end() -> None:
    ours = ResetKey(Ed25519PrivateKey.generate(), 1e6)
    theirs = ResetKey(Ed25519PrivateKey.generate(), 1e6)
    datagram: bytes | None = b"\x40" + os.urandom(1_199)
    sizes = []
    while datagram is not None:
        sizes.append(len(datagram))
        ours, theirs = theirs, ours
        datagram = ours.reset_for(datagram, datagram[1:9], now=1.0)
        assert datagram is None or datagram[0] & 0xC0 == 0x40
    assert sizes[:2] == [1_200, MAX_RESET]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] == MIN_RESET


def test_resets_are_rate_limited() -> None:
    key = ResetKey(Ed25519PrivateKey.generate(), 10.0)
    stray = b"\x40" + os.urandom(60)
    sent = [key.reset_for(stray, stray[1:9], now=5.0 + index / 100) for index in range(100)]
    assert 18 <= sum(each is not None for each in sent) <= 20


def test_late_is_for_a_while() -> None:
    key = ResetKey(Ed25519PrivateKey.generate(), 10.0)
    key.retire([b"12345678"], now=100.0)
    assert key.is_late(b"12345678", now=100.0 + QUIET_S - 0.1)
    assert not key.is_late(b"12345678", now=100.0 + QUIET_S)
    assert not key.is_late(b"87654321", now=100.0)


def test_only_the_token_in_use_ends_a_connection() -> None:
    tokens: PeerTokens[str] = PeerTokens()
    first, second = os.urandom(16), os.urandom(16)
    tokens.follow("a", first)
    tokens.follow("a", None)  # nothing known of the id in use: nothing changes
    assert tokens.find_untrusted(bytes(5) + first) == "a"
    tokens.follow("a", second)
    assert tokens.find_untrusted(bytes(5) + first) is PAST
    assert tokens.find_untrusted(bytes(5) + second) == "a"
    assert tokens.find_untrusted(bytes(4) + second) is None
    tokens.forget("a")
    assert tokens.find_untrusted(bytes(5) + second) is PAST
    assert tokens.find_untrusted(os.urandom(40)) is None


def test_what_is_remembered_is_bounded() -> None:
    tokens: PeerTokens[int] = PeerTokens()
    key = ResetKey(Ed25519PrivateKey.generate(), 1.0)
    for index in range(10_000):
        tokens.follow(index, index.to_bytes(16, "big"))
        tokens.forget(index)
        key.retire([index.to_bytes(8, "big")], now=float(index))
    assert len(tokens._past) == len(key._retired_at) == 8_192
    assert not tokens._current
    assert not tokens._connections
