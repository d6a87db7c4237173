"""Delivery tokens: who may bring parcels to a mailbox, told by nothing but a secret of 32 bytes.

The owner of a mailbox gives a token to each contact and tells the relay its SHA-256. Whoever brings
a parcel with the token need not say who it is. What came with one token is counted while it waits,
so that a token that leaked fills no more than its share of the mailbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from schemas.ids import DeviceKey


@dataclass(frozen=True, slots=True)
class Bringer:
    """Who brings parcels: by which device key the connection was made, if that says anything, and
    whether it may bring them to mailboxes that take parcels without a token. `making`: a mailbox
    that nobody has opened yet is made for them."""

    device: DeviceKey | None
    admitted: bool = True
    making: bool = True


ANYBODY: Final = Bringer(None)


class DeliveryTokens(Protocol):
    """The contract; RelayStore.enqueue keeps to what is set here."""

    async def set(
        self, device: DeviceKey, hashes: Sequence[bytes], *, optional: bool, now: int
    ) -> None:
        """From the next `enqueue` on, these and no others open the device's mailbox.

        With `optional` it takes parcels without a token as well. A hash that was set before keeps
        its counts. Durable when this returns; repeating it is harmless. Makes the mailbox if there
        is none. Raises TryLater `relay-full`.
        """
        ...

    async def of(self, device: DeviceKey) -> frozenset[bytes]:
        """The hashes that are set."""
        ...


def token_hash(token: bytes) -> bytes:
    """What a relay keeps of a token (32 B)."""
    return hashlib.sha256(token).digest()
