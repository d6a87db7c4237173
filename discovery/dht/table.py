"""The routing table: whom we know, by distance, with places for few of any one owner.

On the library's buckets and their splitting; what is overridden is either wrong for us (room for
160 bits, a ping of its own, monotonic time it reads itself) or was slow where it counts: see
docs/decisions/0014-dht.md. In the table are only contacts that answered a request of ours.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DhtLimits
from schemas.ids import DhtId

_BITS: Final = 256


@dataclass(slots=True)
class _Seen:
    """When a contact first and last answered us, and what came since; Unix seconds."""

    first: float
    answered: float
    failures: int = 0
    failed_since: float = 0.0

    def proven(self, after_s: float) -> bool:
        """It answered when the hole that its own request had made in its NAT was shut again."""
        return self.answered - self.first >= after_s


class Bucket(KBucket):  # type: ignore[misc] # the library is untyped
    """At most `ksize` contacts, the longest known first, and few of each prefix."""

    def __init__(self, low: int, high: int, limits: DhtLimits) -> None:
        super().__init__(low, high, limits.bucket)
        self._limits: DhtLimits = limits
        self.max_replacement_nodes = limits.replacements
        self.looked_up = 0.0  # Unix seconds

    def split(self) -> tuple[Bucket, Bucket]:
        low, high = self.range
        middle = (low + high) // 2
        halves = Bucket(low, middle, self._limits), Bucket(middle + 1, high, self._limits)
        for each in (*self.nodes.values(), *self.replacement_nodes.values()):
            halves[each.long_id > middle].add_node(each)
        for half in halves:
            half.looked_up = self.looked_up
        return halves

    def add_node(self, contact: DhtContact) -> bool:
        """Whether it has a place; else it may wait for one. Those that live keep theirs."""
        if contact.id in self.nodes:
            if self.nodes[contact.id].address != contact.address and not self.fits(contact):
                return False
            self.nodes[contact.id] = contact
            return True
        self.replacement_nodes.pop(contact.id, None)
        if len(self.nodes) < self.ksize and self.fits(contact):
            self.nodes[contact.id] = contact
            return True
        if _of_prefix(self.replacement_nodes, contact) < self._limits.per_prefix:
            self.replacement_nodes[contact.id] = contact
            if len(self.replacement_nodes) > self.max_replacement_nodes:
                self.replacement_nodes.popitem(last=False)
        return False

    def fits(self, contact: DhtContact) -> bool:
        """Whether its prefix has room here."""
        return _of_prefix(self.nodes, contact) < self._limits.per_prefix

    def remove_node(self, contact: DhtContact) -> None:
        """The newest of those who wait and fit takes its place."""
        self.replacement_nodes.pop(contact.id, None)
        if self.nodes.pop(contact.id, None) is None:
            return
        for waiting in reversed(list(self.replacement_nodes.values())):
            if self.fits(waiting):
                self.add_node(waiting)
                return

    @property
    def full(self) -> bool:
        return len(self.nodes) >= self._limits.bucket


def _of_prefix(contacts: dict[bytes, DhtContact], like: DhtContact) -> int:
    if like.prefix is None:
        return 0
    prefix = like.prefix
    return sum(each.prefix == prefix and each.id != like.id for each in contacts.values())


class Table(RoutingTable):  # type: ignore[misc] # the library is untyped
    """Buckets in the order of their ranges, split only around ourselves. Times: Unix seconds."""

    buckets: list[Bucket]

    def __init__(self, own: DhtId, limits: DhtLimits) -> None:
        self._limits = limits
        self._seen: dict[bytes, _Seen] = {}
        self._good: set[bytes] = set()  # proven, and answered last time
        self._last_answer = 0.0
        super().__init__(None, limits.bucket, Node(own))

    def flush(self) -> None:
        self.buckets = [Bucket(0, 2**_BITS - 1, self._limits)]
        self._highs = [self.buckets[0].range[1]]

    def split_bucket(self, index: int) -> None:
        super().split_bucket(index)
        halves = self.buckets[index : index + 2]
        self._highs[index : index + 1] = [each.range[1] for each in halves]
        for half in halves:
            self._see_promoted(half)

    def get_bucket_for(self, node: Any) -> int:
        return bisect.bisect_left(self._highs, node.long_id)

    def bucket_of(self, place: int) -> Bucket:
        return self.buckets[bisect.bisect_left(self._highs, place)]

    def __len__(self) -> int:
        return sum(len(bucket.nodes) for bucket in self.buckets)

    def __iter__(self) -> Iterator[DhtContact]:
        for bucket in self.buckets:
            yield from bucket.nodes.values()

    def get(self, id: bytes) -> DhtContact | None:
        found: DhtContact | None = self.bucket_of(int.from_bytes(id, "big")).nodes.get(id)
        return found

    def wants(self, contact: DhtContact) -> bool:
        """Whether asking it could bring it into the table, or among those who wait."""
        if contact.id == self.node.id or self.get(contact.id) == contact:
            return False
        bucket = self.bucket_of(contact.long_id)
        waiting = bucket.replacement_nodes
        if bucket.full and not bucket.has_in_range(self.node):
            return len(waiting) < bucket.max_replacement_nodes and contact.id not in waiting
        return bool(bucket.fits(contact))

    def answered(self, contact: DhtContact, now: float) -> None:
        """It answered a request of ours: it gets a place, or waits for one."""
        self._last_answer = now
        if contact.id == self.node.id:
            return
        index = self.get_bucket_for(contact)
        while (
            self.buckets[index].full
            and contact.id not in self.buckets[index].nodes
            and self.buckets[index].has_in_range(self.node)
        ):
            self.split_bucket(index)
            index = self.get_bucket_for(contact)
        known = self.get(contact.id)
        if self.buckets[index].add_node(contact):
            before = self._seen.get(contact.id) if known == contact else None
            seen = _Seen(now if before is None else before.first, now)
            self._seen[contact.id] = seen
            if seen.proven(self._limits.proven_s):
                self._good.add(contact.id)
            else:
                self._good.discard(contact.id)

    def failed(self, contact: DhtContact, now: float) -> None:
        """It did not answer. After some failures it goes, unless nobody answers: that is us."""
        seen = self._seen.get(contact.id)
        if seen is None or self.get(contact.id) != contact:
            return
        if not seen.failures:
            seen.failed_since = now
        seen.failures += 1
        self._good.discard(contact.id)
        if seen.failures >= self._limits.failures and self._last_answer >= seen.failed_since:
            self.remove_contact(contact)

    def remove_contact(self, node: Any) -> None:
        bucket = self.bucket_of(node.long_id)
        bucket.remove_node(node)
        self._seen.pop(node.id, None)
        self._good.discard(node.id)
        self._see_promoted(bucket)

    def _see_promoted(self, bucket: Bucket) -> None:
        """Those who waited answered once, some time ago: they are asked soon."""
        for id in bucket.nodes:
            self._seen.setdefault(id, _Seen(0.0, 0.0))

    def nearest(self, target: int, count: int) -> list[DhtContact]:
        """Nearest first; then the nearest of those that are unproven or failed last time."""
        found: list[DhtContact] = []
        others: list[DhtContact] = []
        good = self._good
        # A bucket's members share the bits in which its range is nearer than the next bucket's.
        for bucket in sorted(self.buckets, key=lambda each: _distance_to_range(each, target)):
            near = sorted(bucket.nodes.values(), key=lambda each: each.long_id ^ target)
            found += [each for each in near if each.id in good]
            if len(found) >= count:
                return found[:count]
            others += [each for each in near if each.id not in good]
        return (found + others)[:count]

    def stale(self, now: float, count: int) -> list[DhtContact]:
        """Whom to ask whether they live: failed, unproven, then those silent for longest."""
        proven_s, stale_s = self._limits.proven_s, self._limits.stale_s
        waiting = []
        for id, seen in self._seen.items():
            proven = seen.proven(proven_s)
            if seen.failures or now - seen.answered >= (stale_s if proven else proven_s):
                waiting.append((not seen.failures, proven, seen.answered, id))
        found = (self.get(id) for *_, id in heapq.nsmallest(count, waiting))
        return [contact for contact in found if contact is not None]

    def quiet(self, now: float) -> list[Bucket]:
        """Buckets with room that no lookup has touched for `refresh_s`."""
        before = now - self._limits.refresh_s
        return [each for each in self.buckets if not each.full and each.looked_up <= before]


def _distance_to_range(bucket: Bucket, target: int) -> int:
    low, high = bucket.range
    return int((low ^ target) & ~(low ^ high))
