"""Strangers: what their first packets cost us, and who gets in while many come."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace

import pytest
from aioquic.asyncio.client import connect
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicHeader, QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import Malformed, Unreachable
from tests.transport.support import ALPN, QUICK, Inbox, Open, eventually, within
from tests.transport.test_identity import NOW, plain_client
from transport.address import SockAddr
from transport.admission import Admission, Decision, Verdict, address_prefix
from transport.certificate import make_certificate
from transport.limits import TransportLimits
from transport.quic import MAX_HANDSHAKE_BYTES
from transport.retry import RetryTokens

RETRY_ALWAYS = replace(QUICK, retry_from_half_open=0)
HERE: SockAddr = ("192.0.2.1", 5000)


def fake_initial() -> bytes:
    """The first flight of an aioquic client that nobody will answer for."""
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=[ALPN]))
    client.connect(("127.0.0.1", 1), now=0.0)
    return client.datagrams_to_send(now=0.0)[0][0]


async def test_garbage_leaves_no_state_and_is_counted(open_endpoint: Open) -> None:
    server, client = await open_endpoint(Inbox()), await open_endpoint()
    real = fake_initial()
    short_id = bytes([real[0]]) + real[1:5] + b"\x04abcd" + real[14:]
    kinds = [
        b"",
        b"\x00",
        os.urandom(20),
        bytes([0x40]) + os.urandom(50),
        bytes([0xC0]) + os.urandom(1300),
        bytes([0xC0, 0, 0, 0, 1, 21]) + os.urandom(1300),
        bytes([0xC0, 0, 0, 0, 0, 8]) + os.urandom(1300),
        bytes([0xE0, 0, 0, 0, 1, 8]) + os.urandom(1300),
        bytes([0xC0, 0x1A, 0x2A, 0x3A, 0x4A, 8]) + bytes(1300),
        real[:600],
        short_id.ljust(1200, b"\x00"),
    ]
    sent = 0

    def all_counted() -> bool:
        return server.counters.total() >= sent

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        while sent < 5_000:
            undecryptable = real[:6] + os.urandom(8) + real[14:]
            for kind in [*kinds, undecryptable]:
                sock.sendto(kind, tuple(server.address))
                sent += 1
            if sent % 220 == 0:
                await eventually(all_counted)
    await eventually(all_counted)
    assert not server._ids
    assert not server._admission.half_open
    assert set(server.counters) >= {"garbage", "unknown-connection", "other-version", "bad-initial"}
    await within(client.dial([server.address], expected=server.device, alpn=ALPN))


async def test_another_version_is_told_which_we_speak(open_endpoint: Open) -> None:
    server = await open_endpoint(Inbox())
    probe = bytes([0xC0]) + b"\x1a\x2a\x3a\x4a" + b"\x08AAAAAAAA" + b"\x08BBBBBBBB"
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_sendto(sock, probe.ljust(1200, b"\x01"), tuple(server.address))
        answer = await within(loop.sock_recv(sock, 2000))
    assert answer[1:5] == bytes(4)
    assert answer.endswith(b"\x00\x00\x00\x01")
    assert len(answer) < 1200


async def test_half_open_handshakes_are_forgotten_at_the_deadline(open_endpoint: Open) -> None:
    server = await open_endpoint(
        Inbox(), limits=replace(QUICK, retry_from_half_open=4, handshake_deadline_s=0.3)
    )
    client = await open_endpoint()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(20):
            sock.sendto(fake_initial(), tuple(server.address))
        await eventually(lambda: server.counters["retry"] == 16)
        assert server._admission.half_open == len(server._ids) == 4
        await eventually(lambda: not server._ids)
    assert server.counters["handshake-timeout"] == 4
    assert server._admission.half_open == 0
    await within(client.dial([server.address], expected=server.device, alpn=ALPN))


async def test_connections_are_capped(open_endpoint: Open) -> None:
    server = await open_endpoint(Inbox(), limits=replace(QUICK, max_connections=1))
    client = await open_endpoint()
    first = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    with pytest.raises(Unreachable):
        await within(
            client.dial([server.address], expected=server.device, alpn=ALPN, deadline_s=0.2)
        )
    assert server.counters["connections-full"]
    await first.close()
    await eventually(lambda: not server.connections)
    await within(client.dial([server.address], expected=server.device, alpn=ALPN))


async def test_an_endpoint_without_handlers_only_dials(open_endpoint: Open) -> None:
    silent, client = await open_endpoint(), await open_endpoint()
    with pytest.raises(Unreachable):
        await within(
            client.dial([silent.address], expected=silent.device, alpn=ALPN, deadline_s=0.2)
        )
    assert silent.counters["not-listening"]


# Retry


async def test_a_dial_goes_through_retry(open_endpoint: Open) -> None:
    """Identity and the hybrid exchange hold, though everything is initialised a second time."""
    inbox = Inbox()
    server, client = await open_endpoint(inbox, limits=RETRY_ALWAYS), await open_endpoint()
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    assert server.counters["retry"] >= 1
    assert connection.peer == server.device
    assert (await inbox.next()).peer == client.device
    assert connection.key_exchange == "X25519MLKEM768"
    assert await within(connection.ping()) > 0


async def test_an_unmodified_client_goes_through_retry(open_endpoint: Open) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox, limits=RETRY_ALWAYS)
    key = Ed25519PrivateKey.generate()
    configuration = plain_client(make_certificate(key, NOW), key)
    host, port = server.address
    async with connect(host, port, configuration=configuration) as protocol:
        await within(protocol.ping())
    assert server.counters["retry"] == 1


async def test_a_flood_of_made_up_addresses_does_not_keep_a_newcomer_out(
    open_endpoint: Open,
) -> None:
    """Without Retry, 256 of them would be all that this node serves for the next five seconds."""
    inbox, limits = Inbox(), TransportLimits()
    server = await open_endpoint(inbox, limits=limits)
    client = await open_endpoint()
    flood = [fake_initial() for _ in range(2_000)]
    most = 0

    async def spoof() -> None:
        nonlocal most
        for index, datagram in enumerate(flood):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((f"127.{1 + index // 250}.{1 + index % 250}.7", 0))
                sock.sendto(datagram, tuple(server.address))
            if index % 20 == 0:
                most = max(most, len(server._ids))
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(spoof())
        await eventually(lambda: server.counters["retry"] > 100)
        connection = await within(
            client.dial([server.address], expected=server.device, alpn=ALPN), 3.0
        )
        assert server.counters["retry"] < 1_999, "the flood was over before the newcomer came"
    assert (await inbox.next()).peer == client.device
    assert not connection.closed
    assert max(most, len(server._ids)) <= limits.retry_from_half_open + 1
    assert server._admission.half_open <= limits.retry_from_half_open
    assert not server._admission._by_prefix


async def test_nobody_gets_more_than_three_times_what_they_sent(open_endpoint: Open) -> None:
    """RFC 9000, 8.1: or we would be a weapon against whoever's address is made up."""
    server = await open_endpoint(
        Inbox(), limits=replace(QUICK, idle_timeout_s=5.0, handshake_deadline_s=1.0)
    )
    received = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(fake_initial(), tuple(server.address))
        await eventually(lambda: server.counters["handshake-timeout"] == 1)  # after its resends
        while True:
            try:
                received += len(sock.recv(65_535))
            except BlockingIOError:
                break
    assert 0 < received <= 3 * 1_200


