"""Values that this node keeps for others: each checked, all of it bounded, none pushed out.

First come, first kept: whoever knows a cell can put values of their own beside the owner's, and
must not be able to put them in its place. Nothing is handed on: only authors publish.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from discovery.dht.limits import DhtLimits
from discovery.dht.value import (
    Age,
    check_signature_untrusted,
    is_public,
    read_public_untrusted,
    read_value_untrusted,
)
from schemas.addresses import Address
from schemas.errors import Refused
from schemas.ids import DhtId
from schemas.records import Signed
from transport.admission import prefix_of

IPV4_PREFIX = 3  # bytes of a /24


@dataclass(frozen=True, slots=True)
class _Kept:
    value: Signed
    age: Age
    prefix: bytes | None  # whence it was put; None: this machine
    public: bool


class ValueStore:
    """By key, then by signer. Times: Unix seconds."""

    def __init__(self, limits: DhtLimits) -> None:
        self._limits = limits
        self._cells: dict[DhtId, dict[bytes, _Kept]] = {}
        self._by_network: Counter[bytes] = Counter()  # prefixes, and regions, which are shorter
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, key: DhtId, value: Signed, putter: Address, now: float) -> None:
        """Keeps `value` until it expires; again with the same value changes nothing.

        Raises Malformed as `value` does, or Refused: `rolled-back` (an older one than is kept of
        this signer), `cell-full`, `prefix-full` (of the cell or of all), `store-full`.
        """
        public = is_public(key, value)
        # The signature last of all: it costs a hundred times the rest.
        age = None if public else read_value_untrusted(key, value, now=now)
        prefix = prefix_of(putter.host)
        self._drop_expired(key, now)
        known = self._cells.get(key, {}).get(value.signer)
        if known is None:
            self._find_room(key, prefix, public)
        elif known.value == value:
            return
        if age is None:
            age = read_public_untrusted(value, now=now)
        if known is not None and not age.newer_than(known.age):
            raise Refused("rolled-back", "a newer value of this signer is kept")
        if not public:
            check_signature_untrusted(value)
        self._remove(key, value.signer)
        self._cells.setdefault(key, {})[value.signer] = _Kept(value, age, prefix, public)
        self._count += 1
        self._by_network.update(_networks(prefix))

    def get(self, key: DhtId, now: float) -> list[Signed]:
        """At most `cell_values` and a public one."""
        self._drop_expired(key, now)
        return [kept.value for kept in self._cells.get(key, {}).values()]

    def sweep(self, now: float) -> None:
        """Forgets what has expired."""
        for key in list(self._cells):
            self._drop_expired(key, now)

    def _find_room(self, key: DhtId, prefix: bytes | None, public: bool) -> None:
        limits = self._limits
        beside = [kept for kept in self._cells.get(key, {}).values() if not kept.public]
        # A public value is alone of its kind under its key: those of strangers are none of it.
        if not public and len(beside) >= limits.cell_values:
            raise Refused("cell-full", "as many values as are kept under one key")
        if prefix is not None:
            alike = sum(kept.prefix == prefix for kept in beside)
            if not public and alike >= limits.per_prefix:
                raise Refused("prefix-full", "as many values as one network may put here")
            if self._by_network[prefix] >= limits.values_per_prefix:
                raise Refused("prefix-full", "as many values as are kept for one network")
            if self._by_network[_region(prefix)] >= limits.values_per_region:
                raise Refused("prefix-full", "as many values as are kept for one region")
        if self._count >= limits.values:
            raise Refused("store-full", "as many values as are kept here")

    def _drop_expired(self, key: DhtId, now: float) -> None:
        ended = [s for s, kept in self._cells.get(key, {}).items() if kept.age.expires <= now]
        for signer in ended:
            self._remove(key, signer)

    def _remove(self, key: DhtId, signer: bytes) -> None:
        cell = self._cells.get(key, {})
        kept = cell.pop(signer, None)
        if kept is None:
            return
        self._count -= 1
        if not cell:
            del self._cells[key]
        for network in _networks(kept.prefix):
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]


def _networks(prefix: bytes | None) -> tuple[bytes, ...]:
    return () if prefix is None else (prefix, _region(prefix))


def _region(prefix: bytes) -> bytes:
    """What one provider has: /16 of IPv4, /32 of IPv6."""
    return prefix[:2] if len(prefix) == IPV4_PREFIX else prefix[:4]
