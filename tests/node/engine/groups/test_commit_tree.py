"""The tree of headers: who is a member where, which commits are valid, and what lies cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from node.engine.groups.fork_choice import Node, Tree
from tests.node.engine.groups.trees import (
    FOUNDERS,
    GROUP,
    at,
    device,
    garbage,
    histories,
    made,
    roster,
    tree,
)


def test_members_of_every_epoch_follow_from_those_of_one() -> None:
    nodes = [
        made(1, 0, "ada", add="bob"),
        made(2, 1, "bob", add="cy"),
        made(3, 2, "ada", remove="bob"),
        made(4, 2, "cy", add="bob", remove="bob"),
    ]
    rosters = {0: "ada", 1: "ada bob", 2: "ada bob cy", 3: "ada cy", 4: "ada bob cy"}
    for anchor, names in rosters.items():
        known = tree(names, *nodes, anchor=anchor)
        assert known.root == at(0)
        for number, there in rosters.items():
            assert known.members(at(number)) == roster(there)


def test_the_root_is_the_parent_that_the_oldest_header_names() -> None:
    """A fork of the very first epoch that one knows is a fork."""
    known = tree("ada bob", made(5, 4, "ada"), made(6, 4, "bob"), anchor=5)
    assert known.root == at(4)
    assert known.forks() == (at(4),)
    assert known.node(at(4)) is None
    assert at(4) in known
    assert at(3) not in known


def test_the_root_can_be_set() -> None:
    nodes = [made(n, n - 1, "ada") for n in range(1, 9)]
    known = Tree(GROUP, nodes, anchor=at(7), members=roster("ada"), root=at(3))
    assert known.path(at(8)) == tuple(at(n) for n in range(3, 9))
    assert not known.connected(at(2))
    assert Tree(GROUP, nodes, anchor=at(7), members=roster("ada"), root=at(77)).root == at(0)


def test_paths() -> None:
    known = tree("ada", made(1, 0, "ada"), made(2, 1, "ada"), made(3, 1, "ada"), made(4, 3, "ada"))
    assert known.path(at(4)) == (at(0), at(1), at(3), at(4))
    assert known.common(at(2), at(4)) == known.common(at(4), at(2)) == at(1)
    assert known.common(at(1), at(4)) == at(1)
    assert known.is_below(at(4), at(1))
    assert known.is_below(at(1), at(1))
    assert not known.is_below(at(1), at(4))
    assert not known.is_below(at(2), at(3))
    assert known.height(at(0)) == 3
    for what in (known.path, known.members, known.children):
        with pytest.raises(KeyError):
            what(at(9))


def test_orphans_are_those_that_older_headers_may_connect() -> None:
    nodes = [made(1, 0, "ada"), made(9, 8, "ada"), made(10, 9, "ada"), made(5, 1, "eve")]
    known = tree("ada", *nodes)
    assert known.orphans() == (at(9), at(10))  # 5 is a stranger's: nothing will mend it
    assert tree("ada", *nodes, made(8, 1, "ada")).orphans() == ()


@pytest.mark.parametrize(
    "lie",
    [
        made(1, 0, "eve"),
        made(1, 0, "ada", remove="ada"),
        made(1, 0, "ada", remove="eve"),  # else whoever names a phantom wins the tie of removals
        made(1, 0, "ada", add="bob"),
        made(1, 0, "ada", add="eve eve"),
        made(1, 0, "ada", remove="bob bob"),
    ],
    ids=["stranger", "herself", "phantom", "already-there", "twice", "removed-twice"],
)
def test_what_does_not_fit_the_members_is_no_commit(lie: Node) -> None:
    known = tree("ada bob", lie, made(2, 1, "ada"), made(3, 0, "bob"))
    assert known.children(at(0)) == (at(3),)
    assert not known.connected(at(2))
    assert known.node(at(1)) == lie
    assert known.orphans() == ()


def test_a_member_may_readmit_itself() -> None:
    assert tree("ada", made(1, 0, "ada", add="ada", remove="ada")).connected(at(1))


def test_the_chain_ends_at_a_header_that_does_not_fit_who_is_there() -> None:
    """Nobody checks what is told of the time before one joined: it must not spoil the rest."""
    nodes = [made(1, 0, "ada", add="bob"), made(2, 1, "bob"), made(3, 2, "ada")]
    assert tree("ada bob", *nodes, anchor=3).root == at(0)
    assert tree("ada cy", *nodes, anchor=3).root == at(2)  # bob was not there, so 2 is not his
    assert tree("cy", *nodes, anchor=3).root == at(3)
    of_a_stranger = tree("ada bob", made(3, 2, "eve", add="bob"), anchor=3)
    assert of_a_stranger.members(of_a_stranger.root) == roster("ada bob")


def test_of_two_headers_for_one_commit_everybody_takes_the_same() -> None:
    one, other = made(1, 0, "ada"), made(1, 0, "bob", add="eve")
    ways = {tree("ada bob", *order).nodes[at(1)] for order in [(one, other), (other, one, other)]}
    assert len(ways) == 1


def test_a_deep_chain_and_a_wide_one() -> None:
    """No recursion: a thousand and more epochs are nothing unusual."""
    nodes = [made(n, n - 1, "ada") for n in range(1, 5000)]
    nodes += [made(n, 0, "ada") for n in range(5000, 8000)]
    known = tree("ada", *nodes, anchor=4999)
    assert known.height(at(0)) == 4999
    assert len(known.children(at(0))) == 3001


@given(garbage)
@settings(max_examples=300, deadline=None)
def test_any_headers_make_a_tree(nodes: list[Node]) -> None:
    """Commits that name each other as parent, themselves, or a second parent."""
    for anchor in (0, 5):
        known = tree(FOUNDERS, *nodes, anchor=anchor)
        reached = [hash_ for hash_ in (at(n) for n in range(10)) if known.connected(hash_)]
        assert at(anchor) in reached
        for hash_ in reached:
            path = known.path(hash_)
            assert (path[0], path[-1]) == (known.root, hash_)
            assert len(set(path)) == len(path)
            members = known.members(hash_)
            for child in known.children(hash_):
                assert known.nodes[child].author in members
        assert not set(known.orphans()) & set(reached)


@given(histories())
@settings(max_examples=200, deadline=None)
def test_from_every_anchor_the_same_tree_is_seen(nodes: list[Node]) -> None:
    """Members stand on different commits: what they agree on must not depend on that."""
    known = tree(FOUNDERS, *nodes)
    everywhere = [at(0), *(node.hash for node in nodes if known.connected(node.hash))]
    for anchor in everywhere:
        mine = Tree(GROUP, nodes, anchor=anchor, members=known.members(anchor))
        assert mine.root == at(0)
        assert mine.forks() == known.forks()
        for hash_ in everywhere:
            assert mine.members(hash_) == known.members(hash_)
            assert mine.children(hash_) == known.children(hash_)
        assert device("ada") in mine.members(at(0))
