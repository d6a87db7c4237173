"""A group's commits as a tree, by their headers, and who the members of each epoch are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from schemas.group_records import MemberRef
from schemas.ids import CommitHash, DeviceKey, GroupId, IdentityKey


@dataclass(frozen=True, slots=True)
class Node:
    """One commit, by its header. A device in both `added` and `removed` was re-admitted."""

    hash: CommitHash
    parent: CommitHash
    author: DeviceKey
    added: tuple[MemberRef, ...] = ()
    removed: tuple[MemberRef, ...] = ()

    @property
    def removed_for_good(self) -> set[DeviceKey]:
        return {ref.device for ref in self.removed} - {ref.device for ref in self.added}


@dataclass(slots=True)
class _Place:
    """Where a connected commit is: all of its subtree has enter <= place < leave."""

    parent: CommitHash  # the root's: itself
    depth: int
    enter: int
    leave: int
    children: list[CommitHash]  # valid ones, by hash


class Tree:
    """A group's commits as far as known, with the members of each epoch.

    `anchor` is the commit whose exact roster is `members`. It needs no Node, and neither does the
    end of its chain: `root` is the first ancestor of the anchor of which nothing older is known
    (the parent that the oldest header names), or the argument of that name, if it is on the way.
    The chain also ends where a header does not fit the roster, or would come round again.

    Headers are data: cycles, duplicates and lies are harmless here. Of two Nodes with one hash the
    lower one counts. Work and memory are linear in the headers (sorted siblings apart).
    """

    def __init__(
        self,
        group: GroupId,
        nodes: Iterable[Node],
        *,
        anchor: CommitHash,
        members: Mapping[DeviceKey, IdentityKey],
        root: CommitHash | None = None,
    ) -> None:
        self.group = group
        self.anchor = anchor
        self.nodes: dict[CommitHash, Node] = {}  # in order of arrival
        for node in nodes:
            known = self.nodes.setdefault(node.hash, node)
            if known is not node and _order(node) < _order(known):
                self.nodes[node.hash] = node
        self._by_parent: dict[CommitHash, list[CommitHash]] = {}
        for hash_, node in self.nodes.items():
            self._by_parent.setdefault(node.parent, []).append(hash_)
        for siblings in self._by_parent.values():
            siblings.sort()
        roster = dict(members)
        self.root = self._climb(roster, root)
        self._rosters: dict[CommitHash, Mapping[DeviceKey, IdentityKey]] = {
            self.root: MappingProxyType(dict(roster))
        }
        self._places: dict[CommitHash, _Place] = {}
        self._forks: list[CommitHash] = []
        self._descend(roster)

    def _climb(self, roster: dict[DeviceKey, IdentityKey], end: CommitHash | None) -> CommitHash:
        """From the anchor upwards, undoing each commit in the roster. Returns the root."""
        at = self.anchor
        seen = {at}
        while at != end:
            node = self.nodes.get(at)
            if node is None or node.parent in seen or not _swap(roster, node.added, node.removed):
                break
            if not _may_author(node, roster):
                _swap(roster, node.removed, node.added)
                break
            at = node.parent
            seen.add(at)
        return at

    def _descend(self, roster: dict[DeviceKey, IdentityKey]) -> None:
        """From the root down, depth first and siblings by hash: valid commits get their places.

        One roster follows the walk, doing each commit on the way in and undoing it on the way out.
        """
        nodes, places, named = self.nodes, self._places, self._by_parent
        place = places[self.root] = _Place(self.root, 0, 0, 0, [])
        way = [(self.root, place, iter(named.get(self.root, ())))]
        while way:
            at, place, rest = way[-1]
            for hash_ in rest:
                node = nodes[hash_]
                if (
                    hash_ != self.root  # nobody's child, whatever its header says
                    and _may_author(node, roster)
                    and _swap(roster, node.removed, node.added)
                ):
                    place.children.append(hash_)
                    below = places[hash_] = _Place(at, place.depth + 1, len(places), 0, [])
                    way.append((hash_, below, iter(named.get(hash_, ()))))
                    break
            else:
                way.pop()
                place.leave = len(places)
                if len(place.children) > 1:
                    self._forks.append(at)
                if way:
                    _swap(roster, nodes[at].added, nodes[at].removed)

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self.nodes or hash_ == self.root

    def node(self, hash_: CommitHash) -> Node | None:
        return self.nodes.get(hash_)

    def connected(self, hash_: CommitHash) -> bool:
        """Valid commits alone lead from the root to it. What follows raises KeyError if not."""
        return hash_ in self._places

    def path(self, hash_: CommitHash) -> tuple[CommitHash, ...]:
        """root … hash, both included."""
        found = [hash_]
        while found[-1] != self.root:
            found.append(self._places[found[-1]].parent)
        return tuple(reversed(found))

    def span(self, hash_: CommitHash) -> range:
        """The numbers of it (the first) and of all below it, in a walk depth first."""
        place = self._places[hash_]
        return range(place.enter, place.leave)

    def is_below(self, hash_: CommitHash, ancestor: CommitHash) -> bool:
        """Or the same."""
        return self._places[hash_].enter in self.span(ancestor)

    def common(self, a: CommitHash, b: CommitHash) -> CommitHash:
        """The last commit that both have on their path."""
        while not self.is_below(b, a):
            a = self._places[a].parent
        return a

    def height(self, hash_: CommitHash) -> int:
        """Commits from it to its deepest leaf."""
        top = self._places[hash_]
        below = islice(self._places.values(), top.enter, top.leave)  # they lie in that order
        return max(place.depth for place in below) - top.depth

    def children(self, hash_: CommitHash) -> tuple[CommitHash, ...]:
        """The valid ones, by hash."""
        return tuple(self._places[hash_].children)

    def members(self, hash_: CommitHash) -> Mapping[DeviceKey, IdentityKey]:
        """Of that commit's epoch."""
        way: list[Node] = []
        at = hash_
        while (known := self._rosters.get(at)) is None:
            parent = self._places[at].parent
            way.append(self.nodes[at])
            at = parent
        if any(node.added or node.removed for node in way):
            roster = dict(known)
            for node in reversed(way):
                _swap(roster, node.removed, node.added)
            known = MappingProxyType(roster)
        self._rosters[hash_] = known
        return known

    def forks(self) -> tuple[CommitHash, ...]:
        """Connected commits with more than one valid child, ancestors first."""
        return tuple(sorted(self._forks, key=lambda fork: self._places[fork].enter))

    def orphans(self) -> tuple[CommitHash, ...]:
        """Commits that older headers, which are not here, may yet connect; by hash."""
        above = [
            parent
            for parent in self._by_parent
            if parent not in self.nodes and parent not in self._places
        ]
        found: list[CommitHash] = []
        while above:
            named = self._by_parent.get(above.pop(), ())
            below = [hash_ for hash_ in named if hash_ not in self._places]
            found += below
            above += below
        return tuple(sorted(found))


def _order(node: Node) -> tuple[bytes, ...]:
    added, removed = (
        b"".join(ref.device + ref.identity for ref in refs) for refs in (node.added, node.removed)
    )
    return node.parent, node.author, added, removed


def _may_author(node: Node, roster: Mapping[DeviceKey, IdentityKey]) -> bool:
    """`roster`: of the parent."""
    return node.author in roster and (not node.removed or node.author not in node.removed_for_good)


def _swap(
    roster: dict[DeviceKey, IdentityKey], out: tuple[MemberRef, ...], into: tuple[MemberRef, ...]
) -> bool:
    """Takes `out` from the roster and puts `into`; False, and nothing done, where it does not fit.

    With the two exchanged it undoes itself.
    """
    if not out and not into:
        return True
    gone = {ref.device: ref.identity for ref in out}
    come = {ref.device: ref.identity for ref in into}
    if (
        len(gone) != len(out)
        or len(come) != len(into)
        or any(roster.get(device) != identity for device, identity in gone.items())
        or any(device in roster and device not in gone for device in come)
    ):
        return False
    for device in gone:
        del roster[device]
    roster.update(come)
    return True
