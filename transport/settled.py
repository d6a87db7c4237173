"""What a finished handshake leaves behind, let go: half of what an idle connection costs.

aioquic keeps for a connection's life what only its first second needs: three buffers of 16 KiB,
packet spaces and keys that are discarded already, certificates; and a table of handlers that is the
same for every connection.
"""

from __future__ import annotations

from typing import Any, Final

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.recovery import QuicPacketSpace

_FINISHED: Final = (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE)
_WITHOUT_KEYS: Final = (*_FINISHED, tls.Epoch.ZERO_RTT)
# Nobody writes to these: a packet of an epoch without keys ends before its space is looked at.
_NO_SPACE: Final = QuicPacketSpace()
_NO_SPACE.discarded = True
_NO_KEYS: Final = CryptoPair()


def forget_handshake(quic: QuicConnection) -> None:
    """Once the handshake is confirmed (RFC 9001, 4.1.2). Idempotent."""
    one_rtt = tls.Epoch.ONE_RTT
    # Post-handshake messages (tickets of a foreign server) are read, and answered with nothing.
    quic._crypto_buffers = {one_rtt: Buffer(capacity=16)}
    quic._crypto_streams = {one_rtt: quic._crypto_streams[one_rtt]}
    if all(quic._spaces[epoch].discarded for epoch in _FINISHED):
        quic._spaces |= dict.fromkeys(_FINISHED, _NO_SPACE)
        quic._loss.spaces = [quic._spaces[one_rtt]]
        quic._cryptos |= dict.fromkeys(_WITHOUT_KEYS, _NO_KEYS)
        quic._cryptos_initial = dict.fromkeys(quic._cryptos_initial, _NO_KEYS)
    context = quic.tls
    context._peer_certificate = None
    context._peer_certificate_chain = []
    context._certificate_request = None
    context.received_extensions = None
    context.handshake_extensions = []


_TABLE: Final = "_QuicConnection__frame_handlers"
_handlers: dict[int, tuple[str, frozenset[tls.Epoch]]] = {}  # aioquic's table, by methods' names


class _FrameHandlers:
    """Which method of a connection handles a frame, and in which epochs."""

    __slots__ = ("_quic",)

    def __init__(self, quic: QuicConnection) -> None:
        self._quic = quic

    def __getitem__(self, frame_type: int) -> tuple[Any, frozenset[tls.Epoch]]:
        name, epochs = _handlers[frame_type]
        return getattr(self._quic, name), epochs


def share_frame_handlers(quic: QuicConnection) -> None:
    """Of a new connection: its table of bound methods, 13 KiB with its sets, becomes a look-up."""
    if not _handlers:
        for frame_type, (method, epochs) in getattr(quic, _TABLE).items():
            _handlers[frame_type] = method.__name__, epochs
    setattr(quic, _TABLE, _FrameHandlers(quic))