@pytest.mark.parametrize("version", [b"\x00\x00\x00\x01", b"\x1a\x2a\x3a\x4a"])
def test_small_first_packets_are_not_answered(version: bytes) -> None:
    """Or the answer to a made-up address could be the larger one (RFC 9000, 14.1)."""
    admission = Admission(RETRY_ALWAYS, listening=True)
    whole = initial_datagram()
    whole = whole[:1] + version + whole[5:]
    assert admission.judge_untrusted(whole, HERE, now=1.0, accepted=0).reply
    small = whole[:24] + b"\x40\x64" + bytes(1_173)
    decision = admission.judge_untrusted(small, HERE, now=1.0, accepted=0)
    assert len(small) == 1_199
    assert decision == Decision(Verdict.GARBAGE)


def initial_header(token: bytes = b"") -> QuicHeader:
    header = pull_quic_header(Buffer(data=fake_initial()), host_cid_length=8)
    return replace(header, token=token)


def test_tokens_are_bound_to_address_connection_and_time() -> None:
    tokens, header = RetryTokens(), initial_header()
    packet = tokens.retry_packet(header, HERE, now=100.0)
    assert len(packet) < 200
    retry = pull_quic_header(Buffer(data=packet), host_cid_length=8)
    back = replace(header, token=retry.token, destination_cid=retry.source_cid)
    assert tokens.original_id_untrusted(back, HERE, 101.0) == header.destination_cid
    # One turn of the keys does not make a token worthless, time does.
    assert tokens.original_id_untrusted(back, HERE, 129.0) == header.destination_cid
    bad: list[tuple[QuicHeader, SockAddr, float]] = [
        (back, ("192.0.2.2", 5000), 101.0),
        (back, ("192.0.2.1", 5001), 101.0),
        (back, HERE, 131.0),
        (replace(back, destination_cid=os.urandom(8)), HERE, 101.0),
        (replace(back, token=back.token[:-1] + bytes([back.token[-1] ^ 1])), HERE, 101.0),
        (replace(back, token=b"x"), HERE, 101.0),
        (replace(back, token=os.urandom(80)), HERE, 101.0),
    ]
    for changed, remote, now in bad:
        with pytest.raises(Malformed) as caught:
            tokens.original_id_untrusted(changed, remote, now)
        assert caught.value.code == "retry-token"
    with pytest.raises(Malformed):
        RetryTokens().original_id_untrusted(back, HERE, 101.0)


