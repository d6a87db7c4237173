"""A simulated relay: mailboxes in memory, pushed to whoever is connected, kept for seven days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.addresses import Address, RelayAddress
from schemas.ids import DeviceKey
from schemas.limits import MAILBOX_PARCELS
from schemas.parcels import Parcel

if TYPE_CHECKING:
    from simulation.world.machine import Machine
    from simulation.world.network import Network

LIFETIME_S = 7 * 86_400
AGAIN_S = 1.0  # node/delivery/limits.py: poll_s
ADDRESS = str(RelayAddress(Address("relay.example", 7000), DeviceKey(b"r" * 32)))


@dataclass(slots=True)
class _Kept:
    parcel: Parcel
    until: float
    shown_to: tuple[str, int] | None = None  # the machine's name and life


class Relay:
    def __init__(self, network: Network, epoch: float) -> None:
        self._network = network
        self._clock = network.clock
        self._epoch = epoch
        self._boxes: dict[DeviceKey, dict[int, _Kept]] = {}
        self._next = 0
        self.withheld: set[DeviceKey] = set()

    def enqueue(self, parcel: Parcel) -> d.Outcome:
        """On its disk when this returns."""
        box = self._boxes.setdefault(parcel.recipient, {})
        until = min(self._clock.now + LIFETIME_S, parcel.expires - self._epoch)
        known = next((kept for kept in box.values() if kept.parcel.id == parcel.id), None)
        if known is not None:
            return d.Outcome(parcel.id, held=(ADDRESS, int(self._epoch + known.until)))
        if len(box) >= MAILBOX_PARCELS:
            return d.Outcome(parcel.id, reason="mailbox-full")
        box[self._next] = _Kept(parcel, until)
        self._next += 1
        holder = self._network.holder(parcel.recipient)
        if holder is not None:
            self.attend(holder)
        return d.Outcome(parcel.id, held=(ADDRESS, int(self._epoch + until)))

    def attend(self, machine: Machine) -> None:
        """Shows this machine what it was not shown yet."""
        if machine.device in self.withheld:
            return
        box = self._boxes.get(machine.device, {})
        for number, kept in list(box.items()):
            if kept.until <= self._clock.now:
                del box[number]
            elif kept.shown_to != (machine.name, machine.life):
                kept.shown_to = (machine.name, machine.life)
                self._show(machine, number, kept)

    def _show(self, machine: Machine, number: int, kept: _Kept) -> None:
        box = self._boxes[machine.device]

        def arrive() -> None:
            if self._network.reaches_relay(machine):
                machine.courier.arrived(kept.parcel, "relay", judged)
            else:
                kept.shown_to = None

        def judged(verdict: v.Verdict) -> None:
            if not self._network.reaches_relay(machine):  # its ack is lost, and it sees it again
                kept.shown_to = None
                return
            match verdict:
                case v.Accepted() | v.Rejected(forget=True):
                    box.pop(number, None)
                case v.Deferred(retry_after_s):
                    machine.after(max(retry_after_s, AGAIN_S), arrive)
                case _:
                    pass

        machine.after(self._network.latency(), arrive)

    def release(self) -> None:
        withheld, self.withheld = self.withheld, set()
        for device in sorted(withheld):
            holder = self._network.holder(device)
            if holder is not None:
                self.attend(holder)
