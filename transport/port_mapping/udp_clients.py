"""A mapping by PCP and by NAT-PMP."""

from __future__ import annotations

import secrets
from collections import Counter

from schemas.addresses import Address
from schemas.errors import Blame, Refused, Unreachable

from . import nat_pmp, pcp
from .exchange import exchange
from .values import Gateway, Grant, MappingLimits, MappingProtocol

_NO_ADDRESS = "0.0.0.0"  # noqa: S104 - in a request: any


class PcpClient:
    """A MappingClient (see values)."""

    protocol = MappingProtocol.PCP

    def __init__(
        self, gateway: Gateway, port: int, limits: MappingLimits, counters: Counter[str]
    ) -> None:
        self._gateway = gateway
        self._port = port
        self._limits = limits
        self._counters = counters
        self._nonce = secrets.token_bytes(pcp.NONCE_BYTES)
        self._wish = Address(_NO_ADDRESS, port)

    async def ask(self, lifetime_s: int) -> Grant:
        response = await self._map(lifetime_s, self._wish)
        if response.external is None:
            raise _refused(self.protocol, response.result)
        self._wish = response.external
        return Grant(response.external, response.lifetime_s)

    async def release(self) -> None:
        await self._map(0, Address(_NO_ADDRESS, 0))

    async def _map(self, lifetime_s: int, wish: Address) -> pcp.MapResponse:
        gateway = self._gateway
        request = pcp.MapRequest(gateway.own, self._port, self._nonce, lifetime_s, wish)
        return await exchange(
            gateway,
            request.encode(),
            lambda data: pcp.map_response_untrusted(data, request),
            self._limits,
            self._counters,
        )


class NatPmpClient:
    """A MappingClient (see values)."""

    protocol = MappingProtocol.NAT_PMP

    def __init__(
        self, gateway: Gateway, port: int, limits: MappingLimits, counters: Counter[str]
    ) -> None:
        self._gateway = gateway
        self._port = port
        self._limits = limits
        self._counters = counters
        self._wish = port

    async def ask(self, lifetime_s: int) -> Grant:
        address = await exchange(
            self._gateway,
            nat_pmp.ADDRESS_REQUEST,
            nat_pmp.address_response_untrusted,
            self._limits,
            self._counters,
        )
        if address.result != nat_pmp.Result.SUCCESS:
            raise _refused(self.protocol, address.result)
        if not address.host:
            raise Unreachable("no-external-address", "the router has no address itself")
        mapping = await self._map(lifetime_s, self._wish)
        if mapping.result != nat_pmp.Result.SUCCESS:
            raise _refused(self.protocol, mapping.result)
        self._wish = mapping.port
        return Grant(Address(address.host, mapping.port), mapping.lifetime_s)

    async def release(self) -> None:
        await self._map(0, 0)

    async def _map(self, lifetime_s: int, wish: int) -> nat_pmp.MapResponse:
        return await exchange(
            self._gateway,
            nat_pmp.map_request(self._port, wish, lifetime_s),
            lambda data: nat_pmp.map_response_untrusted(data, self._port),
            self._limits,
            self._counters,
        )


def _refused(protocol: MappingProtocol, result: pcp.Result | nat_pmp.Result) -> Refused:
    words = result.name.lower().replace("_", "-")
    return Refused(
        "mapping-refused",
        f"the router declines: {words}",
        blame=Blame.ENVIRONMENT,
        hint=f"allow {protocol} in the router's settings",
    )
