"""How long what is for a device waits for a direct path, by what came of those before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from node.delivery.limits import DeliveryLimits
from node.delivery.link import CONNECTION_LOST, NOT_ACKNOWLEDGED
from node.engine.delivery_commands import Outcome
from schemas.ids import DeviceKey


@dataclass(slots=True)
class _Record:
    cut_off: bool = False  # with parcels under way, and nothing acknowledged since
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

    def wait_s(self, device: DeviceKey) -> float:
        """How long a link is waited for before the relay gets what is due.

        What was under way when a path broke has waited already; and who moved to another network
        is seldom dialled again as soon.
        """
        record = self._records.get(device)
        if record is not None and record.cut_off:
            return min(self._limits.relay_fallback_lost_s, self._limits.relay_fallback_s)
        return self._limits.relay_fallback_s

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
        elif outcome.reason == CONNECTION_LOST:
            self._record(device).cut_off = True

    def _record(self, device: DeviceKey) -> _Record:
        record = self._records.pop(device, None) or _Record()
        self._records[device] = record  # the newest last
        if len(self._records) > self._limits.devices_remembered:
            self._records.popitem(last=False)
        return record

    def _strike(self, device: DeviceKey, weight: int) -> None:
        record = self._record(device)
        record.strikes += weight
        if record.strikes >= self._limits.deferrals_borne:
            record.by_relay_until = self._clock() + self._limits.relay_instead_s
