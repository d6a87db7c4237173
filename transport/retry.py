"""Retry (RFC 9000, 8.1.2): a stranger proves its address before it costs us anything.

The token is all the state there is: address, connection ids and time, sealed. It is aioquic's;
keys live in memory only, and change, so that no more than a minute's tokens are ever under one key.
"""

from __future__ import annotations

import os

from aioquic.quic.packet import QuicHeader, encode_quic_retry
from aioquic.quic.retry import QuicRetryTokenHandler

from schemas.errors import Malformed

from .address import SockAddr
from .configuration import CONNECTION_ID_BYTES

ROTATE_S = 60.0  # twice a token's life: it verifies under this key or under the one before


class RetryTokens:
    """Makes Retry packets and reads back the tokens in them."""

    def __init__(self) -> None:
        self._current = QuicRetryTokenHandler()
        self._previous = self._current
        self._rotated_at = 0.0

    def retry_packet(self, header: QuicHeader, remote: SockAddr, now: float) -> bytes:
        """The answer to a first packet without a token; a tenth of its size."""
        self._rotate(now)
        source_id = os.urandom(CONNECTION_ID_BYTES)
        return encode_quic_retry(
            version=header.version or 0,
            source_cid=source_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=self._current.create_token(
                address=remote,
                original_destination_connection_id=header.destination_cid,
                retry_source_connection_id=source_id,
                now=now,
            ),
        )

    def original_id_untrusted(self, header: QuicHeader, remote: SockAddr, now: float) -> bytes:
        """The destination id of the packet that the Retry answered.

        Raises Malformed `retry-token`: not ours, too old (30 s), for another address or connection.
        """
        self._rotate(now)
        for handler in (self._current, self._previous):
            try:
                return handler.validate_token(
                    address=remote,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=now,
                )
            except ValueError:
                continue
        raise Malformed("retry-token", "The token proves no address")

    def _rotate(self, now: float) -> None:
        if now - self._rotated_at >= ROTATE_S:
            self._previous, self._current = self._current, QuicRetryTokenHandler()
            self._rotated_at = now
