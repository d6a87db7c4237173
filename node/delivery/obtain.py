"""What a peer needs to be sealed to and invited by: its bundle and KeyPackages, from anywhere."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

from discovery.resolver import SOURCE_DEADLINE_S
from node.delivery.anonymous_relays import AnonymousRelays
from node.delivery.asking import Ask
from node.delivery.departures import Departures
from node.delivery.dialer import Dialer
from node.delivery.key_packages import checked_key_package_untrusted
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.links import Links
from node.delivery.relay_pool import RelayPool
from node.delivery.requests import ask_bundle, ask_key_package
from node.engine.delivery_commands import (
    BundleWish,
    KnownNumber,
    LookUpPeer,
    ReceiveBundle,
    TakeKeyPackage,
)
from node.engine.values import PeerView
from schemas.addresses import RelayAddress, each_once
from schemas.errors import Fault, Refused, Unreachable
from schemas.ids import DeviceKey, IdentityKey
from schemas.limits import REQUEST_ID
from schemas.records import Signed

NO_KEY_PACKAGE = "no-key-package"

log = logging.getLogger(__name__)


class Obtainer:
    """Asks the peer itself where it can be reached directly, else relays: theirs, then ours.

    Relays are asked in the device's turn, as parcels leave: a look-up that is for several people
    would show who belongs together.
    """

    def __init__(
        self,
        ask: Ask,
        links: Links,
        dialer: Dialer,
        pool: RelayPool,
        anonymous: AnonymousRelays,
        departures: Departures,
        limits: DeliveryLimits,
        counters: Counter[str],
    ) -> None:
        self._ask = ask
        self._links = links
        self._dialer = dialer
        self._pool = pool
        self._anonymous = anonymous
        self._departures = departures
        self._limits = limits
        self._counters = counters

    async def wish(self, link: Link, wish: BundleWish) -> None:
        """A linked device has a newer bundle than we hold. Raises Fault."""
        answer = await ask_bundle(link, wish.identity, wish.newer_than, self._limits)
        await self._ask(ReceiveBundle(answer.core, answer.endpoints))

    async def bundle(
        self, identity: IdentityKey, devices: Iterable[DeviceKey], *, dial: bool = True
    ) -> bool:
        """Try to get a newer bundle of a person than is here; whether one came.

        The devices (with `dial` also those not linked yet) and the relays are asked at once.
        """
        before = await self._ask(KnownNumber(identity))
        devices = list(devices)
        ways = {
            asyncio.ensure_future(self._bundle_directly(identity, devices, before, dial=dial)),
            asyncio.ensure_future(self._bundle_by_relay(identity, devices, before)),
        }
        try:
            while ways:
                done, ways = await asyncio.wait(ways, return_when="FIRST_COMPLETED")
                if True in {way.result() for way in done}:
                    return True
            return False
        finally:
            for way in ways:
                way.cancel()
            if ways:
                await asyncio.gather(*ways, return_exceptions=True)

    async def _bundle_directly(
        self, identity: IdentityKey, devices: Iterable[DeviceKey], before: int, *, dial: bool
    ) -> bool:
        for device in devices:
            link = self._links.get(device)
            if link is None and dial:
                link = await self._dialer.reach(
                    device, self._limits.relay_fallback_s, pursue=False, eager=True
                )
            # A link that just came up may have brought it already.
            if await self._ask(KnownNumber(identity)) > before:
                return True
            if link is not None and await self._attempt(
                self.wish(link, BundleWish(identity, before)), identity, before
            ):
                return True
        return False

    async def _bundle_by_relay(
        self, identity: IdentityKey, devices: Sequence[DeviceKey], before: int
    ) -> bool:
        # A turn and a guise for each whom we ask about.
        about = next(iter(devices), DeviceKey(identity))
        await self._departures.turn(about)
        for relay in await self.relays_of(devices):
            work = self._bundle_at(relay, identity, about)
            if await self._attempt(work, identity, before):
                return True
        return False

    async def key_package(self, device: DeviceKey, suite: int) -> bytes:
        """A KeyPackage of the suite, straight from the device, else from a relay or out of a file.

        Raises Refused `no-key-package` when somebody answered and had none, Unreachable
        `unreachable` when nobody answered.
        """
        request_id = os.urandom(REQUEST_ID)
        limits = self._limits
        ways: tuple[Callable[[], Awaitable[bytes | None]], ...] = (
            lambda: self._package_directly(device, suite, request_id, limits.relay_fallback_s),
            lambda: self._package_by_relay(device, suite, request_id),
            lambda: self._ask(TakeKeyPackage(device, suite)),
            # Nobody else has one: a look-up in the DHT and a meeting take their seconds.
            lambda: self._package_directly(device, suite, request_id, limits.invitation_reach_s),
        )
        refused: Refused | None = None
        for way in ways:
            try:
                package = await way()
                if package is not None:
                    return checked_key_package_untrusted(package, device, suite)
            except Fault as fault:
                self._note("key-package", fault)
                refused = fault if isinstance(fault, Refused) else refused
        if refused is not None:
            raise Refused(NO_KEY_PACKAGE, f"no KeyPackage to be had: {refused.message}")
        raise Unreachable(
            "unreachable",
            "neither the device nor a relay of theirs can be reached",
            hint="try again when they are online, or name a relay that both of you use",
        )

    async def _package_directly(
        self, device: DeviceKey, suite: int, request_id: bytes, within_s: float
    ) -> bytes | None:
        eager = within_s > self._limits.relay_fallback_s
        link = await self._dialer.reach(device, within_s, pursue=False, eager=eager)
        if link is None:
            return None
        return await ask_key_package(link, suite, request_id, self._limits)

    async def _package_by_relay(
        self, device: DeviceKey, suite: int, request_id: bytes
    ) -> bytes | None:
        """Of the first relay that has one. Raises the last Fault when none has."""
        last: Fault | None = None
        await self._departures.turn(device)
        for relay in await self.relays_of([device]):
            try:
                async with self._anonymous.client(relay, device) as client:
                    package, _ = await client.fetch_key_package(device, suite, request_id)
                return checked_key_package_untrusted(package, device, suite)
            except Fault as fault:
                self._note("key-package", fault)
                last = fault if last is None or isinstance(fault, Refused) else last
        if last is not None:
            raise last
        return None

    async def endpoint_records(self, device: DeviceKey) -> list[Signed]:
        """For the resolver: records in relays' directories.

        Raises the Fault of the last one, and TimeoutError: a resolver's time is short.
        """
        await self._departures.turn(device)
        async with asyncio.timeout(SOURCE_DEADLINE_S):
            return await self._endpoint_records(device)

    async def _endpoint_records(self, device: DeviceKey) -> list[Signed]:
        found: list[Signed] = []
        last: Fault | None = None
        for relay in await self.relays_of([device]):
            try:
                async with self._anonymous.client(relay, device) as client:
                    record = await client.resolve_endpoint(device)
            except Fault as fault:
                last = fault
            else:
                found += [] if record is None else [record]
        if not found and last is not None:
            raise last
        return found

    async def _bundle_at(
        self, relay: RelayAddress, identity: IdentityKey, about: DeviceKey
    ) -> None:
        async with self._anonymous.client(relay, about) as client:
            core = await client.resolve_identity(identity)
        if core is not None:
            await self._ask(ReceiveBundle(core))

    async def relay_statement(self, relay: RelayAddress, peer: PeerView) -> Signed | None:
        """Where the peer's person reads their mail, by what this relay holds. Raises Fault."""
        if peer.identity is None:
            return None
        await self._departures.turn(peer.device)
        async with self._anonymous.client(relay, peer.device) as client:
            return await client.relay_statement(peer.identity)

    async def _attempt(self, work: Awaitable[None], identity: IdentityKey, before: int) -> bool:
        """Whether the work brought a newer bundle; its failure is counted."""
        try:
            await work
        except Fault as fault:
            self._note("bundle", fault)
            return False
        return await self._ask(KnownNumber(identity)) > before

    async def relays_of(self, devices: Iterable[DeviceKey]) -> list[RelayAddress]:
        """The devices' relays in their order, others that may know, then ours; each once."""
        relays: list[RelayAddress] = []
        for device in devices:
            peer = await self._ask(LookUpPeer(device))
            relays += read_relays((*peer.relays, *peer.hint_relays))
        return each_once([*relays, *self._pool.keep])

    def _note(self, what: str, fault: Fault) -> None:
        self._counters[f"{what}-{fault.code}"] += 1
        log.info("%s: %s", what, fault)


def parse_relays(peer: PeerView) -> list[RelayAddress]:
    """Those that take parcels for it; skips what this version cannot read."""
    return read_relays(peer.relays)


def read_relays(texts: Iterable[str]) -> list[RelayAddress]:
    """Skips what this version cannot read."""
    found = []
    for text in texts:
        try:
            found.append(RelayAddress.parse(text))
        except Refused as fault:
            log.info("a relay is skipped: %s", fault)
    return found
