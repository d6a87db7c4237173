"""aioquic's congestion controller, watched: what arrives, what vanishes, since when nothing."""

from __future__ import annotations

from collections.abc import Iterable

from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket

# A large packet that only a probe timeout gave up weighs like three that later ones overtook:
# of those, a full queue on the way loses many in a row.
_TIMEOUT_WEIGHT = 3
_BLACK_HOLE = 9


class WatchedCongestionControl(RenoCongestionControl):
    """New Reno that also answers two questions about the path.

    `black_hole`: do packets larger than `base` bytes vanish? `waiting_since`: the time since which
    something is in flight and nothing has been acknowledged, or None.
    """

    def __init__(self, *, base: int) -> None:
        super().__init__(max_datagram_size=base)
        self._base = base
        self._large_lost = 0
        self.waiting_since: float | None = None

    @property
    def black_hole(self) -> bool:
        return self._large_lost >= _BLACK_HOLE

    def set_datagram_size(self, size: int) -> None:
        """The path carries `size` bytes now (RFC 9002, 7.2: the initial window follows it)."""
        self._large_lost = 0
        self._max_datagram_size = size
        self.congestion_window = max(self.congestion_window, min(10 * size, max(14_720, 2 * size)))

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        super().on_packet_sent(packet=packet)
        if self.waiting_since is None:
            self.waiting_since = packet.sent_time

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        super().on_packet_acked(now=now, packet=packet)
        self.waiting_since = now if self.bytes_in_flight else None
        if packet.sent_bytes > self._base:
            self._large_lost = 0

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        packets = list(packets)
        super().on_packets_expired(packets=packets)
        self._count_large(packets, _TIMEOUT_WEIGHT)

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        packets = list(packets)
        super().on_packets_lost(now=now, packets=packets)
        self._count_large(packets, 1)

    def _count_large(self, packets: list[QuicSentPacket], weight: int) -> None:
        self._large_lost += weight * sum(packet.sent_bytes > self._base for packet in packets)
