"""Entering a branch: commits are checked where we hold the epoch before them, then followed.

What turns out to be no good is remembered, so that it is neither chosen nor tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import mls_rs

from node.engine.core import Core, GroupDamaged
from node.engine.groups.epochs import Epochs
from node.engine.groups.fork_choice import Tree
from node.engine.groups.ways import Ways
from node.engine.groups.welcome import Welcomes
from node.engine.values import GroupStatus
from node.store.groups import GroupRow
from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.group_records import CommitHeader
from schemas.ids import CommitHash, GroupId
from schemas.parcels import CommitContent

LIES = 1024  # remembered, so that they are not tried again and again
RIVALS = 4  # headers that contradict each other about one commit


# What no other parent would make good; anything else may be the header's lie about the parent.
_BAD_WHEREVER = (mls_rs.RefusedByRules, mls_rs.InvalidCommit, mls_rs.CredentialRefused)


class NoWay(Fault):
    """A branch cannot be entered as it seemed: its commit, or a Welcome to it, is no good."""

    def __init__(self, commit: CommitHash, error: Fault | mls_rs.MlsError, what: str) -> None:
        super().__init__(error.code, f"a bad {what}", blame=Blame.PEER)
        self.commit = commit
        self.what = what  # "commit", "header" or "welcome"


class Entering:
    def __init__(self, core: Core, epochs: Epochs, welcomes: Welcomes) -> None:
        self._core = core
        self._epochs = epochs
        self._welcomes = welcomes
        self._checked: set[tuple[GroupId, CommitHash]] = set()
        self._lies: set[tuple[GroupId, CommitHeader]] = set()
        self._rivals: defaultdict[
            tuple[GroupId, CommitHash], list[tuple[CommitHeader, CommitContent]]
        ] = defaultdict(list)

    def is_lie(self, group: GroupId, header: CommitHeader) -> bool:
        """It was found to contradict its commit."""
        return (group, header) in self._lies

    def note_rival(self, group: GroupId, header: CommitHeader, content: CommitContent) -> None:
        """Another header of one commit: one of the two lies, and its bytes will tell."""
        rivals = self._rivals[group, header.commit]
        if len(rivals) < RIVALS and all(header != other for other, _ in rivals):
            rivals.append((header, content))

    def condemn(self, group: GroupId, found: NoWay) -> None:
        """So that it is not tried again."""
        branches = self._core.branches
        self._core.count(f"bad-{found.what}-{found.code}")
        rivals = self._rivals.pop((group, found.commit), [])
        match found.what:
            case "commit":
                branches.set_invalid(group, found.commit, found.code)
            case "welcome":
                branches.drop_welcome(group, found.commit)
            case "header":
                known = branches.commits(group).get(found.commit)
                if known is not None and known.header is not None:
                    if len(self._lies) >= LIES:
                        self._lies.clear()
                    self._lies.add((group, known.header))
                branches.drop(group, found.commit)
                if rivals:
                    header, content = rivals.pop(0)
                    branches.add(group, header, content.header, content.mls, self._core.now)
                    self._rivals[group, found.commit] = rivals

    def is_checked(self, group: GroupId, commit: CommitHash) -> bool:
        return (group, commit) in self._checked

    def check(self, row: GroupRow, tree: Tree, ways: Ways) -> None:
        """Every commit whose bytes are here, on branches that leave an epoch we hold: no choice
        goes by one that cannot be entered, or by a header that lies about it. Raises NoWay."""
        core = self._core
        commits = core.branches.commits(row.id)
        states: dict[CommitHash, mls_rs.Group | None] = {}
        for commit in sorted(commits.values(), key=lambda one: (one.epoch, one.hash)):
            if (
                commit.header is None
                or not commit.here
                or ways.is_proven(commit.hash)
                or (row.id, commit.hash) in self._checked
                or not tree.connected(commit.hash)
                or commit.hash == tree.root
            ):
                continue
            before = self._state_at(row, tree, ways, commit.parent, states)
            if before is None:
                continue
            after = before.clone()
            header, content = self._content(row, commit.hash)
            self._try(commit.hash, partial(self._epochs.check, row, after, header, content))
            states[commit.hash] = after if after.active else None
            self._checked.add((row.id, commit.hash))

    def _state_at(
        self,
        row: GroupRow,
        tree: Tree,
        ways: Ways,
        commit: CommitHash,
        states: dict[CommitHash, mls_rs.Group | None],
    ) -> mls_rs.Group | None:
        """The group as it was in that epoch: held, or processed on the side. None for neither."""
        steps: list[CommitHash] = []
        at = commit
        while at not in states:
            held = self._held(row, ways, at)
            if held is not None:
                states[at] = held
                break
            if (row.id, at) not in self._checked or at == tree.root:
                return None
            steps.append(at)
            at = tree.nodes[at].parent
        for step in reversed(steps):
            before = states[tree.nodes[step].parent]
            if before is None:
                return None
            after = before.clone()
            header, content = self._content(row, step)
            self._try(step, partial(self._epochs.check, row, after, header, content))
            states[step] = after if after.active else None
        return states[commit]

    def _held(self, row: GroupRow, ways: Ways, commit: CommitHash) -> mls_rs.Group | None:
        core = self._core
        if commit == row.head and row.status != GroupStatus.REMOVED:
            return core.mls_group(row.id).clone()
        snapshot = ways.snapshots.get(commit)
        state = snapshot and core.groups.snapshot_state(row.id, snapshot.epoch_id)
        return core.mls.load_group(row.id, *state) if state else None

    @staticmethod
    def _try(commit: CommitHash, action: Callable[[], object]) -> None:
        """Raises NoWay where a commit, or what its header says, is no good."""
        try:
            action()
        except GroupDamaged:
            raise
        except (Refused, *_BAD_WHEREVER) as error:
            raise NoWay(commit, error, "commit") from error
        except (Fault, mls_rs.MlsError) as error:
            raise NoWay(commit, error, "header") from error

    def move(self, row: GroupRow, ways: Ways, target: CommitHash) -> None:
        """To a commit, from the nearest place on its path that we hold or have a Welcome to."""
        way = ways.to(target)
        if way is None:
            raise Malformed("no-way", "a branch that cannot be entered")
        start, steps = way
        out = row.status == GroupStatus.REMOVED
        if start in ways.snapshots and (out or start != row.head):
            self._epochs.go_back(row, ways.snapshots[start])
        elif start in ways.welcomes and start != row.head:
            self._enter_by_welcome(row, start)
        for commit in steps:
            header, content = self._content(row, commit)
            self._try(commit, partial(self._epochs.follow, row, header, content))

    def _content(self, row: GroupRow, commit: CommitHash) -> tuple[CommitHeader, CommitContent]:
        """Raises Malformed."""
        core = self._core
        found = core.branches.content(row.id, commit)
        if found is None:
            raise Malformed("no-way", "a commit that is not here")
        header = CommitHeader.decode(found[0].payload)
        wishes = [core.intents.get(row.id, intent) for intent in header.intents]
        intents = tuple(wish.signed for wish in wishes if wish is not None)
        return header, CommitContent(*found, intents)

    def _enter_by_welcome(self, row: GroupRow, commit: CommitHash) -> None:
        body = self._core.branches.welcome(row.id, commit)
        if body is None:
            raise Malformed("no-way", "a Welcome that is not here")
        try:
            self._welcomes.enter_branch(row, body)
        except (Fault, mls_rs.MlsError) as error:
            raise NoWay(commit, error, "welcome") from error
