"""An endpoint that names nobody: for whom peers must not tie to a device."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.addresses import Address
from schemas.ids import DeviceKey

from .connection import Connection
from .endpoint import Endpoint, utc_clock
from .limits import DEFAULT_LIMITS, TransportLimits
from .tls import PeerPolicy
from .udp import Bind


class AnonymousEndpoint(Endpoint):
    """Dials only, with a key made for it and from a port of its own.

    On a port that a device uses as well, the port would say whose device dialled. `device` is the
    key that peers see.
    """

    device: DeviceKey

    @classmethod
    async def open_anonymous(
        cls,
        listen: Address,
        *,
        limits: TransportLimits = DEFAULT_LIMITS,
        utc_now: Callable[[], datetime.datetime] = utc_clock,
        post_quantum_only: bool = False,
        bind: Bind | None = None,
    ) -> Self:
        """`listen` says from which host; the port is any free one. Raises as `open`."""
        private = Ed25519PrivateKey.generate()
        endpoint = await cls.open(
            private,
            Address(listen.host, 0),
            handlers={},
            limits=limits,
            utc_now=utc_now,
            post_quantum_only=post_quantum_only,
            bind=bind,
        )
        endpoint.device = DeviceKey(private.public_key().public_bytes_raw())
        return endpoint

    async def dial_unpinned(
        self, address: Address, *, alpn: str, deadline_s: float | None = None
    ) -> Connection:
        """Connect to whoever answers at `address`; its `peer` is what they have proven.

        Raises as `dial`.
        """
        policy = PeerPolicy(None, self._utc_now, self._post_quantum_only)
        return await self._race([address], policy, alpn, deadline_s)
