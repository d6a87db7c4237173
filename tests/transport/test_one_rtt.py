"""The short way against aioquic itself: it leaves nothing unsent, and takes and sends the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from tests.transport.virtual import JumpingLoop, Pipe, virtual_pair
from transport import Connection, Stream, StreamReset, TransportLimits
from transport.address import SockAddr
from transport.one_rtt import OneRttConnection

LIMITS = TransportLimits(
    stream_buffer=32_768, connection_buffer=131_072, max_streams=8, stream_deadline_s=1_000
)


@dataclass
class Seen:
    quiet: int = 0
    busy: int = 0
    received: int = 0
    left: int = 0


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """After all that goes the short way, aioquic is asked whether it would have sent more."""
    seen = Seen()
    sends, receives = OneRttConnection._send_one_rtt, OneRttConnection._receive_one_rtt

    def send(
        self: OneRttConnection,
        crypto: CryptoPair,
        space: QuicPacketSpace,
        streams: list[QuicStream],
        now: float,
    ) -> list[tuple[bytes, NetworkAddress]]:
        datagrams = sends(self, crypto, space, streams, now)
        if datagrams:
            seen.busy += 1
        else:
            seen.quiet += 1
        seen.left += len(QuicConnection.datagrams_to_send(self, now))
        return datagrams

    def receive(self: OneRttConnection, data: bytes, addr: NetworkAddress, now: float) -> bool:
        taken = receives(self, data, addr, now)
        seen.received += taken
        return taken

    monkeypatch.setattr(OneRttConnection, "_send_one_rtt", send)
    monkeypatch.setattr(OneRttConnection, "_receive_one_rtt", receive)
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_left_unsent(loop: JumpingLoop, seen: Seen, seed: int) -> None:
    dice = random.Random(seed)

    async def serve(stream: Stream) -> None:
        try:
            size = 0
            while data := await stream.read(dice.choice((100, 5_000, 65_536))):
                size += len(data)
            await stream.write(bytes(size))  # not before: two echoes could wait for each other
            await stream.finish()
        except StreamReset:
            stream.cancel()

    async def accept(connection: Connection, tasks: asyncio.TaskGroup) -> None:
        while True:
            tasks.create_task(serve(await connection.accept_stream()))

    async def read_slowly(stream: Stream) -> None:
        try:
            while await stream.read():
                await asyncio.sleep(dice.choice((0, 0, 0.05)))
        except StreamReset:
            stream.cancel()

    async def one(connection: Connection) -> None:
        stream = await connection.open_stream()
        fate = dice.random()
        if fate < 0.2:
            await stream.write(bytes(300))
            stream.reset(3)
            if fate < 0.1:
                stream.stop(4)
                return
        reading = asyncio.create_task(read_slowly(stream))
        if fate >= 0.2:
            await stream.write(bytes(dice.choice((1, 300, 20_000, 150_000))))
            await stream.finish()
        await reading

    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(LIMITS)
        to_server.loss = to_client.loss = dice.choice((0.0, 0.05, 0.2))
        await client.wait_established()
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(accept(each, tasks)) for each in (client, server)]
            await asyncio.gather(*(one(dice.choice((client, server))) for _ in range(30)))
            client.quic.change_connection_id()
            await client.ping(20)
            await server.ping(20)
            for task in serving:
                task.cancel()
        assert not client.closed
        assert not server.closed

    loop.run_until_complete(asyncio.wait_for(scenario(), 10_000))
    assert not seen.left, "aioquic had more to say"
    assert seen.quiet > 10
    assert seen.busy > 10
    assert seen.received > 100


def _receive_by_aioquic(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OneRttConnection, "_receive_one_rtt", lambda *_: False)


def _send_by_aioquic(patch: pytest.MonkeyPatch) -> None:
    def send(
        self: OneRttConnection,
        crypto: CryptoPair,
        space: QuicPacketSpace,
        streams: list[QuicStream],
        now: float,
    ) -> list[tuple[bytes, NetworkAddress]]:
        datagrams: list[tuple[bytes, NetworkAddress]] = QuicConnection.datagrams_to_send(self, now)
        if not self._everyday_streams():
            self._pacing_at = None  # aioquic paces the packet, too, that it has no use for
        return datagrams

    patch.setattr(OneRttConnection, "_send_one_rtt", send)


@pytest.mark.parametrize("by_aioquic", [_receive_by_aioquic, _send_by_aioquic])
@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("mtu_search_from", [0, TransportLimits().mtu_search_from])
def test_the_same_datagrams_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
    mtu_search_from: int,
    loss: float,
    by_aioquic: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Small datagrams fill the congestion window: then an ACK goes without its PING, unpaced."""
    limits = TransportLimits(max_streams=8, mtu_search_from=mtu_search_from)
    # What is drawn: the packet number that is skipped; a serial number, at times a byte shorter.
    monkeypatch.setattr("transport.peer_bounds.secrets.randbelow", lambda _: 100)
    monkeypatch.setattr("transport.certificate.x509.random_serial_number", lambda: 1 << 157)

    def run() -> list[list[tuple[float, int]]]:
        loop = JumpingLoop()
        try:
            return loop.run_until_complete(scenario(loop))
        finally:
            loop.close()

    def watch(pipe: Pipe) -> list[tuple[float, int]]:
        sent: list[tuple[float, int]] = []
        send = pipe.send

        def remember(data: bytes, to: SockAddr, *_: object) -> bool:
            sent.append((pipe.loop.time(), len(data)))
            return send(data, to)

        monkeypatch.setattr(pipe, "send", remember)
        return sent

    async def send(stream: Stream, size: int) -> None:
        await stream.write(bytes(size))
        await stream.finish()
        await stream.drain()

    async def read(stream: Stream) -> None:
        while await stream.read():
            pass

    async def scenario(loop: JumpingLoop) -> list[list[tuple[float, int]]]:
        client, server, *pipes = virtual_pair(limits)
        await client.wait_established()
        sent = [watch(pipe) for pipe in pipes]
        for pipe in pipes:
            pipe.loss = loss
        for size in (*[300] * 20, 1, 20_000, 400_000):
            asking = await client.open_stream()
            await asking.write(b"!")
            answering = await server.accept_stream()
            await asyncio.gather(
                send(asking, size), send(answering, size), *map(read, (asking, answering))
            )
        return sent

    ours = run()
    by_aioquic(monkeypatch)
    assert run() == ours


