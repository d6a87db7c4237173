"""Ways into the branches of a group: what this device holds, and what it can process from there."""

from __future__ import annotations

from node.engine.core import Core
from node.engine.groups.fork_choice import Tree
from node.engine.values import HOLDING
from node.store.groups import GroupRow
from schemas.ids import CommitHash


class Ways:
    """Held are the epoch we stand in and those we have snapshots of."""

    def __init__(self, core: Core, row: GroupRow, tree: Tree) -> None:
        self._me = core.device.public
        self._tree = tree
        self._commits = core.branches.commits(row.id)
        self.snapshots = core.branches.snapshots(row.id)
        self.welcomes = core.branches.welcomes(row.id)
        stands = {row.head} if row.status in HOLDING else set()
        self._held = self.snapshots.keys() | stands
        self._connected = [commit for commit in self._held if tree.connected(commit)]

    def holds(self, commit: CommitHash) -> bool:
        """The epoch that it opened: what follows on it can be checked."""
        return commit in self._held

    def is_proven(self, commit: CommitHash) -> bool:
        """We were there, are invited there, or made it."""
        known = self._commits.get(commit)
        return (
            commit in self._held
            or commit in self.welcomes
            or (
                known is not None
                and known.header is not None
                and (known.entered is not None or known.header.author == self._me)
            )
        )

    def held_below(self, commit: CommitHash) -> bool:
        """We hold an epoch of that branch, at this commit or further down."""
        return any(self._tree.is_below(held, commit) for held in self._connected)

    def leads_to(self, commit: CommitHash) -> bool:
        """That branch can be entered: held, processed from what is held, or with a Welcome."""
        return self.held_below(commit) or self.to(commit) is not None

    def to(self, target: CommitHash) -> tuple[CommitHash, tuple[CommitHash, ...]] | None:
        """(where to start, commits to process from there in order), or None."""
        steps: list[CommitHash] = []
        at = target
        while at not in self._held and at not in self.welcomes:
            commit = self._commits.get(at)
            if commit is None or commit.header is None or not commit.here or at == self._tree.root:
                return None
            if commit.header.author == self._me:
                return None  # MLS does not process what it made itself
            if any(member.device == self._me for member in commit.header.added):
                return None  # it gives us a new leaf: only its Welcome leads there
            steps.append(at)
            at = commit.parent
        return at, tuple(reversed(steps))

    def exit(self, target: CommitHash) -> CommitHash | None:
        """The commit on the way to `target` that removes us; None when we never were in there."""
        removal = None
        for commit in reversed(self._tree.path(target)):
            if self._me in self._tree.members(commit):
                return removal
            removal = commit
        return None
