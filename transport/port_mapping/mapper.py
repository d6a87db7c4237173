"""Has the router in front of this machine forward one UDP port to it, for as long as we run."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from schemas.addresses import Address
from schemas.errors import Fault, Malformed

from ..pauses import doubled
from ..supervise import Supervisor
from .announcements import Announcements
from .gateways import private_gateways
from .udp_clients import NatPmpClient, PcpClient
from .upnp import UpnpClient
from .values import (
    DEFAULT_MAPPING_LIMITS,
    Gateway,
    Mapped,
    MappingClient,
    MappingLimits,
    NotMapped,
    Outcome,
)

Gateways = Callable[[Address], Sequence[Gateway]]
"""As `private_gateways`."""

_CLIENTS: Final = (PcpClient, NatPmpClient, UpnpClient)

log = logging.getLogger(__name__)


class PortMapper:
    """Asks the default gateways in turn by PCP, NAT-PMP and UPnP; renews at half the lifetime.

    `told` gets each new outcome, from tasks of its own: starting waits for nothing. A gateway is
    asked anew when it begins anew, when another takes its place, and after `again`. A hint for
    peers, no more: a router can lie, and only the handshake proves who answers at an address.
    """

    def __init__(
        self,
        bound: Address,
        told: Callable[[Outcome], None],
        counters: Counter[str],
        *,
        limits: MappingLimits = DEFAULT_MAPPING_LIMITS,
        gateways: Gateways = private_gateways,
    ) -> None:
        self._bound = bound
        self._told = told
        self._counters = counters
        self._limits = limits
        self._find_gateways = gateways
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))
        self._now = asyncio.get_running_loop().time
        self._stir = asyncio.Event()
        self._wanted_again = False
        self._asked_at = 0.0
        self._hint: asyncio.TimerHandle | None = None  # an announcement, not acted on yet
        self._client: MappingClient | None = None  # has, or may have, a mapping
        self._announcements: Announcements | None = None
        self._gateways: tuple[Gateway, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """None until the first try has ended."""
        return self._outcome

    def start(self) -> None:
        self._task = self._tasks.start(self._run(), name="port-mapping")

    def again(self) -> None:
        """The network may be another, or the mapping gone: ask now."""
        self._forget_hint()
        self._wanted_again = True
        self._stir.set()

    async def close(self) -> None:
        """Ends, and lets go of the mapping within `release_s`."""
        if self._task is not None:
            self._task.cancel()
        await self._tasks.close(self._limits.release_s)
        self._stop_listening()
        await self._let_go()

    # --- the life of a mapping

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wanted_again = False
            await self._look_at_gateways()
            mapped = await self._keep() or await self._ask_all()
            failures = 0 if isinstance(mapped, Mapped) else failures + 1
            self._tell(mapped)
            await self._rest(self._wait(mapped, failures))

    def _wait(self, outcome: Outcome, failures: int) -> float:
        """Half of what is left, as RFC 6887 (11.2.1) has it; nothing mapped: longer each time."""
        limits = self._limits
        if isinstance(outcome, Mapped):
            return max(outcome.until - self._now(), 0) / 2
        return doubled(limits.again_first_s, failures - 1, limits.again_most_s)

    async def _rest(self, wait_s: float) -> None:
        """Until then, or until something happened that makes the outcome doubtful."""
        end = self._now() + wait_s
        while (left := end - self._now()) > 0 and not self._wanted_again:
            try:
                async with asyncio.timeout(min(left, self._limits.look_s)):
                    await self._stir.wait()
            except TimeoutError:
                if await self._gateways_now() != self._gateways:
                    return
            self._stir.clear()

    async def _look_at_gateways(self) -> None:
        now = await self._gateways_now()
        if now == self._gateways:
            return
        self._gateways = now
        await self._let_go()
        self._stop_listening()
        if now:
            self._announcements = Announcements(now[0], self._heard, self._counters)
            await self._announcements.start()

    def _heard(self) -> None:
        """A gateway says that it has begun anew; anybody can say so in its name."""
        if self._hint is None:
            self._counters["port-mapping-announced"] += 1
            loop = asyncio.get_running_loop()
            self._hint = loop.call_at(self._asked_at + self._limits.hint_s, self.again)

    def _forget_hint(self) -> None:
        if self._hint is not None:
            self._hint.cancel()
            self._hint = None

    def _stop_listening(self) -> None:
        self._forget_hint()
        if self._announcements is not None:
            self._announcements.close()
            self._announcements = None

    async def _gateways_now(self) -> tuple[Gateway, ...]:
        try:
            found = await asyncio.to_thread(self._find_gateways, self._bound)
        except OSError as error:
            self._counters["port-mapping-no-routing-table"] += 1
            log.info("the routing table cannot be read: %s", error)
            return self._gateways
        return tuple(found[: self._limits.gateways])

    async def _keep(self) -> Mapped | None:
        """The mapping we have, renewed; while it lasts, a failure to renew is no loss."""
        client, before = self._client, self._outcome
        if client is None or not isinstance(before, Mapped):
            return None
        try:
            return await self._ask(client, before.gateway)
        except Fault as fault:
            self._count(client, fault)
            left_s = before.until - self._now()
            if left_s > self._limits.least_lifetime_s / 4 and not self._wanted_again:
                return before
            await self._let_go()
            return None

    async def _ask_all(self) -> Outcome:
        """The first gateway and protocol that gives one."""
        if not self._gateways:
            return NotMapped("no-gateway", "no router with a private address leads out of here")
        tried: list[str] = []
        refused = False
        for gateway, client in self._clients():
            self._client = client
            try:
                return await self._ask(client, gateway.host)
            except Fault as fault:
                self._count(client, fault)
                refused |= fault.code != "no-answer"
                tried.append(f"{client.protocol}: {fault.message}")
                self._client = None
        return NotMapped("refused" if refused else "no-answer", "; ".join(tried))

    def _clients(self) -> Iterator[tuple[Gateway, MappingClient]]:
        for gateway in self._gateways:
            for make in _CLIENTS:
                yield gateway, make(gateway, self._bound.port, self._limits, self._counters)

    async def _ask(self, client: MappingClient, gateway: str) -> Mapped:
        limits = self._limits
        self._asked_at = self._now()
        grant = await client.ask(limits.lifetime_s)
        now = self._now()
        lifetime_s = min(max(grant.lifetime_s, limits.least_lifetime_s), limits.most_lifetime_s)
        return Mapped(_checked(grant.external), client.protocol, gateway, now + lifetime_s)

    def _count(self, client: MappingClient, fault: Fault) -> None:
        self._counters[f"port-mapping-{client.protocol}-{fault.code}"] += 1
        log.info("%s: %s", client.protocol, fault)

    def _tell(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._told(outcome)

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(self._limits.release_s):
                await client.release()
        except (Fault, TimeoutError) as error:
            log.info("the mapping was not released, and ends by itself: %s", error)


def _checked(external: Address) -> Address:
    """`external`, if a router can have it at all. Raises Malformed `bad-external-address`."""
    ip = ipaddress.ip_address(external.host)
    if (
        ip.version != 4
        or ip.is_unspecified
        or ip.is_loopback
        or ip.is_link_local
        or ip.is_multicast
        or ip.is_reserved
    ):
        raise Malformed("bad-external-address", f"{ip} is no router's address")
    return external
