"""Fork choice: which of a group's branches is the group. A pure function of two sets.

Commits form a tree by their headers. A device's latest signed statement, "I stand on this
commit", is its vote. From the oldest known header downwards:

    voters(f)    = the identities with a device that is a member of the forking epoch f, one vote
                   each: the child of f that most of its devices support; none when they tie
    weight(f, c) = the voters whose vote is c. A device supports c when its latest statement is c
                   or below c; one with a proof of equivocation supports nothing, and a statement
                   for a commit that is not connected to the root abstains
    kids(f)      = the valid children of f; of an author with more than two of them, the two
                   lowest hashes, and those that the vote of another identity is for
    best(f)      = most weight, then removes somebody, then lower rank of the author, then lower
                   hash; rank = SHA-256(group id | hash of f | device key)
    choose(ok)   = from the root, best(f) among the kids that `ok` allows, until there is none

A child is valid when its author is a member of f, does not remove itself for good, and its changes
fit the members of f: it removes members only and adds none that is there and stays.

Why that converges. The choice depends on the set of headers and on the latest statement of each
device, and on nothing else: no clock, no order of arrival, no own position (the anchor says who
the members of one epoch are; its ancestors' and relatives' follow). Both sets only grow towards
"everything there is" as members meet, so members that hold the same hold the same chain. What is
late, withheld or forged can change the choice only by votes of the members of the forking epoch,
or where no vote is; a member that only reads therefore states its head when it sees a fork.

`Rule` has the turned-down alternatives as options, so that the simulator can show why they were
turned down (docs/convergence.md). The node runs `H`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from node.engine.groups.commit_tree import Node, Tree
from schemas.ids import CommitHash, DeviceKey, GroupId, IdentityKey

__all__ = [
    "RULES",
    "H",
    "Node",
    "Rule",
    "Tree",
    "Votes",
    "choose",
    "everything",
    "rank",
    "undecided",
]

_SIBLINGS: Final = 2  # of one author at one parent; further ones need somebody else's vote


@dataclass(frozen=True, slots=True)
class Votes:
    """What the members said, as far as known."""

    statements: Mapping[DeviceKey, CommitHash]  # the latest of each device
    equivocators: frozenset[DeviceKey] = frozenset()  # two statements with one number are proof


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule's options; the defaults are H. The second half is read by those who act on it."""

    order: Literal["votes", "static", "longest"] = "votes"  # what comes first in best(f)
    voters: Literal["fork", "head", "untargeted"] = "fork"  # untargeted: no sibling removes them
    siblings: Literal["lowest", "first", "void"] = "lowest"  # of an author with more than two
    sticky: bool = False  # a branch must outweigh the anchor's, not equal it

    quiet_s: float = 1.0  # before a switch sideways
    hold: bool = True  # that time counts from the first sight of the fork; else from the last vote
    first_s: float = 10.0  # on a branch for so long: state it before choosing another
    emit: bool = True  # state one's head when a fork is seen; else only on what is sent anyway
    reseal: bool = True  # seal again what a peer cannot read
    final_bound: int | None = None  # never undo more commits than that


H: Final = Rule()
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "H": H,
        "sticky": Rule(sticky=True),
        "final-bound": Rule(final_bound=5),
        "head-voters": Rule(voters="head"),
        "first-siblings": Rule(siblings="first"),
        "void-siblings": Rule(siblings="void"),
        "targets-mute": Rule(voters="untargeted"),
        "static-order": Rule(order="static"),
        "longest-chain": Rule(order="longest"),
        "quiet-reset": Rule(hold=False),
        "state-on-send": Rule(emit=False),
        "state-at-once": Rule(first_s=0.0),
        "no-reseal": Rule(reseal=False),
    }
)


def everything(_: CommitHash) -> bool:
    return True


def choose(
    tree: Tree, votes: Votes, allowed: Callable[[CommitHash], bool] = everything, rule: Rule = H
) -> CommitHash:
    """The head of the group's chain, as far as `allowed` lets one follow it."""
    ballots = _ballots(tree, votes)
    at = tree.root
    while children := tree.children(at):
        if len(children) == 1:
            if not allowed(children[0]):
                break
            at = children[0]
            continue
        opinions = _opinions(tree, at, ballots, rule)
        kids = [kid for kid in _kids(tree, at, opinions, rule) if allowed(kid)]
        if not kids:
            break
        at = kids[0] if len(kids) == 1 else _best(tree, at, kids, opinions, rule)
    return at


