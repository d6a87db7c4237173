"""What a lookup tells while it runs: for the tree that users see, and for counting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from discovery.dht.contact import DhtContact


class Step(StrEnum):
    """What happened."""

    ASKED = "asked"
    ANSWERED = "answered"
    FAILED = "failed"  # `code` says why
    FOUND = "found"  # an answer held a value that counts


@dataclass(frozen=True, slots=True)
class LookupEvent:
    """One step of one path.

    `distance`: bits from the first in which contact and target differ, 0 to 256. `hops`: how many
    were asked one after the other until this one. `seconds` since the lookup began. `teller`:
    who told of the contact, None for those known before. `told`: contacts that are new to the
    path, in an answer. `code`: why it failed.
    """

    step: Step
    path: int
    contact: DhtContact
    distance: int
    hops: int
    seconds: float
    teller: DhtContact | None = None
    told: int = 0
    code: str = ""


Watch = Callable[[LookupEvent], None]
