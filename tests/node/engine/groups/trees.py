"""Trees of commits in few words: a commit is a number (its hash; 0 has no header), a device a name.

`ada` and `ada/2` are two devices of one person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from node.engine.groups.fork_choice import Node, Tree, Votes, choose, everything, rank
from schemas.group_records import MemberRef
from schemas.ids import CommitHash, DeviceKey, GroupId, IdentityKey

GROUP = GroupId(bytes(16))


def at(number: int) -> CommitHash:
    return CommitHash(number.to_bytes(32, "big"))


def device(name: str) -> DeviceKey:
    return DeviceKey(hashlib.sha256(name.encode()).digest())


def ref(name: str) -> MemberRef:
    person = IdentityKey(hashlib.sha256(b"person " + name.partition("/")[0].encode()).digest())
    return MemberRef(device(name), person)


def roster(names: str) -> dict[DeviceKey, IdentityKey]:
    return {device(name): ref(name).identity for name in names.split()}


def made(number: int, parent: int, by: str, *, add: str = "", remove: str = "") -> Node:
    added, removed = (tuple(ref(name) for name in names.split()) for names in (add, remove))
    return Node(at(number), at(parent), device(by), added, removed)


def tree(names: str, *nodes: Node, anchor: int = 0) -> Tree:
    """`names`: the members at the anchor."""
    return Tree(GROUP, nodes, anchor=at(anchor), members=roster(names))


def said(words: Mapping[str, int], *, two_faced: str = "") -> Votes:
    return Votes(
        {device(name): at(number) for name, number in words.items()},
        frozenset(device(name) for name in two_faced.split()),
    )


def by_rank(parent: int, names: str) -> list[str]:
    """The lower comes first, and wins."""
    return sorted(names.split(), key=lambda name: rank(GROUP, at(parent), device(name)))


# --- made up

PEOPLE = "ada ada/2 ada/3 bob bob/2 cy dan eve"
FOUNDERS = "ada ada/2 ada/3 bob bob/2 cy"
_names = st.sampled_from(PEOPLE.split())


@st.composite
def histories(draw: st.DrawFn, *, most: int = 14) -> list[Node]:
    """Commits on a group that FOUNDERS began, most of them valid, many of them siblings."""
    numbers = draw(st.lists(st.integers(1, 999), unique=True, min_size=1, max_size=most))
    nodes = []
    for index, number in enumerate(numbers):
        parent = [0, *numbers][draw(st.integers(max(0, index - 3), index))]
        changes = {"add": "", "remove": ""}
        for change in draw(st.sampled_from([(), (), (), ("add",), ("remove",), tuple(changes)])):
            changes[change] = draw(_names)
        nodes.append(made(number, parent, draw(_names), **changes))
    return nodes


@st.composite
def ballots(draw: st.DrawFn, nodes: Iterable[Node]) -> Votes:
    """Statements for known commits, for the start, and for one that nobody knows."""
    commits = st.sampled_from([at(0), at(1000), *(node.hash for node in nodes)])
    statements = draw(st.dictionaries(_names.map(device), commits, max_size=len(PEOPLE.split())))
    return Votes(statements, draw(st.frozensets(_names.map(device), max_size=2)))


garbage = st.lists(
    st.builds(made, st.integers(0, 9), st.integers(0, 9), _names, add=_names, remove=_names)
    | st.builds(made, st.integers(0, 9), st.integers(0, 9), _names),
    max_size=30,
)


def head(among: Tree, votes: Votes) -> int:
    return int.from_bytes(choose(among, votes, everything), "big")
