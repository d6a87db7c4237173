"""Mutual TLS by device key, and flow control by consumption: all that needs aioquic's inside.

This is the only module that touches aioquic's private names. Nothing global is patched: two
subclasses override methods, and `require_supported_aioquic` refuses a version whose inside was not
read. Names relied on, all as of 1.7:

- `tls.Context`: `_set_peer_certificate`, `_check_certificate_verify_signature`,
  `_server_handle_certificate`, `_client_handle_certificate` (overridden);
  `_request_client_certificate`, `_certificate_request`, `_peer_certificate`,
  `_signature_algorithms`, `_supported_groups`, `_x25519_private_key` (used).
- `QuicConnection`: `_initialize`, `_write_stream_limits` (overridden); `_local_max_data`,
  `_local_max_streams_bidi`, `_local_max_streams_uni`, `_streams`, `_state`, `_close_event`,
  `_on_max_stream_data_delivery`, `_alpn_handler`, `_update_traffic_key`, `_logger` (used);
  `QuicStreamSender._buffer`.

Seams for what comes next: X25519MLKEM768 replaces `_supported_groups` and the three hello methods
of `_MutualContext`; the cap on reassembly ranges goes beside `_write_stream_limits`.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionAdapter,
    QuicConnectionState,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicFrameType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.ids import DeviceKey

from .certificate import MAX_CERTIFICATE_BYTES, check_certificate_untrusted
from .limits import TransportLimits

# aioquic warns of each broken handshake, so strangers could fill our log; we count them instead.
_quic_log = logging.getLogger("transport.quic")
_quic_log.addHandler(logging.NullHandler())
_quic_log.propagate = False

SUPPORTED_AIOQUIC = "1.7."
CONNECTION_ID_BYTES = 8
QUIC_VERSIONS = (int(QuicProtocolVersion.VERSION_1),)


def require_supported_aioquic() -> None:
    """Raises Fault `aioquic-version` when the library's minor version was not read for this."""
    installed = importlib.metadata.version("aioquic")
    if not installed.startswith(SUPPORTED_AIOQUIC):
        raise Fault(
            "aioquic-version",
            f"aioquic {installed} is installed, and {SUPPORTED_AIOQUIC}x is needed",
            blame=Blame.INCOMPATIBLE,
            hint="Install the versions of requirements.lock.",
        )


class _CertificateRequired(tls.Alert):
    description = tls.AlertDescription.certificate_required


_ALERTS: dict[str, type[tls.Alert]] = {
    "certificate-not-ed25519": tls.AlertUnsupportedCertificate,
    "certificate-signature": tls.AlertBadCertificate,
    "certificate-expired": tls.AlertCertificateExpired,
    "certificate-not-yet-valid": tls.AlertCertificateExpired,
    "certificate-malformed": tls.AlertBadCertificate,
    "no-client-certificate": _CertificateRequired,
    "no-certificate-request": tls.AlertHandshakeFailure,
    "wrong-peer": tls.AlertBadCertificate,
}


@dataclass(frozen=True)
class PeerPolicy:
    """Whom a handshake lets through.

    `expected` is the pinned device key of a dialled peer; None accepts any proven key, which only
    an accepting side may do. `utc_now` is compared with certificates' validity.
    """

    expected: DeviceKey | None
    utc_now: Callable[[], datetime.datetime]


