"""aioquic's QuicConnection with both sides proven; its bounds are in the classes below it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    QuicConnectionAdapter,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.events import ConnectionIdIssued, ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode

from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.limits import KIB

from .limits import TransportLimits
from .probing import ProbingConnection
from .settled import (
    forget_handshake,
    share_frame_handlers,
    small_buffers,
    with_usual_values,
)
from .tls import MutualContext, PeerPolicy

# aioquic warns of each broken handshake, so strangers could fill our log; we count them instead.
_quic_log = logging.getLogger("transport.quic")
_quic_log.addHandler(logging.NullHandler())
_quic_log.propagate = False


MAX_HANDSHAKE_BYTES = 64 * KIB  # per epoch; ours has 3 KiB, tickets of a foreign server add some


@with_usual_values
class MutualQuicConnection(ProbingConnection):
    """A QuicConnection that authenticates both sides.

    `reset_token` makes the stateless reset token of a connection id of ours; None: random ones.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        policy: PeerPolicy,
        limits: TransportLimits,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        reset_token: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(
            limits,
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        share_frame_handlers(self)
        self._logger = QuicConnectionAdapter(_quic_log, {"id": self.host_cid.hex()})
        self._policy = policy
        self._reset_token = reset_token
        if reset_token is not None and not self._is_client:  # RFC 9000, 18.2: servers only
            self._host_cids[0].stateless_reset_token = reset_token(self.host_cid)

    def _initialize(self, peer_cid: bytes) -> None:
        # Also called again after Retry and after version negotiation.
        super()._initialize(peer_cid)
        self._crypto_buffers = small_buffers()
        self.tls: tls.Context = MutualContext(self.tls, self._policy, self._configuration)

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        forget_handshake(self)

    # What the handshake found out

    @property
    def peer(self) -> DeviceKey | None:
        """The device key that the peer has proven, or None."""
        return self.tls.proven if isinstance(self.tls, MutualContext) else None

    @property
    def refusal(self) -> Fault | None:
        """Why WE refused the peer, if we did."""
        context = getattr(self, "tls", None)
        return context.refusal if isinstance(context, MutualContext) else None

    @property
    def key_exchange(self) -> str:
        """The name of the negotiated group, for example `X25519MLKEM768`; `none` before."""
        context = getattr(self, "tls", None)
        group = context.group if isinstance(context, MutualContext) else None
        return "none" if group is None else group.name

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """RFC 8446, 7.5; see `HelloContext.export_keying_material`."""
        if not isinstance(self.tls, MutualContext):
            raise RuntimeError("the hook into TLS is gone")
        return self.tls.export_keying_material(label, context, length)

    @property
    def started(self) -> bool:
        """Whether a first packet was sent, or received and decrypted."""
        if self._is_client:
            return bool(self._network_paths)
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    # Connection ids

    @property
    def peer_reset_token(self) -> bytes | None:
        """What a stateless reset by the peer would end with, as long as it knows us by this id."""
        return self._peer_cid.stateless_reset_token or None

    def _replenish_connection_ids(self) -> None:
        known = len(self._host_cids)
        super()._replenish_connection_ids()
        for new in self._host_cids[known:]:
            if self._reset_token is not None:
                new.stateless_reset_token = self._reset_token(new.cid)
            # aioquic says so only once it is on its way: the answer could come before that is read.
            self._events.append(ConnectionIdIssued(connection_id=new.cid))

    def _handle_new_connection_id_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        # RFC 9000, 18.2: a client's first id comes without a token, so we could not tell a client
        # that has restarted from one that is silent. Those that it issues have one.
        if self.peer_reset_token is None and self._peer_cid_available:
            self.change_connection_id()

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end > MAX_HANDSHAKE_BYTES:
            # aioquic fills a gap of 512 KiB with zeros for whoever sends one packet.
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase="more handshake than any honest peer has",
            )
        super()._handle_crypto_frame(context, frame_type, buf)

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
