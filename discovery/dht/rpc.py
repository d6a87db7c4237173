"""How the DHT's logic asks others, without sockets; and who asks us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from discovery.dht.contact import DhtContact
from schemas.addresses import Address
from schemas.dht import ToldContact, Values
from schemas.ids import DeviceKey, DhtId
from schemas.records import Signed


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose request it is: the handshake has proven both."""

    device: DeviceKey
    address: Address


class Rpc(Protocol):
    """One authenticated request to one contact, whose device key is pinned.

    Raises Unreachable when nobody answers, Malformed when the answer is none, Refused when the
    contact refuses (its code). Cancelled at the caller's deadline.
    """

    async def find_node(
        self, contact: DhtContact, target: DhtId, *, announce: bool
    ) -> Sequence[ToldContact]:
        """`announce`: with our device key, as a node that answers; else with a throw-away key."""
        ...

    async def find_value(self, contact: DhtContact, key: DhtId) -> Values:
        """With a throw-away key: strangers do not learn who looks for whom."""
        ...

    async def store(self, contact: DhtContact, key: DhtId, value: Signed) -> None:
        """With a throw-away key. Returns when the contact says that it keeps the value."""
        ...