class _MutualContext(tls.Context):
    """TLS 1.3 in which both sides present an Ed25519 certificate and prove its key."""

    def __init__(self, base: tls.Context, policy: PeerPolicy, configuration: QuicConfiguration):
        super().__init__(
            is_client=configuration.is_client,
            alpn_protocols=configuration.alpn_protocols,
            cipher_suites=configuration.cipher_suites,
            max_early_data=None,
            verify_mode=ssl.CERT_NONE,  # no authority vouches for a device key: we check it
        )
        self.certificate = base.certificate
        self.certificate_private_key = base.certificate_private_key
        self.handshake_extensions = base.handshake_extensions
        self.alpn_cb = base.alpn_cb
        self.update_traffic_key_cb = base.update_traffic_key_cb
        self._policy = policy
        self._claimed: DeviceKey | None = None
        self.proven: DeviceKey | None = None
        self.refusal: Fault | None = None
        self._signature_algorithms = [tls.SignatureAlgorithm.ED25519]
        self._supported_groups = [tls.Group.X25519]
        self._request_client_certificate = not configuration.is_client

    @property
    def key_exchange(self) -> str:
        return "X25519" if self._x25519_private_key is not None else "none"

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        # RFC 8446, 4.4.2.4 lets a server go on without a client certificate; we may not.
        start = input_buf.tell()
        if not tls.pull_certificate(input_buf).certificates:
            raise self._refuse(
                Malformed("no-client-certificate", "The peer presented no certificate")
            )
        input_buf.seek(start)
        super()._server_handle_certificate(input_buf)

    def _client_handle_certificate(self, input_buf: Buffer) -> None:
        if self._certificate_request is None:
            raise self._refuse(
                Malformed("no-certificate-request", "The peer does not ask who we are")
            )
        super()._client_handle_certificate(input_buf)

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        entries = certificate.certificates
        if len(entries) != 1 or len(entries[0][0]) > MAX_CERTIFICATE_BYTES:
            raise self._refuse(
                Malformed("certificate-malformed", "One small certificate is expected")
            )
        super()._set_peer_certificate(certificate)
        peer: x509.Certificate | None = self._peer_certificate
        if peer is None:
            raise tls.AlertBadCertificate("no certificate")
        try:
            claimed = check_certificate_untrusted(peer, self._policy.utc_now())
        except Malformed as error:
            raise self._refuse(error) from error
        if self._policy.expected is not None and claimed != self._policy.expected:
            # Our own certificate goes out with our Finished, later than this: whoever answers in
            # the place of the peer does not learn who dialled.
            raise self._refuse(
                Refused(
                    "wrong-peer",
                    f"{claimed!r} answered instead of {self._policy.expected!r}",
                    blame=Blame.PEER,
                    hint="The address belongs to somebody else now; ask for a fresh one.",
                )
            )
        self._claimed = claimed

    def _check_certificate_verify_signature(self, verify: tls.CertificateVerify) -> None:
        super()._check_certificate_verify_signature(verify)
        self.proven = self._claimed

    def _refuse(self, fault: Fault) -> tls.Alert:
        self.refusal = fault
        # The peer learns the rule, not whom we meant to reach.
        return _ALERTS[fault.code](fault.code)


class _Credit(Limit):
    """The connection's receive limit, which aioquic may not double: only `grant` raises it."""

    def __init__(self, value: int) -> None:
        self._granted = value
        super().__init__(frame_type=QuicFrameType.MAX_DATA, name="max_data", value=value)

    @property
    def value(self) -> int:
        return self._granted

    @value.setter
    def value(self, value: int) -> None:
        """aioquic doubles the limit on what was SEEN; what counts is what was consumed."""

    def grant(self, value: int) -> None:
        self._granted = max(self._granted, value)


