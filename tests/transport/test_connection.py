"""Connections and streams: ends that are seen, bounds that hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var

from schemas.errors import Blame, Refused, Unreachable
from tests.transport.support import ALPN, QUICK, Inbox, Open, eventually, pair, within
from transport import Connection, ConnectionLost, EndedBy, Stream, StreamCode, StreamReset
from transport.conditions import Conditions

_STOP_SENDING = 0x05  # RFC 9000, section 19.5


async def streams(dialed: Connection, accepted: Connection) -> tuple[Stream, Stream]:
    ours = await dialed.open_stream()
    await ours.write(b"!")
    theirs = await within(accepted.accept_stream())
    assert await within(theirs.read()) == b"!"
    return ours, theirs


async def read_all(stream: Stream) -> bytes:
    parts = []
    while data := await within(stream.read()):
        parts.append(data)
    return b"".join(parts)


# Ends


async def test_clean_close_is_seen_with_code_and_reason(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    ours, theirs = await streams(dialed, accepted)
    await dialed.close(42, "so long, " + "é" * 300)
    seen = await within(accepted.wait_closed())
    assert (seen.by, seen.code, seen.application) == (EndedBy.PEER, 42, True)
    assert seen.text.startswith("so long, é")
    assert len(seen.text.encode()) <= 200
    own = await within(dialed.wait_closed())
    assert (own.by, own.code) == (EndedBy.LOCAL, 42)
    for connection, stream in ((dialed, ours), (accepted, theirs)):
        assert connection.closed
        for doing in (
            connection.open_stream(),
            connection.accept_stream(),
            connection.ping(),
            stream.read(),
            stream.write(b"x"),
            stream.finish(),
        ):
            with pytest.raises(ConnectionLost) as caught:
                await within(doing)
            assert caught.value.code == "connection-lost"
            assert caught.value.blame is Blame.ENVIRONMENT
    await dialed.close()  # idempotent
    dialed.abort()


async def test_waiters_wake_at_the_end(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint, replace(QUICK, stream_buffer=8192))
    ours, theirs = await streams(dialed, accepted)
    waiting = [
        asyncio.create_task(work)
        for work in (
            theirs.read(),
            accepted.accept_stream(),
            dialed.accept_stream(),
            ours.write(bytes(100_000)),
        )
    ]
    await within(dialed.ping())
    await dialed.close()
    done = await within(asyncio.gather(*waiting, return_exceptions=True))
    # The reader gets what had arrived; all others learn that it is over.
    assert all(isinstance(each, ConnectionLost) for each in done[1:])


async def test_data_that_arrived_is_read_before_the_end(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    ours, theirs = await streams(dialed, accepted)
    await ours.write(b"last words")
    await within(ours.drain(1.0))
    await dialed.close()
    await within(accepted.wait_closed())
    assert await within(theirs.read()) == b"last words"
    with pytest.raises(ConnectionLost):
        await within(theirs.read())


async def test_abrupt_end_is_noticed_by_silence(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    dialed.abort()
    reason = await within(accepted.wait_closed(), QUICK.idle_timeout_s + 1.5)
    assert reason.by is EndedBy.SILENCE


async def test_abrupt_end_is_noticed_by_a_ping(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    dialed.abort()
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable) as caught:
        await accepted.ping(0.2)
    assert caught.value.code == "ping-unanswered"
    assert asyncio.get_running_loop().time() - started < QUICK.idle_timeout_s


async def test_keep_alive_holds_an_idle_connection(open_endpoint: Open) -> None:
    limits = replace(QUICK, idle_timeout_s=0.4, keep_alive_s=0.1)
    dialed, accepted = await pair(open_endpoint, limits)
    with pytest.raises(TimeoutError):
        await within(dialed.wait_closed(), 1.2)
    assert not accepted.closed
    assert await within(dialed.ping()) < 0.2


# Streams


async def test_both_directions_and_ends(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    ours, theirs = await streams(dialed, accepted)
    data = bytes(range(256)) * 12_000  # three times the stream's window

    async def send(stream: Stream) -> None:
        await stream.write(data)
        await stream.finish()

    _, _, there, back = await within(
        asyncio.gather(send(ours), send(theirs), read_all(theirs), read_all(ours))
    )
    assert there == back == data
    assert not dialed._streams
    assert not accepted._streams
    assert await within(ours.read()) == b"", "the end stays the end"
    with pytest.raises(StreamReset) as caught:
        await ours.write(b"more")
    assert caught.value.code == "stream-closed"


async def test_read_gives_at_most_what_was_asked(open_endpoint: Open) -> None:
    ours, theirs = await streams(*await pair(open_endpoint))
    await ours.write(b"abcdef")
    assert await within(theirs.read(4)) == b"abcd"
    assert await within(theirs.read(4)) == b"ef"
    with pytest.raises(ValueError):
        await theirs.read(0)


async def test_streams_of_both_sides(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    one, _ = await streams(dialed, accepted)
    two, _ = await streams(accepted, dialed)
    assert {one.stream_id % 4, two.stream_id % 4} == {0, 1}


async def test_reset_is_seen_with_its_code(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    ours, theirs = await streams(dialed, accepted)
    ours.reset(7)
    with pytest.raises(StreamReset) as caught:
        await within(theirs.read())
    assert (caught.value.code, caught.value.error_code) == ("stream-reset", 7)
    with pytest.raises(StreamReset):
        await ours.write(b"x")
    await theirs.write(b"the other direction goes on")
    assert await within(ours.read()) == b"the other direction goes on"


async def test_stop_ends_the_writer(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint, replace(QUICK, stream_buffer=8192))
    ours, theirs = await streams(dialed, accepted)
    writing = asyncio.create_task(ours.write(bytes(1_000_000)))
    await within(dialed.ping())
    theirs.stop(9)
    with pytest.raises(StreamReset) as caught:
        await within(writing)
    assert caught.value.error_code == 9
    with pytest.raises(StreamReset):
        await theirs.read()


async def test_a_stop_while_the_last_bytes_wait_harms_no_other_stream(open_endpoint: Open) -> None:
    """Whoever asks and gives up at once may be just in time for the answer that is about to go."""
    dialed, accepted = await pair(open_endpoint)
    ours, theirs = await streams(dialed, accepted)
    await ours.finish()
    assert await within(theirs.read()) == b""
    await theirs.write(b"an answer")
    await theirs.finish()
    stop = encode_uint_var(theirs.stream_id) + encode_uint_var(StreamCode.CANCELLED)
    accepted._quic._handle_stop_sending_frame(cast(Any, None), _STOP_SENDING, Buffer(data=stop))
    accepted.after_receiving()
    with pytest.raises(StreamReset):
        await within(ours.read())
    one, other = await streams(dialed, accepted)
    await other.write(b"still here")
    assert await within(one.read()) == b"still here"


async def test_late_data_does_not_reopen_a_stream(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    for _ in range(20):
        ours, theirs = await streams(dialed, accepted)
        theirs.cancel()
        await ours.write(b"late")  # on its way before the stop arrives
    await within(dialed.ping())
    await within(dialed.ping())
    assert not accepted._streams._table._waiting
    assert not accepted._streams


async def test_a_finished_stream_makes_room_for_another(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint, replace(QUICK, max_streams=4))
    for index in range(50):
        stream = await within(dialed.open_stream())
        await stream.write(b"%d" % index)
        await stream.finish()
        other = await within(accepted.accept_stream())
        assert await read_all(other) == b"%d" % index
        await other.finish()
        assert await read_all(stream) == b""
    await eventually(lambda: not dialed._streams and not accepted._streams)


async def test_the_number_of_streams_is_bounded(open_endpoint: Open) -> None:
    limits = replace(QUICK, max_streams=3, stream_deadline_s=0.1)
    dialed, _ = await pair(open_endpoint, limits)
    for _ in range(3):
        await (await dialed.open_stream()).write(b"x")
    with pytest.raises(Refused) as caught:
        await within(dialed.open_stream())
    assert caught.value.code == "too-many-streams"


async def test_many_that_wait_for_one_stream_get_one_each(open_endpoint: Open) -> None:
    """One more allowed wakes all that wait; a stream too many would end the connection."""
    dialed, accepted = await pair(open_endpoint, replace(QUICK, max_streams=2))

    async def one() -> None:
        stream = await dialed.open_stream()
        await stream.write(b"x")
        stream.cancel()  # sent for a stream that is blocked, too

    async def serve() -> None:
        while True:
            (await accepted.accept_stream()).cancel()

    serving = asyncio.create_task(serve())
    await within(asyncio.gather(*(one() for _ in range(40))))
    await within(dialed.ping())
    assert not dialed.closed
    serving.cancel()


async def test_the_accept_queue_is_bounded(open_endpoint: Open) -> None:
    """A peer opens streams and nobody accepts: the surplus is refused and counted."""
    limits = replace(QUICK, accept_queue=2)
    inbox = Inbox()
    server = await open_endpoint(inbox, limits=limits)
    client = await open_endpoint(limits=limits)
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    accepted = await inbox.next()
    opened = [await dialed.open_stream() for _ in range(5)]
    for stream in opened:
        await stream.write(b"x")
    for stream in opened[2:]:
        with pytest.raises(StreamReset) as caught:
            await within(stream.read())
        assert caught.value.error_code == StreamCode.REFUSED
    assert server.counters["stream-refused"] == 3
    for _ in opened[:2]:
        await within(accepted.accept_stream())
    await streams(dialed, accepted)


# Bounds in memory


async def test_a_writer_that_outruns_its_reader_stops(open_endpoint: Open) -> None:
    """A peer that does not read must not fill our memory, nor we its: both ends stay bounded."""
    window = 64 * 1024
    limits = replace(QUICK, stream_buffer=window, connection_buffer=4 * window)
    dialed, accepted = await pair(open_endpoint, limits)
    ours, theirs = await streams(dialed, accepted)
    total = 3_000_000
    written = 0

    async def write() -> None:
        nonlocal written
        while written < total:
            await ours.write(bytes(10_000))
            written += 10_000
        await ours.finish()

    writing = asyncio.create_task(write())
    before = -1
    while before != written:  # until nothing moves any more
        before = written
        for _ in range(5):
            await within(dialed.ping())
    assert written < 3 * window
    assert dialed.quic.unacknowledged(ours.stream_id) + len(ours.pending) <= window
    assert sum(map(len, theirs._chunks)) <= window
    # Once it reads, everything arrives.
    got = 0
    while data := await within(theirs.read()):
        got += len(data)
    await within(writing)
    assert got == total


async def test_a_connection_is_bounded_over_all_streams(open_endpoint: Open) -> None:
    window = 32 * 1024
    limits = replace(QUICK, stream_buffer=window, connection_buffer=2 * window)
    dialed, accepted = await pair(open_endpoint, limits)
    pairs = [await streams(dialed, accepted) for _ in range(6)]
    writing = [asyncio.create_task(ours.write(bytes(window * 2))) for ours, _ in pairs]
    for _ in range(20):
        await within(dialed.ping())
    held = sum(len(chunk) for _, theirs in pairs for chunk in theirs._chunks)
    assert held <= 2 * window
    assert dialed.quic.unacknowledged_total() <= 2 * window + window

    async def drain(stream: Stream) -> None:
        got = 0
        while got < window * 2:
            got += len(await stream.read())

    await within(asyncio.gather(*writing, *(drain(theirs) for _, theirs in pairs)))


async def test_a_stream_is_not_drained_while_a_writer_waits() -> None:
    """One receipt for all that was sent wakes both who drains and who has more to write."""
    conditions = Conditions()

    class Host:
        held = 0

        def lost(self) -> None:
            return None

        def room(self, stream: Stream) -> int:
            return 10 - self.held - len(stream.pending)

        def write_soon(self, stream: Stream, size: int) -> None:
            pass

        def acknowledged(self, stream: Stream) -> bool:
            return not self.held and not stream.pending

        async def wait_until(
            self, condition: Callable[[], bool], deadline_s: float | None = None
        ) -> None:
            await conditions.wait(condition, deadline_s)

    stream = Stream(cast(Any, Host()), 0, wake_room=1)
    writing = asyncio.create_task(stream.write(bytes(15)))
    await asyncio.sleep(0)
    draining = asyncio.create_task(stream.drain())
    await asyncio.sleep(0)
    assert len(stream.pending) == 10
    for rest in (5, 0):
        assert not draining.done()
        stream.pending.clear()  # sent, and acknowledged
        conditions.look()
        await asyncio.sleep(0.01)
        assert len(stream.pending) == rest
    await within(asyncio.gather(writing, draining))


async def test_credit_of_streams_that_were_dropped_comes_back(open_endpoint: Open) -> None:
    """Resets and stops with unread data must not use up the connection's window for ever."""
    window = 32 * 1024
    limits = replace(QUICK, stream_buffer=window, connection_buffer=2 * window)
    dialed, accepted = await pair(open_endpoint, limits)
    for turn in range(12):
        ours, theirs = await streams(dialed, accepted)
        await within(ours.write(bytes(window // 2)))
        await within(dialed.ping())
        if turn % 2:
            ours.reset()
            with pytest.raises(StreamReset):
                await read_all(theirs)
        theirs.cancel()
        ours.cancel()
    ours, theirs = await streams(dialed, accepted)
    await within(asyncio.gather(ours.write(bytes(window)), theirs.read()))


async def test_writes_of_two_tasks_do_not_mix(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint, replace(QUICK, stream_buffer=8192))
    ours, theirs = await streams(dialed, accepted)
    size = 50_000
    writing = asyncio.gather(*(ours.write(bytes([letter]) * size) for letter in b"abc"))
    got = bytearray()
    while len(got) < 3 * size:
        got += await within(theirs.read())
    await within(writing)
    runs = [got[i * size : (i + 1) * size] for i in range(3)]
    assert sorted(runs) == [bytes([letter]) * size for letter in b"abc"]


async def test_the_reassembly_gap_is_bounded(open_endpoint: Open) -> None:
    """Data far ahead of a gap (the 512 MiB attack) is a protocol error, not memory."""
    window = 64 * 1024
    limits = replace(QUICK, stream_buffer=window, connection_buffer=2 * window)
    dialed, accepted = await pair(open_endpoint, limits)
    ours, _ = await streams(dialed, accepted)
    stream = dialed.quic._streams[ours.stream_id]
    stream.max_stream_data_remote = dialed.quic._remote_max_data = 1 << 40
    sender = stream.sender
    for step in range(1, 20):  # a hostile peer: skips ahead, and ignores the credit it has
        sender._buffer_start = sender._buffer_stop = 2 ** (10 + step)
        await ours.write(b"x")
        with contextlib.suppress(ConnectionLost, Unreachable):
            # One packet after the other: aioquic grants by what it has seen, when it has more to
            # say than an acknowledgement.
            await dialed.ping()
            await accepted.ping()
        if dialed.closed:
            break
    reason = await within(accepted.wait_closed())
    assert reason.by is EndedBy.PROTOCOL
    assert reason.code == 3  # FLOW_CONTROL_ERROR
