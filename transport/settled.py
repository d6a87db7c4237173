"""What a finished handshake leaves behind, let go: half of what an idle connection costs.

aioquic keeps for a connection's life what only its first second needs: three buffers of 16 KiB,
packet spaces and keys that are discarded already, certificates, the state of TLS; and a table of
handlers that is the same for every connection. What an idle connection does need is replaced by
what takes less (compact.py).
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from aioquic import tls
from aioquic._crypto import AEAD
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import MAX_LOCAL_CHALLENGES, QuicConnection
from aioquic.quic.crypto import CIPHER_SUITES, CryptoPair, NoCallback, derive_key_iv_hp
from aioquic.quic.recovery import QuicPacketNumberWindow, QuicPacketSpace

from .compact import PausingAead, Queue, ReceivedNumbers

_OUR_HANDSHAKE: Final = 4_096  # bytes in one epoch; half of it is a post-quantum share
_FINISHED: Final = (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE)
_WITHOUT_KEYS: Final = (*_FINISHED, tls.Epoch.ZERO_RTT)
# Nobody writes to these: a packet of an epoch without keys ends before its space is looked at.
_NO_SPACE: Final = QuicPacketSpace()
_NO_SPACE.discarded = True
_NO_KEYS: Final = CryptoPair()


def small_buffers() -> dict[tls.Epoch, Buffer]:
    """For what the handshake will send in each epoch, instead of aioquic's 16 KiB."""
    return {epoch: Buffer(capacity=_OUR_HANDSHAKE) for epoch in (*_FINISHED, tls.Epoch.ONE_RTT)}


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
    _shrink_space(quic._spaces[one_rtt])
    quic._cryptos[one_rtt].__class__ = _SmallKeys
    _shrink_keys(quic._cryptos[one_rtt])
    for path in quic._network_paths:
        _shrink_path(path)
    quic._loss._logger = quic._logger
    _forget_tls(quic.tls)
    _forget_usual(quic)


def _shrink_space(space: Any) -> None:
    if isinstance(space.received_packets, QuicPacketNumberWindow):
        space.received_packets = ReceivedNumbers(space.received_packets)


class _SmallKeys(CryptoPair):
    """Keys that stay small when either side updates them."""

    def _update_key(self, trigger: str) -> None:
        super()._update_key(trigger)
        _shrink_keys(self)


def _shrink_keys(pair: Any) -> None:
    for keys in (pair.recv, pair.send):
        keys._setup_cb = keys._teardown_cb = NoCallback  # they write aioquic's own log
        if isinstance(keys.aead, AEAD):
            _, cipher_name = CIPHER_SUITES[keys.cipher_suite]
            key, iv, _ = derive_key_iv_hp(
                cipher_suite=keys.cipher_suite, secret=keys.secret, version=keys.version
            )
            keys.aead = PausingAead(cipher_name, key, iv)


def _shrink_path(path: Any) -> None:
    if not path.remote_challenges:
        path.remote_challenges = Queue()
    if not path.local_challenges:
        path.local_challenges = Queue(MAX_LOCAL_CHALLENGES)


# What post-handshake messages, the exporter and aioquic's report of the handshake still need.
_OF_TLS: Final = (
    "_Context__logger",
    "_exporter_secret",
    "_is_client",
    "_receive_buffer",
    "_session_resumed",
    "alpn_negotiated",
    "early_data_accepted",
    "group",
    "key_schedule",
    "new_session_ticket_cb",
    "proven",
    "refusal",
    "state",
)


def _forget_tls(context: tls.Context) -> None:
    context.__dict__ = {
        name: context.__dict__[name] for name in _OF_TLS if name in context.__dict__
    }
    for name in ("hash", "secret"):  # the transcript's, and the one that all keys came from
        vars(context.key_schedule).pop(name, None)


# What aioquic's attributes nearly always are from then on, or are not asked for any more.
_USUAL: Final[dict[str, object]] = {
    "_close_event": None,
    "_close_pending": False,
    "_connect_called": False,
    "_crypto_retransmitted": False,
    "_handshake_done_pending": False,
    "_key_update_pending": False,
    "_local_ack_delay_exponent": 3,
    "_peer_retire_prior_to": 0,
    "_peer_token": b"",
    "_probe_pending": False,
    "_quic_logger": None,
    "_remote_ack_delay_exponent": 3,
    "_remote_max_datagram_frame_size": None,
    "_remote_max_streams_uni": 0,
    "_remote_preferred_address": None,
    "_retry_count": 0,
    "_retry_source_connection_id": None,
    "_search": None,
    "_search_path": None,
    "_session_ticket_fetcher": None,
    "_session_ticket_handler": None,
    "_streams_blocked_pending": False,
    "_token_handler": None,
    "_version_negotiated_compatible": False,
    "_version_negotiated_incompatible": False,
}
_OF_HANDSHAKE: Final = {
    "_crypto_frame_type",
    "_crypto_packet_version",
    "_local_initial_source_connection_id",
    "_policy",
    "_remote_version_information",
}
C = TypeVar("C", bound=type[QuicConnection])


def with_usual_values(connection: C) -> C:
    """A class whose connections need not have the usual values themselves."""
    for name, value in _USUAL.items():
        setattr(connection, name, value)
    return connection


def _forget_usual(quic: QuicConnection) -> None:
    """The others fit into a table of half the size (85 entries)."""
    quic.__dict__ = {
        name: value
        for name, value in quic.__dict__.items()
        if name not in _OF_HANDSHAKE and (name not in _USUAL or value != _USUAL[name])
    }


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
