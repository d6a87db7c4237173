"""One QUIC connection to a proven peer: the shell around the sans-I/O state machine.

Receive, drain events, transmit, re-arm one timer. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode

from schemas.addresses import Address
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey

from .address import SockAddr, address_of_socket
from .conditions import Conditions
from .connection_streams import ConnectionStreams
from .datagrams import ANY_SOURCE, Ancillary
from .errors import CloseCode, CloseReason, ConnectionLost, EndedBy, name_of_code
from .limits import TransportLimits
from .liveness import Liveness
from .quic import MutualQuicConnection
from .stream import Stream
from .timer import ConnectionTimer

log = logging.getLogger(__name__)

_NO_VIABLE_PATH = int(QuicErrorCode.NO_VIABLE_PATH)  # the peer moved and cannot be reached there
_MAX_REASON_BYTES = 200  # a close frame must fit one datagram


class Wire(Protocol):
    """What a connection needs of its endpoint. `send` is False: too large to send."""

    def send(self, data: bytes, to: SockAddr, source: Ancillary = ..., /) -> bool: ...
    def route(self, connection_id: bytes, connection: Connection) -> None: ...
    def unroute(self, connection_id: bytes) -> None: ...
    def handshake_completed(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def count(self, reason: str) -> None: ...


class Connection:
    """A live connection; `peer` is proven before anybody else sees the object."""

    def __init__(
        self,
        quic: MutualQuicConnection,
        wire: Wire,
        *,
        dialed: bool,
        remote: SockAddr,
        limits: TransportLimits,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = quic
        self._wire = wire
        self._limits = limits
        self.dialed = dialed
        self.opened_at = self._loop.time()
        self._first_remote = remote
        self.source = ANY_SOURCE  # of what it sends
        self._peer: DeviceKey | None = None
        self._alpn: str | None = None
        self._established: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[CloseReason] = self._loop.create_future()
        self._reason: CloseReason | None = None
        self._moved: list[Callable[[], None]] = []
        self._remote_told = self.remote
        self._conditions = Conditions()
        self._streams = ConnectionStreams(quic, limits, self, dialed=dialed)
        self._liveness = Liveness(quic, limits, transmit=self.transmit, mute=self._peer_is_mute)
        self._timer = ConnectionTimer(quic, self._on_timer)
        self._transmit_handle: asyncio.Handle | None = None
        self._handshake_timer = self._loop.call_later(
            limits.handshake_deadline_s, self._handshake_too_slow
        )

    # Who and where

    @property
    def peer(self) -> DeviceKey:
        """The device key that the peer has proven."""
        if self._peer is None:
            raise RuntimeError("the handshake is not complete")
        return self._peer

    @property
    def alpn(self) -> str:
        """The application protocol that was agreed on."""
        return self._alpn or ""

    @property
    def remote(self) -> Address:
        """Where the peer is now; it may move, and is believed once it answers from there."""
        return address_of_socket(self._quic.proven_address or self._first_remote)

    def on_moved(self, callback: Callable[[], None]) -> None:
        """Call it, for this connection's life, each time that `remote` has become another."""
        self._moved.append(callback)

    @property
    def key_exchange(self) -> str:
        """The negotiated group, for example `X25519`."""
        return self._quic.key_exchange

    @property
    def round_trip_s(self) -> float:
        """QUIC's own smoothed estimate of a round trip, in seconds (RFC 9002, 5.3)."""
        return self._quic.round_trip_s

    @property
    def last_heard_at(self) -> float:
        """Loop time of the last datagram from the peer."""
        return self._liveness.last_heard_at

    @property
    def closed(self) -> bool:
        return self._reason is not None

    @property
    def close_reason(self) -> CloseReason | None:
        return self._reason

    async def wait_closed(self) -> CloseReason:
        """Wait for the end, however long it takes; returns who ended it, with code and text."""
        return await asyncio.shield(self._over)

    def __repr__(self) -> str:
        way = "to" if self.dialed else "from"
        state = "closed" if self.closed else "open"
        return f"<Connection {way} {self._peer!r} at {self.remote}, {self.alpn}, {state}>"

    # Streams

    async def open_stream(self) -> Stream:
        """A new bidirectional stream; the peer learns of it with the first byte.

        Waits while the peer allows no more. Raises Refused `too-many-streams` when that takes
        longer than `stream_deadline_s`, ConnectionLost.
        """
        return await self._streams.open()

    async def accept_stream(self) -> Stream:
        """The next stream that the peer opened. Raises ConnectionLost when the connection is over.

        At most `accept_queue` wait here; more are refused to the peer and counted.
        """
        return await self._streams.accept()

    # Life

    async def ping(self, deadline_s: float | None = None) -> float:
        """Round-trip time in seconds. Raises Unreachable `ping-unanswered`, ConnectionLost."""
        self.check_alive()
        round_trip_s = await self._liveness.ping(deadline_s)
        self.check_alive()
        return round_trip_s

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Tell the peer and end at once; unacknowledged stream data is lost (see `Stream.drain`).

        `reason` is cut to 200 bytes of UTF-8. Idempotent.
        """
        self.close_now(code, reason)

    def close_now(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """`close` for callers that are not coroutines."""
        if self.closed:
            return
        text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        self._quic.close(error_code=code, reason_phrase=text)
        self._send_datagrams(self._loop.time())
        self._end(CloseReason(EndedBy.LOCAL, code, text, application=True))

    def abort(self) -> None:
        """End without a word, as a crash would: the peer notices by silence."""
        self._end(CloseReason(EndedBy.LOCAL, CloseCode.NORMAL, "aborted", application=True))

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """A secret of `length` bytes that this connection's two ends share (RFC 8446, 7.5).

        `label` says what it is for, 1 to 243 bytes; `length` 1 to 8,160. Raises ValueError.
        """
        return self._quic.export_keying_material(label, context, length)

    # Called by the endpoint

    def reset_by_peer(self) -> None:
        """The peer has no memory of this connection; nothing more is sent (RFC 9000, 10.3.1)."""
        self._end(CloseReason(EndedBy.RESET, 0, "the peer has restarted"))

    def on_closed(self, callback: Callable[[object], None]) -> None:
        self._over.add_done_callback(callback)

    def off_closed(self, callback: Callable[[object], None]) -> None:
        self._over.remove_done_callback(callback)

    @property
    def quic(self) -> MutualQuicConnection:
        return self._quic

    @property
    def established(self) -> bool:
        return self._peer is not None

    async def wait_established(self) -> None:
        """Raises the Fault that says why the handshake failed."""
        await asyncio.shield(self._established)

    def start(self) -> None:
        """Dial: send the first flight."""
        self._quic.connect(self._first_remote, now=self._loop.time())
        self.transmit()

    def receive(self, data: bytes, remote: SockAddr, now: float) -> None:
        """Take one datagram; `after_receiving` follows once per batch."""
        self._liveness.last_heard_at = now
        before = self._quic.packets_taken
        self._quic.receive_datagram(data, remote, now=now)
        if self._quic.packets_taken == before and self.established:
            self._wire.count("datagram-without-packet")  # made up, broken or repeated on the way

    def after_receiving(self) -> None:
        readable = self._drain_events()
        if self._moved and self.remote != self._remote_told:
            self._remote_told = self.remote
            for callback in self._moved:
                callback()
        if readable:
            self.transmit_soon()  # who was woken may have an answer, which goes along
        else:
            self.transmit()

    def transmit(self) -> None:
        """Hand streams' bytes to QUIC, send what may go, re-arm the timer."""
        self._transmit(self._loop.time())

    def fail_dial(self, fault: Fault) -> None:
        """The network refused to carry our first flight."""
        if not self._established.done():
            self._established.set_exception(fault)
            self.abort()

    # Called by the streams

    def lost(self) -> ConnectionLost | None:
        return None if self._reason is None else ConnectionLost.because(self._reason)

    def check_alive(self) -> None:
        if self._reason is not None:
            raise ConnectionLost.because(self._reason)

    def count(self, reason: str) -> None:
        self._wire.count(reason)

    async def wait_until(
        self, condition: Callable[[], bool], deadline_s: float | None = None
    ) -> None:
        """Wait until `condition` holds after a transmit, or the connection is over.

        Raises Unreachable `deadline`.
        """
        if not self.closed:
            await self._conditions.wait(condition, deadline_s)

    # Events

    def _drain_events(self) -> bool:
        """Whether there was anything for the application to read."""
        readable = False
        while (event := self._quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived():
                    readable = True
                    self._streams.on_data(event)
                case events.StreamReset():
                    self._streams.on_reset(event)
                case events.StopSendingReceived():
                    self._streams.on_stop(event)
                case events.PingAcknowledged():
                    self._liveness.answered(event.uid)
                case events.ConnectionIdIssued():
                    self._wire.route(event.connection_id, self)
                case events.ConnectionIdRetired():
                    self._wire.unroute(event.connection_id)
                case events.HandshakeCompleted():
                    self._on_handshake_completed(event)
        return readable

    def _on_handshake_completed(self, event: events.HandshakeCompleted) -> None:
        peer = self._quic.peer
        if peer is None or event.session_resumed or event.alpn_protocol is None:
            # Cannot happen while the hook works; if a library update breaks it, fail closed.
            self._wire.count("handshake-without-proof")
            log.error("a handshake completed without a proven peer; closing")
            self.close_now(CloseCode.INTERNAL)
            return
        self._peer = peer
        self._alpn = event.alpn_protocol
        self._handshake_timer.cancel()
        self._liveness.start()
        if not self._established.done():
            self._established.set_result(None)
        self._wire.handshake_completed(self)

    # Sending

    def transmit_soon(self) -> None:
        if self._transmit_handle is None and not self.closed:
            self._transmit_handle = self._loop.call_soon(self._transmit_now)

    def _transmit_now(self) -> None:
        self._transmit_handle = None
        self.transmit()

    def _transmit(self, now: float) -> None:
        if self.closed:
            return
        self._streams.hand_over()
        self._send_datagrams(now)
        self._streams.recount()
        closing = self._quic.closing
        if closing is not None:
            self._on_quic_over(*closing)
            return
        self._conditions.look()
        self._timer.arm(now)

    def _send_datagrams(self, now: float) -> None:
        if not self._quic.started:
            return
        for data, to in self._quic.datagrams_to_send(now=now):
            if not self._wire.send(data, to, self.source):
                self._quic.datagram_refused(len(data), now)

    # Timers

    def _on_timer(self, now: float) -> None:
        self._quic.handle_timer(now)
        self._drain_events()
        self._transmit(now)

    def _peer_is_mute(self) -> None:
        self._wire.count("peer-acknowledges-nothing")
        self._quic.close(
            int(QuicErrorCode.PROTOCOL_VIOLATION), frame_type=0, reason_phrase="no acknowledgements"
        )
        self.transmit()

    def _handshake_too_slow(self) -> None:
        self._wire.count("handshake-timeout")
        if not self._established.done():
            self._established.set_exception(
                Unreachable("no-answer", f"No answer from {self.remote} in time")
            )
        self.abort()

    # The end

    def _on_quic_over(self, event: events.ConnectionTerminated, by_peer: bool) -> None:
        application = event.frame_type is None
        if by_peer:
            by = EndedBy.PEER
        elif event.reason_phrase == "Idle timeout" or event.error_code == _NO_VIABLE_PATH:
            by = EndedBy.SILENCE
        else:
            by = EndedBy.PROTOCOL
            if self.established:
                self._wire.count(f"protocol-{name_of_code(int(event.error_code))}")
        self._end(CloseReason(by, int(event.error_code), event.reason_phrase, application))

    def _end(self, reason: CloseReason) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self._timer.cancel()
        self._liveness.stop()
        self._handshake_timer.cancel()
        if self._transmit_handle is not None:
            self._transmit_handle.cancel()
        self._over.set_result(reason)
        lost = ConnectionLost.because(reason)
        if not self._established.done():
            self._established.set_exception(self._quic.refusal or lost)
        self._established.exception()  # retrieved: nobody may be waiting for it
        self._conditions.release()
        self._streams.connection_over()
        self._wire.ended(self)
