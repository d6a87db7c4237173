"""The bounded table of peers heard on the LAN; pure: it returns the events of its changes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Final

from discovery.lan_events import Peer, PeerChange, PeerEvent
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_ADDRESSES

INSTANCES: Final = 256  # in all; a LAN with more of our users than that is not a LAN
INSTANCES_PER_DEVICE: Final = 4  # a restarted node leaves its old label behind for minutes


class LanPeers:
    """Peers by service instance, shown by device.

    One device can have several instances: its own from an earlier run, or ones that others
    forged. They are merged with turns taken between them, so that a forgery adds addresses but
    cannot push the true ones out. A full table refuses newcomers rather than forget those it has;
    but there is a place for those that were named by `favour`.
    """

    def __init__(
        self, *, instances: int = INSTANCES, per_device: int = INSTANCES_PER_DEVICE
    ) -> None:
        self._limit = instances
        self._limit_per_device = per_device
        self._instances: dict[str, Peer] = {}
        self._by_device: dict[DeviceKey, dict[str, None]] = {}
        self._favoured: frozenset[DeviceKey] = frozenset()
        self.dropped: Counter[str] = Counter()

    def __contains__(self, instance: str) -> bool:
        return instance in self._instances

    def peers(self) -> tuple[Peer, ...]:
        """Everybody, in the order in which they came."""
        return tuple(self._merged(instances) for instances in self._by_device.values())

    def instances(self) -> tuple[str, ...]:
        return tuple(self._instances)

    def instance(self, instance: str) -> Peer:
        """What it says. Raises KeyError."""
        return self._instances[instance]

    def favour(self, devices: Iterable[DeviceKey]) -> None:
        """These have a place in a full table: the stranger who came last makes room."""
        self._favoured = frozenset(devices)

    def find(self, device: DeviceKey) -> Peer | None:
        instances = self._by_device.get(device)
        return None if instances is None else self._merged(instances)

    def instances_of(self, device: DeviceKey) -> tuple[str, ...]:
        return tuple(self._by_device.get(device, ()))

    def see(self, instance: str, peer: Peer) -> list[PeerEvent]:
        """`instance` was heard and says it is `peer`.

        Dropped and counted: a newcomer above a limit (`table-full`, `instances-per-device`), and
        another device under a label that is taken (`label-collision`).
        """
        known = self._instances.get(instance)
        events: list[PeerEvent] = []
        if known is not None and known.device != peer.device:
            # Labels are random and nobody has one twice: the second is not by chance.
            self.dropped["label-collision"] += 1
            return events
        siblings = self._by_device.get(peer.device, {})
        if known is None:
            if len(siblings) >= self._limit_per_device:
                self.dropped["instances-per-device"] += 1
                return events
            if len(self._instances) >= self._limit:
                self.dropped["table-full"] += 1
                stranger = self._last_stranger() if peer.device in self._favoured else None
                if stranger is None:
                    return events
                events += self.lose(stranger)
        before = self.find(peer.device)
        self._instances[instance] = peer
        self._by_device.setdefault(peer.device, {})[instance] = None
        return events + _difference(before, self.find(peer.device))

    def touch(self, instance: str, now: float) -> None:
        """`instance` was heard again, with nothing new."""
        known = self._instances.get(instance)
        if known is not None:
            self._instances[instance] = Peer(known.device, known.name, known.addresses, now)

    def lose(self, instance: str) -> list[PeerEvent]:
        """`instance` said goodbye, ran out, or does not answer."""
        known = self._instances.get(instance)
        if known is None:
            return []
        before = self.find(known.device)
        del self._instances[instance]
        del self._by_device[known.device][instance]
        if not self._by_device[known.device]:
            del self._by_device[known.device]
        return _difference(before, self.find(known.device))

    def _last_stranger(self) -> str | None:
        newest_first = reversed(self._instances.items())
        return next((i for i, peer in newest_first if peer.device not in self._favoured), None)

    def _merged(self, instances: Iterable[str]) -> Peer:
        seen = sorted(
            (self._instances[instance] for instance in instances),
            key=lambda peer: peer.last_seen,
            reverse=True,
        )
        turns = itertools.zip_longest(*(peer.addresses for peer in seen))
        addresses = dict.fromkeys(address for turn in turns for address in turn if address)
        return Peer(
            seen[0].device,
            seen[0].name,
            tuple(itertools.islice(addresses, ENDPOINT_ADDRESSES)),
            seen[0].last_seen,
        )


def _difference(before: Peer | None, after: Peer | None) -> list[PeerEvent]:
    if after is None:
        return [] if before is None else [PeerEvent(PeerChange.DISAPPEARED, before)]
    if before is None:
        return [PeerEvent(PeerChange.APPEARED, after)]
    if before.name != after.name or set(before.addresses) != set(after.addresses):
        return [PeerEvent(PeerChange.CHANGED, after)]
    return []
