"""Where others see us: what each says, and what enough of them agree on.

Behind a NAT only others know our address. Each of them may lie or be mistaken, so what goes into
our record was said by a relay of ours, or by two observers in different networks; strangers of the
DHT, who are had for nothing, count only while no relay of ours speaks. Where observers see several
ports of one host, the NAT has another for each peer (RFC 4787, 4.1: address-dependent
mapping): none of them is of use to anybody else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from discovery.hosts import is_loopback, usable_host
from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.engine.delivery_commands import Acquainted
from schemas.addresses import Address
from schemas.errors import Fault
from schemas.ids import DeviceKey
from transport import Connection
from transport.admission import prefix_of

_ENOUGH = 2  # voices

log = logging.getLogger(__name__)


class Standing(IntEnum):
    """What an observer is to us, the least credible first."""

    STRANGER = 0  # somebody in the DHT
    ACQUAINTANCE = 1
    RELAY = 2  # of ours


@dataclass(frozen=True, slots=True)
class Observation:
    """`observer`, who is `at` there, sees us at `address`. `when` is the loop's time."""

    observer: DeviceKey
    at: Address
    address: Address
    when: float
    standing: Standing

    @property
    def own(self) -> bool:
        """A relay of ours says so."""
        return self.standing is Standing.RELAY

    @property
    def realm(self) -> tuple[int, bool]:
        """Of what kind the address is: a relay on the LAN says nothing of the internet's."""
        host = ipaddress.ip_address(self.address.host)
        return host.version, host.is_global

    @property
    def voice(self) -> bytes:
        """Its network, which is heard once. Loopback is nobody's: who is there counts alone."""
        return prefix_of(self.at.host) or bytes(self.observer)


class ObservedAddresses:
    """One observation of each observer, of one socket: what others see of another does not count.

    `changed` gets the addresses that are agreed on, whenever they are others. `linked` says that
    we hold a connection to an observer: what it saw is kept alive.
    """

    def __init__(
        self,
        ask: Ask,
        limits: DeliveryLimits,
        changed: Callable[[tuple[Address, ...]], None],
        linked: Callable[[DeviceKey], bool],
    ) -> None:
        self._ask = ask
        self._limits = limits
        self._changed = changed
        self._linked = linked
        self._loop = asyncio.get_running_loop()
        self._seen: dict[DeviceKey, Observation] = {}  # oldest first
        self._told: tuple[Address, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def by_relay(self, relay: Connection, address: Address) -> None:
        """A relay of ours sees us there."""
        self.saw(relay.peer, relay.remote, address, Standing.RELAY)

    async def by_link(self, link: Link) -> None:
        """A peer's hello said where it sees us. Strangers come by the dozen: they have no say."""
        try:
            address = Address.parse(link.hello.observed)
            acquainted = await self._ask(Acquainted(link.peer))
        except Fault as fault:
            log.debug("%r: what it sees is not counted: %s", link, fault)
            return
        if acquainted:
            self.saw(link.peer, link.connection.remote, address, Standing.ACQUAINTANCE)

    def saw(
        self,
        observer: DeviceKey,
        at: Address,
        address: Address,
        standing: Standing = Standing.STRANGER,
    ) -> None:
        """`observer`, whom we see at `at`, sees us at `address`.

        What it said with a better standing, such as our relay that serves the DHT too, stays.
        """
        host = usable_host(address.host, on_link=False)
        if host is None or not address.port or (is_loopback(host) and not is_loopback(at.host)):
            return
        known = self._seen.get(observer)
        if known is not None and known.standing > standing:
            return
        self._seen.pop(observer, None)
        now = self._loop.time()
        self._seen[observer] = Observation(observer, at, Address(host, address.port), now, standing)
        if len(self._seen) > self._limits.observers:
            least = min(self._seen.values(), key=lambda each: each.standing)  # its oldest
            del self._seen[least.observer]
        self._settle()

    def forget(self) -> None:
        """We are on another network."""
        self._seen.clear()
        self._settle()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def observations(self) -> list[Observation]:
        """Oldest first."""
        return list(self._seen.values())

    def candidates(self) -> tuple[Address, ...]:
        """Every address that anybody sees, the most credible and newest first."""
        ranked = sorted(
            self._seen.values(), key=lambda each: (each.standing, each.when), reverse=True
        )
        return tuple(dict.fromkeys(each.address for each in ranked))

    def hosts(self) -> frozenset[str]:
        """The hosts on the internet that enough observers see us at, whichever the port.

        They open a contact's private addresses to our dialling, so strangers have no say.
        """
        voices: dict[str, dict[bytes, int]] = defaultdict(dict)
        for each in self._seen.values():
            if each.standing is not Standing.STRANGER and each.realm[1]:
                _raise(voices[each.address.host], each)
        return frozenset(host for host, of in voices.items() if sum(of.values()) >= _ENOUGH)

    # --- inside

    def _settle(self) -> None:
        now = self._loop.time()
        lifetime = self._limits.observed_s
        for each in list(self._seen.values()):
            if now - each.when >= lifetime and not self._linked(each.observer):
                del self._seen[each.observer]
        agreed = self._agreed()
        if agreed != self._told:
            self._told = agreed
            self._changed(agreed)
        self.close()
        self._timer = None
        if self._seen:
            self._timer = self._loop.call_later(lifetime / 2, self._settle)

    def _agreed(self) -> tuple[Address, ...]:
        """Of each host the port that has a majority of the voices, and enough of them."""
        voices: dict[Address, dict[bytes, int]] = defaultdict(dict)
        known = {each.realm for each in self._seen.values() if each.own}
        for each in self._seen.values():
            if each.standing is not Standing.STRANGER or each.realm not in known:
                _raise(voices[each.address], each)
        weights = {address: sum(of.values()) for address, of in voices.items()}
        found = []
        for address, weight in weights.items():
            others = sum(w for a, w in weights.items() if a.host == address.host) - weight
            if weight >= _ENOUGH and weight > others and not is_loopback(address.host):
                found.append(address)
        return tuple(sorted(found, key=lambda a: (ipaddress.ip_address(a.host).version, a)))


def _raise(voices: dict[bytes, int], observation: Observation) -> None:
    """A network has one voice; a relay of ours is enough by itself."""
    weight = _ENOUGH if observation.own else 1
    voices[observation.voice] = max(weight, voices.get(observation.voice, 0))