def test_keys_of_tokens_change() -> None:
    tokens, header = RetryTokens(), initial_header()
    tokens.retry_packet(header, HERE, now=100.0)
    first = tokens._current
    packet = tokens.retry_packet(header, HERE, now=159.0)
    assert tokens._current is first
    retry = pull_quic_header(Buffer(data=packet), host_cid_length=8)
    back = replace(header, token=retry.token, destination_cid=retry.source_cid)
    assert tokens.original_id_untrusted(back, HERE, 161.0) == header.destination_cid
    assert tokens._current is not first
    tokens.retry_packet(header, HERE, now=230.0)
    assert first not in (tokens._current, tokens._previous)


# Caps


def proven(admission: Admission, remote: SockAddr, now: float = 0.0) -> Decision:
    """A client that answers its Retry."""
    first = initial_datagram()
    decision = admission.judge_untrusted(first, remote, now=now, accepted=0)
    assert decision.verdict is Verdict.RETRY
    retry = pull_quic_header(Buffer(data=decision.reply), host_cid_length=8)
    return admission.judge_untrusted(
        initial_datagram(retry.source_cid, retry.token), remote, now=now, accepted=0
    )


def initial_datagram(destination: bytes | None = None, token: bytes = b"") -> bytes:
    """A first packet as far as its header; nobody gets to decrypt it here."""
    header = b"\xc0\x00\x00\x00\x01\x08" + (destination or os.urandom(8)) + b"\x08" + bytes(8)
    size = (0x4000 | len(token)).to_bytes(2, "big")
    return (header + size + token + (0x4000 | 900).to_bytes(2, "big")).ljust(1_200, b"x")


