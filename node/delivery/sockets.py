"""The node's two UDP sockets: its own, and one for questions that name nobody."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from identity.keys import KeyPair
from schemas.addresses import Address
from schemas.errors import Fault
from schemas.ids import DeviceKey
from transport import AnonymousEndpoint, Endpoint, Handler, TransportLimits
from transport.udp import Bind

_ANYWHERE: Final = (Address("::", 0), Address("0.0.0.0", 0))  # noqa: S104 - dials only


@dataclass(frozen=True, slots=True)
class Sockets:
    """How they are opened. `listen` None: any free port; `clock` gives Unix seconds."""

    device: KeyPair[DeviceKey]
    listen: Address | None
    limits: TransportLimits
    clock: Callable[[], float]
    post_quantum_only: bool
    bind: Bind | None

    async def open(self, handlers: Mapping[str, Handler]) -> Endpoint:
        """Raises Fault `port-busy`, `cannot-bind`."""
        fault: Fault | None = None
        for address in _ANYWHERE if self.listen is None else _binds(self.listen):
            try:
                return await Endpoint.open(
                    self.device.private,
                    address,
                    handlers=handlers,
                    limits=self.limits,
                    utc_now=self._utc_now,
                    post_quantum_only=self.post_quantum_only,
                    bind=self.bind,
                )
            except Fault as error:
                if error.code == "port-busy":
                    raise
                fault = error
        raise fault if fault is not None else AssertionError("no address to bind")

    async def open_anonymous(self, beside: Address) -> AnonymousEndpoint:
        """Under a throw-away key and another port of where `beside` is. Raises as `open`."""
        return await AnonymousEndpoint.open_anonymous(
            beside,
            limits=self.limits,
            utc_now=self._utc_now,
            post_quantum_only=self.post_quantum_only,
            bind=self.bind,
        )

    def _utc_now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.clock(), datetime.UTC)


def _binds(listen: Address) -> tuple[Address, ...]:
    """`::` is every address of the machine, also of one that has no IPv6."""
    if listen.host != "::":
        return (listen,)
    return (listen, Address("0.0.0.0", listen.port))  # noqa: S104 - as the user asked
