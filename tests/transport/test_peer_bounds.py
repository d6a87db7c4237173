"""Attacks by a proven peer: each fails on a named bound, and leaves memory flat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.hostile import (
    ACK,
    CRYPTO,
    MAX_STREAMS,
    NEW_CONNECTION_ID,
    PATH_CHALLENGE,
    PING,
    RESET_STREAM,
    STOP_SENDING,
    STREAM,
    frame,
    inject,
)
from tests.transport.virtual import JumpingLoop, Pipe, virtual_pair
from transport import Connection, EndedBy, TransportLimits
from transport.peer_bounds import BoundedConnection

LIMITS = TransportLimits()
# Makes the victim send by aioquic's own way, in which limits are looked at; see one_rtt.py.
RARE = frame(PATH_CHALLENGE, bytes(8))
Attack = Callable[[Connection, Connection, Pipe], Awaitable[None]]


def against(loop: JumpingLoop, attack: Attack, limits: TransportLimits = LIMITS) -> None:
    """Run `attack(attacker, victim, the victim's wire)` over an established connection."""

    async def scenario() -> None:
        attacker, victim, _, wire = virtual_pair(limits)
        await attacker.wait_established()
        await asyncio.sleep(2)
        await attack(attacker, victim, wire)

    loop.run_until_complete(asyncio.wait_for(scenario(), 100_000))


async def expect_closed(victim: Connection, wire: Pipe, code: QuicErrorCode) -> None:
    async with asyncio.timeout(5):
        reason = await victim.wait_closed()
    assert (reason.by, reason.code) == (EndedBy.PROTOCOL, int(code))
    assert wire.counters[f"protocol-{code.name.lower().replace('_', '-')}"] == 1


@given(st.integers(0, 50), st.binary(max_size=50), st.integers(0, 20))
def test_padding_ends_where_the_library_says(zeros: int, rest: bytes, before: int) -> None:
    """Which looks at each byte by itself: 1 ms for a probe of 16 KiB."""
    ends = []
    for kind in (QuicConnection, BoundedConnection):
        buffer = Buffer(data=b"\1" * before + bytes(zeros) + rest)
        buffer.seek(before)
        connection: Any = SimpleNamespace(_quic_logger=None)
        kind._handle_padding_frame(connection, connection, 0, buffer)
        ends.append(buffer.tell())
    assert ends[0] == ends[1]


def test_one_byte_fragments(loop: JumpingLoop) -> None:
    """aioquic's list of ranges costs its square: 13,824 fragments, 6 s of CPU."""

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for first in range(0, 20_000, 1_000):
            pieces = [frame(STREAM, 0, 2 * n + 1, 1, b"x") for n in range(first, first + 1_000)]
            inject(attacker, *pieces)
        await expect_closed(victim, wire, QuicErrorCode.PROTOCOL_VIOLATION)
        held = victim.quic._streams[0].receiver
        assert len(held._ranges) <= LIMITS.reassembly_ranges + 1

    against(loop, attack)


