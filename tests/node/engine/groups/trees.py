"""Trees of commits in few words: a commit is a number (its hash; 0 has no header), a device a name.

`ada` and `ada/2` are two devices of one person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

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
_dice = st.randoms(use_true_random=True)  # one draw a tree: single ones take ten times as long


@st.composite
def histories(draw: st.DrawFn) -> list[Node]:
    """Commits on a group that FOUNDERS began, most of them valid, many of them siblings."""
    size, dice = draw(st.integers(1, 16)), draw(_dice)
    numbers = dice.sample(range(1, 999), size)
    there = {0: set(FOUNDERS.split())}
    nodes = []
    for index, number in enumerate(numbers):
        parent = dice.choice([0, *numbers][max(0, index - 3) : index + 1])
        before = there[parent]
        author = dice.choice(sorted(before)) if before else "eve"
        others, absent = sorted(before - {author}), sorted({*PEOPLE.split()} - before)
        add, remove = set(), set()
        kind = dice.choice(["", "", "", "", "add", "remove", "both", "readmit", "lie"])
        if kind in ("add", "both") and absent:
            add.add(dice.choice(absent))
        if kind in ("remove", "both") and others:
            remove.add(dice.choice(others))
        if kind == "readmit":
            remove = add = set(others[:1])
        if kind == "lie":
            author, *changed = dice.choices(PEOPLE.split(), k=3)
            add, remove = set(changed[:1]), set(changed[1:])
        there[number] = before - remove | add
        nodes.append(made(number, parent, author, add=" ".join(add), remove=" ".join(remove)))
    return nodes


@st.composite
def ballots(draw: st.DrawFn, nodes: Sequence[Node]) -> Votes:
    """Statements for known commits, for the start, and for one that nobody knows."""
    dice = draw(_dice)
    commits = [at(0), at(1000), *(node.hash for node in nodes), *(node.hash for node in nodes)]
    speakers = dice.sample(PEOPLE.split(), dice.randint(0, 8))
    two_faced = dice.sample(PEOPLE.split(), dice.choice([0, 0, 1, 2]))
    return Votes(
        {device(name): dice.choice(commits) for name in speakers},
        frozenset(device(name) for name in two_faced),
    )


garbage = st.lists(
    st.builds(made, st.integers(0, 9), st.integers(0, 9), _names, add=_names, remove=_names)
    | st.builds(made, st.integers(0, 9), st.integers(0, 9), _names),
    max_size=30,
)


def head(among: Tree, votes: Votes) -> int:
    return int.from_bytes(choose(among, votes, everything), "big")