def test_an_exchange_is_two_datagrams_and_a_repeated_one_none(
    loop: JumpingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(TransportLimits())
        await client.wait_established()
        asking = await client.open_stream()
        await asking.write(b"?")
        answering = await server.accept_stream()
        await asyncio.sleep(5)  # the path MTU is known, and all acknowledged
        before = to_server.sizes.total(), to_client.sizes.total()
        datagrams: list[bytes] = []
        deliver = to_server.deliver

        def remember(data: bytes) -> None:
            datagrams.append(data)
            deliver(data)

        monkeypatch.setattr(to_server, "deliver", remember)
        for _ in range(10):
            await asking.write(bytes(300))
            assert await answering.read()
            await answering.write(bytes(300))
            assert await asking.read()
        assert (to_server.sizes.total(), to_client.sizes.total()) == (
            before[0] + 10,
            before[1] + 10,
        )

        taken = server.quic.packets_taken
        for datagram in datagrams:
            deliver(datagram)
        assert server.quic.packets_taken == taken
        assert to_client.counters.total() == len(datagrams)

    loop.run_until_complete(asyncio.wait_for(scenario(), 100))


def test_streams_take_turns(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, *_ = virtual_pair(TransportLimits(largest_datagram=1_200))
        await client.wait_established()
        read = [0, 0]

        async def send(stream: Stream) -> None:
            await stream.write(bytes(400_000))
            await stream.finish()

        async def receive(index: int, stream: Stream) -> None:
            while data := await stream.read():
                read[index] += len(data)

        async with asyncio.TaskGroup() as tasks:
            for _ in read:
                tasks.create_task(send(await client.open_stream()))
            receiving = [
                tasks.create_task(receive(index, await server.accept_stream())) for index in (0, 1)
            ]
            await asyncio.wait(receiving, return_when=asyncio.FIRST_COMPLETED)
            assert min(read) > 300_000, "one stream waits until the other is done"

    loop.run_until_complete(asyncio.wait_for(scenario(), 1_000))