def test_one_byte_fragments_of_crypto_data(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for first in range(0, 20_000, 1_000):
            pieces = [frame(CRYPTO, 2 * n + 1, 1, b"x") for n in range(first, first + 1_000)]
            inject(attacker, *pieces)
        await expect_closed(victim, wire, QuicErrorCode.PROTOCOL_VIOLATION)

    against(loop, attack)


def test_the_512_mib_gap(loop: JumpingLoop) -> None:
    """Ten packets that each claim twice the offset of the last."""

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for step in range(10):
            inject(attacker, frame(STREAM, 0, (1 << (20 + step)) - 1, 1, b"x"), RARE)
            await asyncio.sleep(0.3)
        await expect_closed(victim, wire, QuicErrorCode.FLOW_CONTROL_ERROR)
        assert len(victim.quic._streams[0].receiver._buffer) <= LIMITS.stream_buffer

    against(loop, attack)


def test_the_gap_spread_over_all_streams(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for index in range(LIMITS.max_streams):
            inject(attacker, frame(STREAM, 4 * index, LIMITS.stream_buffer - 1, 1, b"x"), RARE)
            await asyncio.sleep(0.2)
        await expect_closed(victim, wire, QuicErrorCode.FLOW_CONTROL_ERROR)
        held = sum(len(each.receiver._buffer) for each in victim.quic._streams.values())
        assert held <= LIMITS.connection_buffer

    against(loop, attack)


def test_acknowledging_what_was_not_sent(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        inject(attacker, frame(ACK, 1 << 40, 0, 0, 0))
        await expect_closed(victim, wire, QuicErrorCode.PROTOCOL_VIOLATION)

    against(loop, attack)


def test_optimistic_acknowledgement(loop: JumpingLoop) -> None:
    """A peer that acknowledges all numbers, received or not, trips over one that was skipped."""

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for _ in range(2_000):
            await victim.ping()
            if victim.quic._skipped:
                break
        assert not victim.closed, "an honest peer never acknowledges a skipped number"
        last = victim.quic._packet_number - 1
        inject(attacker, frame(ACK, last, 0, 0, last))
        await expect_closed(victim, wire, QuicErrorCode.PROTOCOL_VIOLATION)

    against(loop, attack)


def test_more_streams_than_allowed(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        inject(attacker, frame(STREAM, 4 * LIMITS.max_streams, 0, 1, b"x"))
        await expect_closed(victim, wire, QuicErrorCode.STREAM_LIMIT_ERROR)

    against(loop, attack)


@pytest.mark.parametrize("kind", ["reset", "stop", "both"])
def test_a_storm_of_resets(loop: JumpingLoop, kind: str) -> None:
    """Streams opened and ended at once, for ever, by a peer that never lets ours end."""

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for _ in range(50):
            for index in range(LIMITS.max_streams):
                if kind != "stop":
                    inject(attacker, frame(RESET_STREAM, 4 * index, 7, 0))
                if kind != "reset":
                    inject(attacker, frame(STOP_SENDING, 4 * index, 7))
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert len(victim.quic._streams) <= LIMITS.max_streams
        assert len(victim._streams) <= LIMITS.max_streams
        assert len(victim._streams._table._waiting) <= LIMITS.accept_queue
        assert not victim.quic._events

    against(loop, attack)


def test_raising_our_stream_limit_costs_nothing(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        inject(attacker, frame(MAX_STREAMS, 1 << 59))
        await asyncio.sleep(1)
        assert not victim.closed
        assert not victim.quic._streams
        inject(attacker, frame(MAX_STREAMS, (1 << 60) + 1))
        await expect_closed(victim, wire, QuicErrorCode.FRAME_ENCODING_ERROR)

    against(loop, attack)


def test_endless_pings_leave_no_records(loop: JumpingLoop) -> None:
    """Nobody acknowledges a bare ACK: aioquic would remember each that it sent, for ever."""
    limits = replace(LIMITS, sent_records=200)

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        most = 0
        for _ in range(3_000):
            inject(attacker, frame(PING))
            await asyncio.sleep(0.002)
            most = max(most, len(victim.quic._spaces[tls.Epoch.ONE_RTT].sent_packets))
        assert wire.sizes, "it does answer"
        assert most <= limits.sent_records
        assert not victim.closed

    against(loop, attack, limits)


def test_endless_path_challenges(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        sent = sum(wire.sizes.values())
        for number in range(200):
            inject(
                attacker,
                *(frame(PATH_CHALLENGE, (number * 100 + n).to_bytes(8, "big")) for n in range(100)),
            )
        await asyncio.sleep(1)
        assert len(victim.quic._network_paths[0].remote_challenges) <= 32
        assert sum(wire.sizes.values()) - sent < 300, "no answer for each"
        assert not victim.closed
        await attacker.ping()

    against(loop, attack)


def test_endless_connection_ids(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for number in range(8, 100):
            cid = bytes([8]) + number.to_bytes(8, "big")
            inject(attacker, frame(NEW_CONNECTION_ID, number, 0, cid, bytes(16)))
        await expect_closed(victim, wire, QuicErrorCode.CONNECTION_ID_LIMIT_ERROR)

    against(loop, attack)


def test_switching_connection_ids_for_ever(loop: JumpingLoop) -> None:
    """Each switch makes the victim retire an id of ours and remember its number."""
    limits = replace(LIMITS, peer_connection_ids=40)

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        for _ in range(200):
            attacker.quic.change_connection_id()
            if victim.closed:
                break
            try:
                await attacker.ping()
            except Exception:  # noqa: BLE001 - the victim has closed
                break
        await expect_closed(victim, wire, QuicErrorCode.CONNECTION_ID_LIMIT_ERROR)
        assert len(victim.quic._peer_cid_sequence_numbers) <= 42

    against(loop, attack, limits)


def test_a_peer_that_never_acknowledges(loop: JumpingLoop) -> None:
    """It keeps the link alive and never takes what was sent: bounded, then ended."""

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        # The attacker is deaf, so it acknowledges nothing, and speaks, so it is not silent.
        wire.cut = True
        stream = await victim.open_stream()
        writing = asyncio.create_task(stream.write(bytes(10 * LIMITS.connection_buffer)))
        started = asyncio.get_running_loop().time()
        while not victim.closed:
            inject(attacker, frame(PING))
            await asyncio.sleep(1)
            assert victim.quic.unacknowledged_total() <= LIMITS.connection_buffer
            assert asyncio.get_running_loop().time() - started < 3 * LIMITS.ack_deadline_s
        assert (await victim.wait_closed()).by is EndedBy.PROTOCOL
        assert wire.counters["peer-acknowledges-nothing"] == 1
        await asyncio.gather(writing, return_exceptions=True)

    against(loop, attack)


def test_a_peer_that_never_reads_is_no_reason_to_close(loop: JumpingLoop) -> None:
    """Slow is not mute: a stream that nobody reads for an hour stays, within its window."""

    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        stream = await victim.open_stream()
        writing = asyncio.create_task(stream.write(bytes(5 * LIMITS.stream_buffer)))
        await asyncio.sleep(3_600)
        assert not victim.closed
        held = victim.quic.unacknowledged(stream.stream_id) + len(stream.pending)
        assert held <= LIMITS.stream_buffer
        writing.cancel()

    against(loop, attack)


def test_made_up_datagrams_are_counted(loop: JumpingLoop) -> None:
    async def attack(attacker: Connection, victim: Connection, wire: Pipe) -> None:
        address = attacker.quic._network_paths[0].addr
        attacker._wire.send(b"\x40" + victim.quic.host_cid + bytes(40), address)
        await asyncio.sleep(1)
        assert wire.counters["datagram-without-packet"] == 1
        await attacker.ping()

    against(loop, attack)
