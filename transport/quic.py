"""aioquic's QuicConnection with both sides proven; its bounds are in the classes below it."""

from __future__ import annotations

import logging

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionAdapter, QuicConnectionState
from aioquic.quic.events import ConnectionTerminated

from schemas.errors import Fault
from schemas.ids import DeviceKey

from .limits import TransportLimits
from .probing import ProbingConnection
from .tls import MutualContext, PeerPolicy

# aioquic warns of each broken handshake, so strangers could fill our log; we count them instead.
_quic_log = logging.getLogger("transport.quic")
_quic_log.addHandler(logging.NullHandler())
_quic_log.propagate = False


class MutualQuicConnection(ProbingConnection):
    """A QuicConnection that authenticates both sides."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        policy: PeerPolicy,
        limits: TransportLimits,
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            limits,
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
        )
        self._logger = QuicConnectionAdapter(_quic_log, {"id": self.host_cid.hex()})
        self._policy = policy

    def _initialize(self, peer_cid: bytes) -> None:
        # Also called again after Retry and after version negotiation.
        super()._initialize(peer_cid)
        self.tls: tls.Context = MutualContext(self.tls, self._policy, self._configuration)

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
