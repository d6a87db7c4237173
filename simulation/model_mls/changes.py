"""What a commit makes of a group: the leaves and extensions after it (RFC 9420 section 12.4)."""

from __future__ import annotations

from hashlib import blake2b
from itertools import count
from typing import Final, NamedTuple

import mls_rs

from simulation.model_mls import wire
from simulation.model_mls.values import Commit, Member, fault
from simulation.model_mls.wire import CommitContent, Extensions, Leaf, Tree

KNOWN_TO_ALL: Final = frozenset(range(1, 6))
"""RFC 9420 section 7.2: extension types that no leaf lists."""
LEAF_KEY: Final = 16  # bytes of it that differ


class Step(NamedTuple):
    tree: Tree
    extensions: Extensions
    effect: Commit


def step(
    suite: int, tree: Tree, extensions: Extensions, content: CommitContent, own_index: int
) -> Step:
    """Applies a commit's content to what was before it. Raises InvalidCommit, DecodeError or
    AuthenticationFailed (a forged KeyPackage)."""
    committer = leaf_at(tree, content.leaf)
    if committer is None:
        raise fault(mls_rs.AuthenticationFailed, "invalid-signature", "by no leaf of this group")
    leaves = list(tree)
    removed = []
    for index in content.remove:
        if index == content.leaf:
            raise fault(mls_rs.InvalidCommit, "committer-self-removal")
        gone = leaves[index] if index < len(leaves) else None
        if gone is None:
            raise fault(mls_rs.InvalidCommit, "leaf-not-found", f"leaf {index}")
        removed.append(member(index, gone))
        leaves[index] = None
    leaves[content.leaf] = Leaf(
        committer.signature_key,
        committer.credential,
        blake2b(content.entropy, digest_size=LEAF_KEY).digest().ljust(len(committer.key), b"\0"),
        committer.extension_types,
    )
    added = [member(*_place(leaves, _leaf(suite, message))) for message in content.add]
    if len({leaf.signature_key for leaf in leaves if leaf}) != sum(map(bool, leaves)):
        raise fault(mls_rs.InvalidCommit, "duplicate-leaf", "one signature key at two leaves")
    while leaves[-1] is None:
        leaves.pop()
    after = extensions if content.extensions is None else content.extensions
    newcomers = [leaves[found.index] for found in added]
    require_support(after, newcomers if after == extensions else leaves)
    effect = Commit(
        committer=member(content.leaf, committer),
        epoch=content.epoch + 1,
        added=added,
        removed=removed,
        updated_extensions=content.extensions is not None,
        removes_me=own_index in content.remove,
        authenticated_data=content.authenticated_data,
    )
    return Step(tuple(leaves), after, effect)


def _leaf(suite: int, message: bytes) -> Leaf:
    package = wire.package(message)
    if package.suite != suite:
        raise fault(mls_rs.InvalidCommit, "wrong-suite")
    return package.leaf


def _place(leaves: list[Leaf | None], leaf: Leaf) -> tuple[int, Leaf]:
    """Each added leaf takes the leftmost blank one (RFC 9420 section 12.1.1)."""
    index = next(i for i in count() if i >= len(leaves) or leaves[i] is None)
    leaves[index : index + 1] = [leaf]
    return index, leaf


def require_support(extensions: Extensions, leaves: Tree | list[Leaf | None]) -> None:
    """Raises InvalidCommit `unsupported-group-extension`."""
    for kind, _ in extensions:
        if kind not in KNOWN_TO_ALL and any(
            leaf is not None and kind not in leaf.extension_types for leaf in leaves
        ):
            raise fault(mls_rs.InvalidCommit, "unsupported-group-extension", f"type {kind}")


def leaf_at(tree: Tree, index: int) -> Leaf | None:
    return tree[index] if index < len(tree) else None


def member(index: int, leaf: Leaf) -> Member:
    return Member(index, leaf.signature_key, leaf.credential)


def members(tree: Tree) -> list[Member]:
    return [member(index, leaf) for index, leaf in enumerate(tree) if leaf is not None]