def undecided(
    tree: Tree, head: CommitHash, said: CommitHash | None, me: DeviceKey
) -> tuple[CommitHash, ...]:
    """Forks above `head`, oldest first, of whose members I am, and on which `said` takes no side.

    `said`: my latest statement. Raises KeyError when `head` is not connected.
    """
    decided = frozenset(tree.path(said)[:-1] if said is not None and tree.connected(said) else ())
    return tuple(
        fork
        for fork in tree.path(head)[:-1]
        if len(tree.children(fork)) > 1 and fork not in decided and me in tree.members(fork)
    )


def rank(group: GroupId, parent: CommitHash, device: DeviceKey) -> bytes:
    """Of a device among the committers at `parent`; the lower one wins and goes first."""
    return hashlib.sha256(group + parent + device).digest()


def _ballots(tree: Tree, votes: Votes) -> list[tuple[DeviceKey, int]]:
    """Who says anything about this tree, and where: by the numbers of `Tree.span`."""
    return [
        (device, tree.span(commit).start)
        for device, commit in votes.statements.items()
        if device not in votes.equivocators and tree.connected(commit)
    ]


def _opinions(
    tree: Tree, fork: CommitHash, ballots: list[tuple[DeviceKey, int]], rule: Rule
) -> dict[IdentityKey, CommitHash]:
    """The child of the fork that each voter is for."""
    voters = tree.members(tree.anchor if rule.voters == "head" else fork)
    children = tree.children(fork)
    mute: set[DeviceKey] = set()
    if rule.voters == "untargeted":
        for child in children:
            mute |= tree.nodes[child].removed_for_good
    starts = [tree.span(child).start for child in children]
    end = tree.span(fork).stop
    supported: defaultdict[IdentityKey, list[CommitHash]] = defaultdict(list)
    for device, place in ballots:
        if starts[0] <= place < end and device in voters and device not in mute:
            supported[voters[device]].append(children[bisect_right(starts, place) - 1])
    opinions = {}
    for identity, found in supported.items():
        first, *second = Counter(found).most_common(2) if len(found) > 1 else [(found[0], 1)]
        if not second or first[1] > second[0][1]:
            opinions[identity] = first[0]
    return opinions


def _kids(
    tree: Tree, fork: CommitHash, opinions: Mapping[IdentityKey, CommitHash], rule: Rule
) -> list[CommitHash]:
    """The children that stand for election, at most two of each author and one of each voter."""
    of: defaultdict[DeviceKey, list[CommitHash]] = defaultdict(list)
    for child in tree.children(fork):
        of[tree.nodes[child].author].append(child)
    members = tree.members(fork)
    kids = []
    for author, own in of.items():
        if len(own) <= _SIBLINGS:
            kids += own
        elif rule.siblings == "lowest":
            named = {child for identity, child in opinions.items() if identity != members[author]}
            kids += own[:_SIBLINGS] + [child for child in own[_SIBLINGS:] if child in named]
        elif rule.siblings == "first":
            kids += sorted(own, key=list(tree.nodes).index)[:_SIBLINGS]
    return kids


def _best(
    tree: Tree,
    fork: CommitHash,
    kids: list[CommitHash],
    opinions: Mapping[IdentityKey, CommitHash],
    rule: Rule,
) -> CommitHash:
    weight = Counter(opinions.values())
    first: dict[str, Callable[[CommitHash], int]] = {
        "votes": weight.__getitem__,
        "longest": tree.height,
        "static": lambda _: 0,
    }

    def key(kid: CommitHash) -> tuple[int, bool, bool, bytes, bytes]:
        node = tree.nodes[kid]
        return (
            -first[rule.order](kid),
            rule.sticky and not tree.is_below(tree.anchor, kid),
            not node.removed_for_good,
            rank(tree.group, fork, node.author),
            kid,
        )

    return min(kids, key=key)
