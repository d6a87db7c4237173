"""Who was on the LAN and is not, and whose goodbye was not true; bounded, pure."""

from __future__ import annotations

from typing import Final, TypeVar

from discovery.lan_events import Peer
from schemas.ids import DeviceKey

_REMEMBERED: Final = 256

V = TypeVar("V")


class Departed:
    """By service instance. Anybody can say goodbye for another, so some are taken back."""

    def __init__(self) -> None:
        self._gone: dict[str, Peer] = {}
        self._stayed: dict[str, None] = {}

    def __contains__(self, instance: str) -> bool:
        return instance in self._gone

    def stays(self, instance: str) -> bool:
        """A goodbye for it was not true before: none is believed."""
        return instance in self._stayed

    def left(self, instance: str, peer: Peer) -> None:
        _put(self._gone, instance, peer)

    def silent(self, instance: str) -> None:
        """It does not answer: its next goodbye may be true."""
        self._stayed.pop(instance, None)

    def heard(self, instance: str) -> None:
        self._gone.pop(instance, None)

    def take_back(self, device: DeviceKey) -> tuple[str, Peer] | None:
        """A device answers: under which instance it left last, and as what; None if it did not.

        Those before it were labels that it has given up.
        """
        found = [(instance, peer) for instance, peer in self._gone.items() if peer.device == device]
        for instance, _ in found:
            del self._gone[instance]
        if not found:
            return None
        _put(self._stayed, found[-1][0], None)
        return found[-1]


def _put(remembered: dict[str, V], instance: str, value: V) -> None:
    remembered.pop(instance, None)
    remembered[instance] = value
    if len(remembered) > _REMEMBERED:
        del remembered[next(iter(remembered))]
