"""Devices that answer and take nothing: for a while, what is for them goes by their relay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from node.delivery.limits import DeliveryLimits
from node.delivery.link import NOT_ACKNOWLEDGED
from node.engine.commands import Outcome
from schemas.ids import DeviceKey


@dataclass(slots=True)
class _Record:
    strikes: int = 0
    by_relay_until: float = 0.0


class Patience:
    """What direct delivery came to, per device. `clock` gives seconds that only grow.

    A link that acknowledges nothing has the whole window of parcels for `ack_deadline_s`, and the
    next link would have it as long again. A device that only ever defers keeps them here, where
    they are lost to it once this node is switched off. One acknowledgement settles everything.
    """

    def __init__(self, limits: DeliveryLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._records: OrderedDict[DeviceKey, _Record] = OrderedDict()

    def at_an_end(self, device: DeviceKey) -> bool:
        """Whether its relay is asked before the device itself."""
        record = self._records.get(device)
        return record is not None and self._clock() < record.by_relay_until

    def note(self, device: DeviceKey, outcome: Outcome) -> None:
        """The outcome of a parcel that was handed over directly."""
        if outcome.acked or outcome.refused is not None:
            self._records.pop(device, None)
        elif outcome.reason == NOT_ACKNOWLEDGED:
            self._strike(device, self._limits.deferrals_borne)
        elif outcome.reason == "deferred":
            self._strike(device, 1)

    def _strike(self, device: DeviceKey, weight: int) -> None:
        record = self._records.pop(device, None) or _Record()
        self._records[device] = record  # the newest last
        if len(self._records) > self._limits.devices_remembered:
            self._records.popitem(last=False)
        record.strikes += weight
        if record.strikes >= self._limits.deferrals_borne:
            record.by_relay_until = self._clock() + self._limits.relay_instead_s
