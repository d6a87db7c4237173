"""What happens to peers on the LAN, told to readers of any speed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from schemas.addresses import EndpointAddress
from schemas.ids import DeviceKey


@dataclass(frozen=True, slots=True)
class Peer:
    """A device that says it is on the LAN. A hint: anybody there can claim any key and name.

    `last_seen` is Unix seconds of the last record heard from it, or of its last answer.
    """

    device: DeviceKey
    name: str
    addresses: tuple[EndpointAddress, ...]
    last_seen: float


class PeerChange(StrEnum):
    APPEARED = "appeared"
    CHANGED = "changed"  # its name or addresses
    DISAPPEARED = "disappeared"


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """What happened to a peer; for DISAPPEARED, `peer` is what it was last."""

    change: PeerChange
    peer: Peer


class PendingEvents:
    """Events that a reader has not taken yet, at most one per peer, in order.

    What cancels out is never told: the events told are always those that lead from what the
    reader knows to what is so now. So a slow reader costs at most one entry per peer that it was
    told of or that is in the table.
    """

    def __init__(self) -> None:
        self._events: dict[DeviceKey, PeerEvent] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: PeerEvent) -> None:
        waiting = self._events.pop(event.peer.device, None)
        change = _COMBINED[None if waiting is None else waiting.change, event.change]
        if change is not None:
            self._events[event.peer.device] = PeerEvent(change, event.peer)

    def add_present(self, peer: Peer) -> None:
        """`peer` was there when the reader came."""
        self.add(PeerEvent(PeerChange.APPEARED, peer))

    def take(self) -> PeerEvent:
        """The oldest. Raises KeyError when there is none."""
        device = next(iter(self._events), None)
        if device is None:
            raise KeyError("no event is waiting")
        return self._events.pop(device)


_A, _C, _D = PeerChange.APPEARED, PeerChange.CHANGED, PeerChange.DISAPPEARED

# What the reader has not heard yet, then what happens: what to tell. The table makes no others.
_COMBINED: Final[dict[tuple[PeerChange | None, PeerChange], PeerChange | None]] = {
    (None, _A): _A,
    (None, _C): _C,
    (None, _D): _D,
    (_A, _C): _A,
    (_A, _D): None,
    (_C, _C): _C,
    (_C, _D): _D,
    (_D, _A): _C,
}


class Watch:
    """An async iterator of PeerEvent that never holds more than one event per peer.

    It ends when the Mdns is closed. One reader at a time.
    """

    def __init__(self, present: Iterable[Peer]) -> None:
        self._pending = PendingEvents()
        self._wake = asyncio.Event()
        self._ended = False
        for peer in present:
            self._pending.add_present(peer)
        self._wake.set()

    def add(self, event: PeerEvent) -> None:
        self._pending.add(event)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PeerEvent:
        while not self._pending:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._pending.take()