def test_one_prefix_does_not_take_all_places() -> None:
    limits = replace(RETRY_ALWAYS, max_half_open=6, max_half_open_per_prefix=4)
    admission = Admission(limits, listening=True)
    verdicts = []
    for index in range(6):
        remote = (f"198.51.100.{index}", 1)
        decision = proven(admission, remote)
        verdicts.append(decision.verdict)
        if decision.verdict is Verdict.ACCEPT:
            admission.opened(index, remote, decision)
    assert verdicts == [Verdict.ACCEPT] * 4 + [Verdict.PREFIX_FULL] * 2
    others: list[SockAddr] = [("203.0.113.1", 1), ("2001:db8::1", 1, 0, 0)]
    for other in others:
        decision = proven(admission, other)
        assert decision.verdict is Verdict.ACCEPT
        admission.opened(other, other, decision)
    assert proven(admission, ("192.0.2.9", 1)).verdict is Verdict.HALF_OPEN_FULL
    for index in range(4):
        admission.settled(index)
        admission.settled(index)
    assert admission.half_open == 2
    assert proven(admission, ("198.51.100.9", 1)).verdict is Verdict.ACCEPT


def test_made_up_addresses_do_not_count_against_their_owners() -> None:
    limits = replace(QUICK, retry_from_half_open=4, max_half_open_per_prefix=1)
    admission = Admission(limits, listening=True)
    for index in range(4):
        decision = admission.judge_untrusted(initial_datagram(), HERE, now=0.0, accepted=0)
        admission.opened(index, HERE, decision)
    assert proven(admission, HERE).verdict is Verdict.ACCEPT


def test_a_stranger_who_hangs_up_at_once_is_not_served_for_ever() -> None:
    """Nothing is half open then, but each costs a handshake's CPU."""
    admission = Admission(replace(QUICK, first_packets_per_s=10.0), listening=True)
    verdicts = []
    for index in range(30):
        decision = admission.judge_untrusted(
            initial_datagram(), HERE, now=100 + index / 100, accepted=0
        )
        verdicts.append(decision.verdict)
        if decision.verdict is Verdict.ACCEPT:
            admission.opened(index, HERE, decision)
            admission.settled(index)
    assert verdicts.count(Verdict.ACCEPT) in (12, 13)
    assert verdicts.count(Verdict.RETRY) == 30 - verdicts.count(Verdict.ACCEPT)


@pytest.mark.parametrize(
    "one, other, same",
    [
        (("192.0.2.1", 1), ("192.0.2.254", 9), True),
        (("192.0.2.1", 1), ("192.0.3.1", 1), False),
        (("192.0.2.1", 1), ("::ffff:192.0.2.7", 1, 0, 0), True),
        (("2001:db8:0:100::1", 1, 0, 0), ("2001:db8:0:1ff::2", 1, 0, 0), True),
        (("2001:db8:0:100::1", 1, 0, 0), ("2001:db8:0:200::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2", 1, 0, 2), True),
    ],
)
def test_prefixes(one: SockAddr, other: SockAddr, same: bool) -> None:
    assert (address_prefix(one) == address_prefix(other)) is same


# What one packet can make us hold


def initial_with_crypto(offset: int, data: bytes) -> bytes:
    destination = os.urandom(8)
    pair = CryptoPair()
    pair.setup_initial(cid=destination, is_client=True, version=1)
    builder = QuicPacketBuilder(
        host_cid=os.urandom(8),
        peer_cid=destination,
        is_client=True,
        version=1,
        max_datagram_size=1_200,
    )
    builder.start_packet(QuicPacketType.INITIAL, pair)
    frame = builder.start_frame(QuicFrameType.CRYPTO, capacity=20 + len(data))
    frame.push_uint_var(offset)
    frame.push_uint16(len(data) | 0x4000)
    frame.push_bytes(data)
    return builder.flush()[0][0].ljust(1_200, b"\x00")


async def test_a_gap_in_the_handshake_is_not_filled(open_endpoint: Open) -> None:
    """aioquic would hold half a megabyte for one packet of a stranger."""
    server = await open_endpoint(Inbox())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(initial_with_crypto(1_000, b"fits"), tuple(server.address))
        await eventually(lambda: server._ids)
        for offset in (MAX_HANDSHAKE_BYTES - 3, 500_000):
            sock.sendto(initial_with_crypto(offset, b"gap!"), tuple(server.address))
        await eventually(lambda: server.counters["handshake-failed"] == 2)
    (left,) = server._ids
    streams = left.quic._crypto_streams.values()
    assert sum(len(stream.receiver._buffer) for stream in streams) == 1_004
