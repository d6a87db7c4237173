"""One epoch's secret, and which generations of its senders were opened, skipped and dropped.

Everything is a value: a group that goes on has a new epoch, so a clone costs nothing, and what
fails leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import mls_rs
import msgspec

from simulation.model_mls.values import fault

AHEAD: Final = 1024
"""How far a message may lie ahead of the last one of its sender."""
PER_SENDER: Final = 1024
PER_EPOCH: Final = 4096
"""How many skipped generations are kept."""


class Sender(msgspec.Struct, frozen=True, array_like=True):
    """`skipped` ascends, and lies below `next`."""

    next: int = 0
    skipped: tuple[int, ...] = ()


_NEW: Final = Sender()


class Epoch(msgspec.Struct, frozen=True, array_like=True):
    """`signature_keys` by leaf index: empty while the epoch lasts, its tree has them."""

    number: int
    secret: bytes
    own_index: int
    signature_keys: tuple[bytes | None, ...] = ()
    senders: dict[int, Sender] = {}

    @property
    def skipped(self) -> int:
        return sum(len(sender.skipped) for sender in self.senders.values())

    def opened(self, leaf: int, generation: int, *, late: bool) -> tuple[Epoch, int]:
        """The epoch after a message was opened, and how many skipped keys were dropped for it.

        Raises KeyUnavailable: `key-used`, `generation-too-far`; when `late`, also
        `too-many-skipped` instead of dropping.
        """
        sender = self.senders.get(leaf, _NEW)
        skipped, ahead = sender.skipped, generation - sender.next
        if ahead < 0:
            place = bisect_left(skipped, generation)
            if place == len(skipped) or skipped[place] != generation:
                raise fault(mls_rs.KeyUnavailable, "key-used")
            return self._with(leaf, Sender(sender.next, skipped[:place] + skipped[place + 1 :])), 0
        if ahead > AHEAD:
            raise fault(mls_rs.KeyUnavailable, "generation-too-far")
        if not ahead:
            return self._with(leaf, Sender(generation + 1, skipped)), 0
        after = self._with(
            leaf, Sender(generation + 1, (*skipped, *range(sender.next, generation)))
        )
        total, held = after.skipped, len(skipped) + ahead
        if held <= PER_SENDER and total <= PER_EPOCH:
            return after, 0
        if late:
            raise fault(mls_rs.KeyUnavailable, "too-many-skipped")
        return after._dropping(leaf, total, held)

    def _dropping(self, leaf: int, total: int, held: int) -> tuple[Epoch, int]:
        """The oldest keys of whoever holds most go first, until the caps hold."""
        senders = dict(self.senders)
        before = total
        while held > PER_SENDER or total > PER_EPOCH:
            most = max(senders, key=lambda sender: (len(senders[sender].skipped), sender))
            # Beyond the cap of all, another one may hold most after each.
            count = 1 if total > PER_EPOCH else held - PER_SENDER
            senders[most] = Sender(senders[most].next, senders[most].skipped[count:])
            total -= count
            held -= count if most == leaf else 0
        return self._among(senders), before - total

    def _with(self, leaf: int, sender: Sender) -> Epoch:
        return self._among({**self.senders, leaf: sender})

    def _among(self, senders: dict[int, Sender]) -> Epoch:
        return Epoch(self.number, self.secret, self.own_index, self.signature_keys, senders)
