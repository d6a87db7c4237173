"""What the user asks about relays: health, registration, what they hold for a key."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable

from identity.bundle import open_bundle_untrusted
from node.delivery.asking import Ask
from node.delivery.courier import RELAY_KEY_CHANGED
from node.delivery.delivery import Delivery
from node.delivery.obtain import read_relays
from node.delivery.publish import (
    SUITES,
    Uploaded,
    publish_records,
    top_up,
    upload_last_resort,
)
from node.delivery.relay_client import RelayClient
from node.delivery.relay_pool import WRONG_PEER
from node.engine.commands import DevicesOf, WhoAmI
from node.engine.relay_commands import ListFormerRelays
from node.views import FetchedKeyView, HealthView, KeyHoldingView, RegisterView, RelayView
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Refused, Unreachable
from schemas.ids import DeviceKey, IdentityKey
from schemas.limits import REQUEST_ID


class Relaying:
    """Commands about relays, over the node's own connections to them."""

    def __init__(
        self, ask: Ask, delivery: Delivery, device: DeviceKey, clock: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._delivery = delivery
        self._device = device
        self._clock = clock

    async def health(self, relay: str | None) -> tuple[HealthView, ...]:
        """Raises Refused `bad-relay`, `no-relay`."""
        chosen = await self._own() if relay is None else [RelayAddress.parse(relay)]
        return tuple([await self._health(address) for address in chosen])

    async def relays(self) -> tuple[RelayView, ...]:
        """Ours in their order, then those that were."""
        ours = read_relays((await self._ask(WhoAmI())).relays)
        former = await self._ask(ListFormerRelays())
        return (
            *(self._relay(relay, number) for number, relay in enumerate(ours, 1)),
            *(
                dataclasses.replace(
                    self._relay(RelayAddress.parse(view.relay), None),
                    left_at=view.since,
                    read_until=view.until,
                )
                for view in former
            ),
        )

    def _relay(self, relay: RelayAddress, order: int | None) -> RelayView:
        pool, own = self._delivery.pool, self._delivery.own_relays
        reason = own.trouble(relay) or (None if pool.connected(relay) else pool.why_not(relay))
        if reason == WRONG_PEER:
            reason = RELAY_KEY_CHANGED
        if pool.connected(relay):
            state = "connected" if reason is None else "refused"
        else:
            state = "connecting" if reason is None else "unreachable"
        return RelayView(str(relay), order, state, reason, own.refused_since(relay))

    async def register(self) -> tuple[RegisterView, ...]:
        """Records, last resorts and stock, to each relay of ours that answers.

        Raises Refused `no-relay`, or the last Fault when none answers.
        """
        return await self._at_each(stock=True)

    async def refresh(self) -> tuple[RegisterView, ...]:
        """New last-resort KeyPackages in place of the old ones. Raises as `register`."""
        return await self._at_each(stock=False)

    async def fetch(self, identity: IdentityKey, suite: int) -> tuple[FetchedKeyView, ...]:
        """Take one KeyPackage per device. Raises Refused `no-key-package`, `no-relay`, Fault."""
        devices, relays = await self._where(identity)
        found: list[FetchedKeyView] = []
        last: Fault | None = None
        for device in devices:
            for relay in relays:
                try:
                    async with self._delivery.anonymous.client(relay, device, eager=True) as client:
                        package, last_resort = await client.fetch_key_package(
                            device, suite, os.urandom(REQUEST_ID)
                        )
                except Fault as fault:
                    last = fault
                    continue
                found.append(
                    FetchedKeyView(
                        identity,
                        device,
                        hashlib.sha256(package).hexdigest(),
                        str(relay),
                        SUITES.get(suite, str(suite)),
                        last_resort,
                    )
                )
                break
        if not found:
            raise last if last is not None else _nothing_known()
        return tuple(found)

    async def check(self, identity: IdentityKey) -> tuple[KeyHoldingView, ...]:
        """What each relay holds, with nothing used up. Raises Refused `no-relay`, Fault."""
        devices, relays = await self._where(identity)
        found: list[KeyHoldingView] = []
        last: Fault | None = None
        for relay in relays:
            about = next(iter(devices), DeviceKey(identity))
            try:
                async with self._delivery.anonymous.client(relay, about, eager=True) as client:
                    found += await self._check_at(client, identity, devices)
            except Fault as fault:
                last = fault
        if not found:
            raise last if last is not None else _nothing_known()
        return tuple(found)

    async def _check_at(
        self, client: RelayClient, identity: IdentityKey, devices: Iterable[DeviceKey]
    ) -> list[KeyHoldingView]:
        signed = await client.resolve_identity(identity)
        core = None if signed is None else open_bundle_untrusted(signed)
        listed = dict.fromkeys(devices)
        if core is not None and core.identity == identity:
            listed |= dict.fromkeys(device.key for device in core.devices)
        return [
            KeyHoldingView(
                identity,
                device,
                str(client.address),
                None if core is None else core.number,
                await client.holds_hybrid_key(device),
                await client.resolve_endpoint(device) is not None,
            )
            for device in listed
        ]

    async def _health(self, address: RelayAddress) -> HealthView:
        try:
            client = await self._client(address)
            asked = self._clock()
            health = await client.health()
            answered = self._clock()
        except Fault as fault:
            status = RELAY_KEY_CHANGED if fault.code == WRONG_PEER else "unreachable"
            return HealthView(str(address), status, None, None, fault.message)
        skew = None
        if health.clock_ms is not None:
            skew = health.clock_ms / 1000 - (asked + answered) / 2
        return HealthView(
            str(address),
            health.status,
            health.version,
            health.uptime_s,
            None,
            skew,
            self._delivery.own_relays.refused_since(address),
        )

    async def _at_each(self, *, stock: bool) -> tuple[RegisterView, ...]:
        done: list[RegisterView] = []
        last: Fault | None = None
        for relay in await self._own():
            try:
                client = await self._client(relay)
                await publish_records(self._ask, client, endpoint=self._delivery.public)
                uploaded = await upload_last_resort(self._ask, client)
                if stock:
                    uploaded = await top_up(self._ask, client, self._delivery.limits) or uploaded
            except Fault as fault:
                last = fault
            else:
                done += self._views(relay, uploaded)
        if not done and last is not None:
            raise last
        return tuple(done)

    def _views(self, relay: RelayAddress, uploaded: list[Uploaded]) -> list[RegisterView]:
        """One per suite: the last upload of each."""
        by_suite = {each.suite: each for each in uploaded}
        return [
            RegisterView(
                self._device, each.fingerprint.hex(), str(relay), SUITES[suite], each.stock
            )
            for suite, each in by_suite.items()
        ]

    async def _where(
        self, identity: IdentityKey
    ) -> tuple[tuple[DeviceKey, ...], list[RelayAddress]]:
        devices = await self._ask(DevicesOf(identity))
        relays = await self._delivery.obtainer.relays_of(devices)
        if not relays:
            raise _no_relay()
        return devices, relays

    async def _client(self, address: RelayAddress) -> RelayClient:
        return await self._delivery.pool.client(address, eager=True)

    async def _own(self) -> list[RelayAddress]:
        """As the engine has them: one that was named just now is among them."""
        relays = read_relays((await self._ask(WhoAmI())).relays)
        if not relays:
            raise _no_relay()
        return relays


def _no_relay() -> Refused:
    return Refused(
        "no-relay", "this node has no relay", hint="name one with --relay HOST:PORT#DEVICE_KEY"
    )


def _nothing_known() -> Unreachable:
    return Unreachable("unknown-device", "no device of this person is known")