class MutualQuicConnection(QuicConnection):
    """A QuicConnection that authenticates both sides and grants credit as data is consumed."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        policy: PeerPolicy,
        limits: TransportLimits,
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
        )
        self._logger = QuicConnectionAdapter(_quic_log, {"id": self.host_cid.hex()})
        self._policy = policy
        self._stream_window = limits.stream_buffer
        self._connection_window = limits.connection_buffer
        self._consumed_total = 0
        self._consumed: dict[int, int] = {}
        self._credit = _Credit(limits.connection_buffer)
        self._local_max_data = self._credit
        self._local_max_streams_bidi.value = limits.max_streams
        self._local_max_streams_bidi.sent = limits.max_streams
        self._local_max_streams_uni.value = 0  # nothing here uses them
        self._local_max_streams_uni.sent = 0

    def _initialize(self, peer_cid: bytes) -> None:
        # Also called again after Retry and after version negotiation.
        super()._initialize(peer_cid)
        self.tls: tls.Context = _MutualContext(self.tls, self._policy, self._configuration)

    # What the handshake found out

    @property
    def peer(self) -> DeviceKey | None:
        """The device key that the peer has proven, or None."""
        return self.tls.proven if isinstance(self.tls, _MutualContext) else None

    @property
    def refusal(self) -> Fault | None:
        """Why WE refused the peer, if we did."""
        context = getattr(self, "tls", None)
        return context.refusal if isinstance(context, _MutualContext) else None

    @property
    def key_exchange(self) -> str:
        return self.tls.key_exchange if isinstance(self.tls, _MutualContext) else "none"

    @property
    def started(self) -> bool:
        """Whether a first packet was sent, or received and decrypted."""
        if self._is_client:
            return bool(self._network_paths)
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    # How it ended

    @property
    def closing(self) -> tuple[ConnectionTerminated, bool] | None:
        """Once it is over: the event, and whether the peer closed it.

        aioquic reports it three probe timeouts later, but nobody needs to wait for that.
        """
        if self._close_event is None or self._state in (
            QuicConnectionState.FIRSTFLIGHT,
            QuicConnectionState.CONNECTED,
        ):
            return None
        return self._close_event, self._state is QuicConnectionState.DRAINING

    # Flow control

    def consume(self, stream_id: int, size: int) -> bool:
        """`size` bytes of the stream were read by the application (or dropped for good).

        Returns whether a packet should go out for the credit alone.
        """
        due = False
        self._consumed_total += size
        target = self._consumed_total + self._connection_window
        if target - self._credit.value >= self._connection_window // 2:
            self._credit.grant(target)
            due = True
        stream = self._streams.get(stream_id)
        if stream is None:
            self._consumed.pop(stream_id, None)
        elif not stream.receiver.is_finished:
            consumed = self._consumed[stream_id] = self._consumed.get(stream_id, 0) + size
            target = consumed + self._stream_window
            due = due or target - stream.max_stream_data_local >= self._stream_window // 2
        return due

    def consume_rest(self, stream_id: int, delivered: int) -> bool:
        """The peer reset the stream: what it counted and never delivered is given back."""
        self._consumed.pop(stream_id, None)
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        return self.consume(stream_id, max(0, stream.receiver.highest_offset - delivered))

    def forget_stream(self, stream_id: int) -> None:
        """The application has read the stream to its end."""
        self._consumed.pop(stream_id, None)

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        stream_id = stream.stream_id
        if stream_id is None or stream.receiver.is_finished:
            return
        target = self._consumed.get(stream_id, 0) + self._stream_window
        if target - stream.max_stream_data_local >= self._stream_window // 2:
            stream.max_stream_data_local = target
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    # Streams

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes written to the stream and not yet acknowledged, sent or not."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else len(stream.sender._buffer)

    def unacknowledged_total(self) -> int:
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def receive_finished(self, stream_id: int) -> bool:
        """Whether everything up to the end, or a reset, has arrived."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.receiver.is_finished

    def may_open_stream(self) -> bool:
        """Whether the peer's limit allows one more stream now."""
        next_index: int = self.get_next_available_stream_id() // 4
        return next_index < self._remote_max_streams_bidi


def client_configuration(
    key: Ed25519PrivateKey, certificate: x509.Certificate, alpn: str, limits: TransportLimits
) -> QuicConfiguration:
    """What a dialled connection is made from."""
    return _configuration(key, certificate, [alpn], limits, is_client=True)


def server_configuration(
    key: Ed25519PrivateKey, certificate: x509.Certificate, alpns: list[str], limits: TransportLimits
) -> QuicConfiguration:
    """What accepted connections are made from."""
    return _configuration(key, certificate, alpns, limits, is_client=False)


def _configuration(
    key: Ed25519PrivateKey,
    certificate: x509.Certificate,
    alpns: list[str],
    limits: TransportLimits,
    *,
    is_client: bool,
) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=alpns,
        certificate=certificate,
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=limits.idle_timeout_s,
        is_client=is_client,
        max_data=limits.connection_buffer,
        max_datagram_size=limits.datagram,
        max_stream_data=limits.stream_buffer,
        private_key=key,
        supported_versions=list(QUIC_VERSIONS),
        verify_mode=ssl.CERT_NONE,
    )
