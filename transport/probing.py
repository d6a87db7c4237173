"""Path MTU discovery on a QUIC connection (RFC 9000, 14.3; the search itself is in path_mtu.py).

A probe is a PING padded to the size in question. It is neither in flight nor ack-eliciting for
aioquic's books, so that its loss is no sign of congestion (RFC 9000, 14.4) and arms no timer.
"""

from __future__ import annotations

from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import NetworkAddress, QuicConnectionState, QuicNetworkPath
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder

from .limits import TransportLimits
from .path_mtu import PathMtuSearch
from .peer_bounds import BoundedConnection


class ProbingConnection(BoundedConnection):
    """A connection whose datagrams are as large as the path carries."""

    def __init__(self, limits: TransportLimits, **aioquic: Any) -> None:
        super().__init__(limits, **aioquic)
        self._limits = limits
        self._search: PathMtuSearch | None = None  # from the confirmed handshake on
        self._search_path: NetworkAddress | None = None
        self._peer_takes = limits.largest_datagram

    @property
    def proven_address(self) -> NetworkAddress | None:
        """Where the peer is for sure: of several paths, the one in use once it is validated.

        Anybody on the way can make a packet come from elsewhere (RFC 9000, 9.3.2).
        """
        for path in self._network_paths:
            if path.is_validated:
                return path.addr
        return self._network_paths[0].addr if self._network_paths else None

    @property
    def round_trip_s(self) -> float:
        return float(self._loss._rtt_smoothed)

    @property
    def datagram_size(self) -> int:
        """Bytes of UDP payload that this path is known to carry."""
        return int(self._max_datagram_size)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        search = self._follow_path(now)
        datagrams = super().datagrams_to_send(now)
        connected = self._state is QuicConnectionState.CONNECTED
        if search is not None and connected and search.probe_due(now):
            timeout = max(self._limits.mtu_probe_s, 3 * self._loss.get_probe_timeout())
            size = search.next_probe(now, timeout)
            if size is not None:
                datagrams += self._build_probe(size, now)
        return datagrams

    def datagram_refused(self, size: int, now: float) -> None:
        """This machine would not send a datagram of `size` bytes (EMSGSIZE)."""
        if self._search is not None:
            self._search.refused(size, now)
            self._use(self._search.current)

    def get_timer(self) -> float | None:
        timer = super().get_timer()
        search = self._search
        # No probe goes to an address in doubt: a timer for it would fire for nothing, for ever.
        if timer is None or search is None or not self._network_paths[0].is_validated:
            return timer
        at = search.timer()
        return timer if at is None else min(timer, at)

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now)
        if self._search is not None:
            self._search.expire(now)

    # Inside

    def _follow_path(self, now: float) -> PathMtuSearch | None:
        """The search on the path in use; None while it may not carry probes, or little was sent."""
        if not self._handshake_confirmed:
            return None
        path = self._network_paths[0]
        if self._search is None:
            if path.bytes_sent < self._limits.mtu_search_from:
                return None
            self._search_path = path.addr
            self._search = PathMtuSearch(
                base=self._limits.datagram,
                ceiling=min(self._peer_takes, self._limits.largest_datagram),
                tries=self._limits.mtu_probe_tries,
                again_after_s=self._limits.mtu_again_s,
                now=now,
            )
        elif path.addr != self._search_path or self._congestion.black_hole:
            self._search_path = path.addr
            self._search.restart(now)
            self._use(self._search.current)
        return self._search if path.is_validated else None

    def _use(self, size: int) -> None:
        if size != self._max_datagram_size:
            self._max_datagram_size = size
            self._congestion.set_datagram_size(size)
            self._loss._pacer._max_datagram_size = size
        elif self._congestion.black_hole:
            self._congestion.set_datagram_size(size)

    def _build_probe(self, size: int, now: float) -> list[tuple[bytes, NetworkAddress]]:
        path = self._network_paths[0]
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        frames = builder.start_frame(
            QuicFrameType.PING, handler=self._on_probe_delivery, handler_args=(size,)
        )
        frames.push_bytes(bytes(builder.remaining_buffer_space))  # PADDING frames
        datagrams, packets = builder.flush()
        self._packet_number = builder.packet_number
        for packet in packets:
            packet.sent_time = now
            packet.in_flight = False
            packet.is_ack_eliciting = False
            self._loss.on_packet_sent(packet=packet, space=self._spaces[packet.epoch])
        path.bytes_sent += sum(map(len, datagrams))
        return [(datagram, path.addr) for datagram in datagrams]

    def _on_probe_delivery(self, delivery: QuicDeliveryState, size: int) -> None:
        search = self._search
        if search is None:
            return
        if delivery is QuicDeliveryState.ACKED:
            search.acknowledged(size)
            self._use(search.current)
        else:
            search.lost(size, self._loss_noticed_at)

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        self._loss_noticed_at = now  # delivery handlers are not told the time
        super().receive_datagram(data, addr, now)

    def _send_probing_frames(
        self, network_path: QuicNetworkPath, now: float
    ) -> list[tuple[bytes, NetworkAddress]]:
        # On another path nothing is known of what it carries.
        size, self._max_datagram_size = self._max_datagram_size, self._limits.datagram
        try:
            sent: list[tuple[bytes, NetworkAddress]] = super()._send_probing_frames(
                network_path, now
            )
        finally:
            self._max_datagram_size = size
        return sent

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        # RFC 9000, 18.2: the peer says what it is willing to take; aioquic only checks it.
        said = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if said is not None:
            self._peer_takes = said
