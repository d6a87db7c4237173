"""Whom one path of a lookup asks next: the nearest it heard of, few of them of one owner."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kademlia.node import NodeHeap

from discovery.dht.contact import DhtContact


@dataclass(frozen=True, slots=True)
class Origin:
    """Who told of a contact, and how many were asked one after the other to hear of it.

    `root`: with which of the contacts known before the lookup that chain of words began; None for
    those themselves.
    """

    teller: DhtContact | None
    hops: int
    root: bytes | None = None


Asked = set[bytes | DhtContact]
"""Ids of whom any path asks or has asked, and contacts (id and address) that did not answer."""


class Shortlist(NodeHeap):  # type: ignore[misc] # the library is untyped
    """A heap of at most `capacity` contacts, nearest first, of which `maxsize` count.

    A sorted list is a heap: kept sorted, iterating needs no copy, and ids answer membership, for
    which the library searches all of it.

    Of those that count, half may come from the word of one root alone: a liar tells of its friends
    only, each nearer than the last, and they would be all that the path sees. Whom two roots tell
    of is nobody's in particular.
    """

    def __init__(self, target: int, maxsize: int, capacity: int, per_prefix: int) -> None:
        super().__init__(None, maxsize)
        self._target = target
        self._capacity = capacity
        self._per_prefix = per_prefix
        self._per_root = maxsize // 2
        self._ids: dict[bytes, DhtContact] = {}
        self.origins: dict[bytes, Origin] = {}
        self._roots: dict[bytes, bytes | None] = {}
        self.failed: set[bytes] = set()

    def offer(self, contacts: Iterable[DhtContact], origin: Origin) -> int:
        """Takes those in that are new; how many are."""
        new = 0
        for contact in contacts:
            known = self._ids.get(contact.id)
            if known is not None:
                if self._roots[contact.id] != origin.root:
                    self._roots[contact.id] = None
                if contact.id not in self.failed or known.address == contact.address:
                    continue
                self._drop(known)  # somebody told a wrong address for it first
            entry = (contact.long_id ^ self._target, contact)
            bisect.insort(self.heap, entry)
            self._ids[contact.id] = contact
            self.origins[contact.id] = origin
            self._roots[contact.id] = origin.root
            new += 1
            if len(self.heap) > self._capacity:
                self._drop(self._one_too_many())
        return new

    def _one_too_many(self) -> DhtContact:
        """The farthest of the root that told of most: a flood does not wash the others away."""
        told = Counter(root for root in self._roots.values() if root is not None)
        root = max(told, key=told.__getitem__, default=None)
        contact: DhtContact
        for _, contact in reversed(self.heap):
            if self._roots[contact.id] == root:
                return contact
        raise AssertionError("every contact has a root, or is one")

    def _drop(self, contact: DhtContact) -> None:
        del self.heap[bisect.bisect_left(self.heap, (contact.long_id ^ self._target,))]
        del self._ids[contact.id], self.origins[contact.id], self._roots[contact.id]
        self.failed.discard(contact.id)

    def __contains__(self, contact: DhtContact) -> bool:
        return contact.id in self._ids

    def next(self, asked: Asked) -> DhtContact | None:
        """The nearest to ask, or None when the nearest `maxsize` that answer have been asked.

        Those of other paths do not count here.
        """
        waiting: DhtContact | None = None  # whose root has had its share
        counted = beyond = 0  # asked, within their root's share and beyond it
        prefixes: Counter[bytes] = Counter()
        roots: Counter[bytes] = Counter()
        contact: DhtContact
        for _, contact in self.heap:
            ours = contact.id in self.contacted
            if contact.id in self.failed:
                continue
            if not ours and (contact.id in asked or contact in asked):
                continue
            if contact.prefix is not None:
                if prefixes[contact.prefix] >= self._per_prefix:
                    continue
                prefixes[contact.prefix] += 1
            root = self._roots[contact.id]
            if root is not None:
                if roots[root] >= self._per_root:
                    if ours:
                        beyond += 1
                    else:
                        waiting = waiting or contact
                    continue
                roots[root] += 1
            if not ours:
                return contact
            counted += 1
            if counted == self.maxsize:
                return None
        return waiting if counted + beyond < self.maxsize else None
