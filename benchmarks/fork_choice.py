"""Choosing a group's chain: the tree built from headers and the choice made, as for each change."""

from __future__ import annotations

import hashlib
import random
import time

from benchmarks.report import Row
from node.engine.groups.fork_choice import Node, Tree, Votes, choose
from schemas.ids import CommitHash, DeviceKey, GroupId, IdentityKey

VOTERS = 50
_GROUP = GroupId(bytes(16))


def _commit(number: int) -> CommitHash:
    return CommitHash(hashlib.sha256(b"commit %d" % number).digest())


def _device(number: int) -> DeviceKey:
    return DeviceKey(hashlib.sha256(b"device %d" % number).digest())


_MEMBERS = {_device(n): IdentityKey(bytes(_device(n))) for n in range(VOTERS)}


def _line(commits: int) -> tuple[list[Node], Votes]:
    nodes = [Node(_commit(n), _commit(n - 1), _device(n % VOTERS)) for n in range(1, commits + 1)]
    return nodes, Votes(dict.fromkeys(_MEMBERS, _commit(commits)))


def _bush(commits: int) -> tuple[list[Node], Votes]:
    """Every commit on one of the four before it, everybody on one of the last ten."""
    dice = random.Random(1)
    nodes = [
        Node(_commit(n), _commit(dice.randint(max(0, n - 4), n - 1)), dice.choice([*_MEMBERS]))
        for n in range(1, commits + 1)
    ]
    return nodes, Votes({one: _commit(commits - dice.randrange(10)) for one in _MEMBERS})


def _flood(siblings: int) -> tuple[list[Node], Votes]:
    """One member's commits on one parent, and each voter on another one."""
    nodes = [Node(_commit(n), _commit(0), _device(0)) for n in range(1, siblings + 1)]
    return nodes, Votes({one: _commit(n + 1) for n, one in enumerate(_MEMBERS)})


def _best_ms(nodes: list[Node], votes: Votes, repeats: int) -> tuple[Tree, float]:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        tree = Tree(_GROUP, nodes, anchor=nodes[-1].hash, members=_MEMBERS)
        choose(tree, votes)
        best = min(best, time.perf_counter() - start)
    return tree, best * 1000


def rows(quick: bool) -> list[Row]:
    repeats = 10 if quick else 100
    found = []
    for what, (nodes, votes), target in (
        ("100 commits, much forked", _bush(100), 2.0),
        ("1,000 commits in a line", _line(1000), None),
        ("10,000 siblings by one member", _flood(10_000), None),
    ):
        tree, best = _best_ms(nodes, votes, repeats)
        found.append(
            Row(
                f"tree and choice: {what}",
                best,
                "ms",
                target=target,
                of="value",
                at_least=False,
                note=f"{VOTERS} voters, {len(tree.forks())} forks; best of {repeats}",
            )
        )
    return found
