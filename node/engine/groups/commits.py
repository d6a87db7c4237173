"""What arrives about a group's commits: in order they move us on, and all are kept for fork choice.

Whatever is not simply the next commit goes to convergence, which chooses at the end of the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from identity.signing import open_signed
from node.engine import branch_tree, requests
from node.engine.core import Core
from node.engine.early import NoRoom
from node.engine.groups.convergence import Convergence
from node.engine.groups.entering import Entering
from node.engine.groups.epochs import Epochs, open_header
from node.engine.groups.intents import Intents
from node.engine.groups.statements import Statements
from node.engine.values import GroupStatus
from node.store.branches import CommitRow
from node.store.groups import GroupRow
from schemas.errors import Fault, Refused
from schemas.group_records import CommitHeader, Statement
from schemas.ids import CommitHash, DeviceKey, EpochId
from schemas.limits import MIB
from schemas.parcels import CommitContent, HeadsContent
from schemas.records import Signed, SignedType

FORK_COMMITS = 256  # never entered, per group: anybody who was a member can make them up
FORK_BYTES = 8 * MIB
SIBLINGS = 4  # of one author at one parent: fork choice hears two, and those that have votes


class Commits:
    def __init__(
        self,
        core: Core,
        epochs: Epochs,
        statements: Statements,
        intents: Intents,
        entering: Entering,
        convergence: Convergence,
    ) -> None:
        self._core = core
        self._epochs = epochs
        self._statements = statements
        self._intents = intents
        self._entering = entering
        self._convergence = convergence

    def receive(self, row: GroupRow, content: CommitContent) -> None:
        """Applies or keeps one commit. Raises Malformed, Refused or MlsError."""
        core = self._core
        header = open_header(content)
        if header.group != row.id:
            raise Refused("wrong-group", "a commit of another group")
        if self._entering.is_lie(row.id, header):
            raise Refused("wrong-header", "a header that its commit contradicts")
        known = core.branches.commits(row.id).get(header.commit)
        if known is not None and (known.here or known.invalid):
            if not known.entered and known.header != header:
                self._entering.note_rival(row.id, header, content)
            return
        if self._is_next(row, header):
            self._epochs.follow(row, header, content)
            kept = core.branches.commits(row.id).values()
            came_before = any(other.parent == header.commit for other in kept)
            self._convergence.look_at(row.id, forks_only=not came_before)
            return
        self._make_room(row, header, len(content.mls))
        core.branches.add(row.id, header, content.header, content.mls, core.now)
        self._intents.keep(row, header, content)
        if header.parent not in core.branches.commits(row.id) and header.parent != row.head:
            core.ahead.add((row.id, header.author))
        self._convergence.look_at(row.id)

    def _is_next(self, row: GroupRow, header: CommitHeader) -> bool:
        """Nothing is to be chosen: it is the only child of where we stand."""
        return (
            header.parent == row.head
            and row.status in (GroupStatus.ACTIVE, GroupStatus.LEAVING)
            and self._convergence.is_settled(row.id)
            and not self._has_child(row)
            and all(member.device != self._core.device.public for member in header.added)
        )

    def _has_child(self, row: GroupRow) -> bool:
        """A commit on the group's head is known."""
        return any(
            other.parent == row.head and other.hash != row.head and other.invalid is None
            for other in self._core.branches.commits(row.id).values()
        )

    def _make_room(self, row: GroupRow, header: CommitHeader, size: int) -> None:
        """Nobody's made-up commits keep out the others'. Raises Refused, or NoRoom for a request
        that was not answered yet."""
        core = self._core
        commits = core.branches.commits(row.id)
        if header.author not in core.branches.devices(row.id):
            raise Refused("not-a-member", "a commit of a stranger")
        strange = [one for one in commits.values() if one.entered is None and one.header]
        needed = self._needed(row, header)
        siblings = [one for one in strange if _is_sibling(one, header) and one.hash not in needed]
        if len(siblings) >= SIBLINGS and header.commit not in needed:
            highest = max(one.hash for one in siblings)
            core.count("too-many-siblings")
            if header.commit > highest:
                raise Refused("too-many-forks", "enough commits of one author on one epoch")
            core.branches.drop(row.id, highest)
            strange = [one for one in strange if one.hash != highest]
        count, total = len(strange), sum(one.size for one in strange) + size
        if requests.is_of_stranger(core, row):
            most_commits, most_bytes = requests.room_for_early(core, row)
            if count >= most_commits or total > most_bytes:
                raise NoRoom
        if count >= FORK_COMMITS or total > FORK_BYTES:
            self._evict(row, [one for one in strange if one.hash not in needed], size)

    def _needed(self, row: GroupRow, header: CommitHeader) -> set[CommitHash]:
        """What members stand on or below, and what else that is known comes from."""
        commits = self._core.branches.commits(row.id)
        needed = {one.parent for one in commits.values() if one.hash != header.commit}
        for statement in self._core.branches.statements(row.id).values():
            needed.add(statement.commit)
            needed |= branch_tree.path(commits, statement.commit)
        return needed

    def _evict(self, row: GroupRow, loose: list[CommitRow], size: int) -> None:
        """Whoever made most of what nobody stands on makes room, the oldest first.

        Raises Refused.
        """
        core = self._core
        of = Counter(one.header.author for one in loose if one.header is not None)
        if not of:
            raise Refused("too-many-forks", "more branches than are kept")
        most = max(of, key=lambda author: (of[author], author))
        core.count("too-many-forks")
        theirs = [one for one in loose if one.header is not None and one.header.author == most]
        for old in sorted(theirs, key=lambda one: (one.arrival, one.hash)):
            core.branches.drop(row.id, old.hash)
            size -= old.size
            if size <= 0:
                return

    def heads(self, row: GroupRow, content: HeadsContent) -> None:
        """Headers, statements and proofs: what is wrong among them spoils nothing else."""
        core = self._core
        for signed in content.headers:
            try:
                self._header(row, signed)
            except Fault as fault:
                core.count(f"header-{fault.code}")
        for signed in content.statements:
            if signed.signer == core.device.public:
                continue  # our own words come back to us
            try:
                self.statement(row, signed)
            except Fault as fault:
                core.count(f"statement-{fault.code}")
        for first, second in content.proofs:
            try:
                if self._statements.proof(row, first, second):
                    self._convergence.look_at(row.id, forks_only=True)
            except Fault as fault:
                core.count(f"proof-{fault.code}")

    def _header(self, row: GroupRow, signed: Signed) -> None:
        core = self._core
        header = open_signed(
            SignedType.COMMIT_HEADER, signed, CommitHeader.decode, lambda h: h.author
        )
        if header.group != row.id:
            raise Refused("wrong-group", "a header of another group")
        if header.commit in core.branches.commits(row.id) or self._entering.is_lie(row.id, header):
            return
        self._make_room(row, header, 0)
        core.branches.add(row.id, header, signed, None, core.now)
        self._convergence.look_at(row.id)

    def statement(self, row: GroupRow, signed: Signed) -> None:
        """A member's word where it stands. Raises Malformed."""
        statement = self._statements.receive(row, signed)
        if statement is None:
            return
        author = DeviceKey(signed.signer)
        commits = self._core.branches.commits(row.id)
        if statement.commit not in commits:
            self._core.ahead.add((row.id, author))
        elif not self._same_branch(row, commits, statement.commit):
            self._core.read_more.add((row.id, author))  # one of us lacks votes that the other has
        self._convergence.look_at(row.id, forks_only=True)

    @staticmethod
    def _same_branch(
        row: GroupRow, commits: Mapping[CommitHash, CommitRow], commit: CommitHash
    ) -> bool:
        return commit in branch_tree.path(commits, row.head) or row.head in branch_tree.path(
            commits, commit
        )

    def other_branch(self, row: GroupRow, epoch_id: EpochId, signed: Signed | None) -> None:
        """A message under an epoch id that we never entered: its author knows commits we lack.

        Only a member's signed word that it stands there counts: the parcel is anybody's.
        """
        if signed is not None and Statement.decode(signed.payload).epoch_id == epoch_id:
            self._core.ahead.add((row.id, DeviceKey(signed.signer)))


def _is_sibling(one: CommitRow, header: CommitHeader) -> bool:
    """Of the same author on the same commit."""
    return (
        one.header is not None
        and one.parent == header.parent
        and one.header.author == header.author
    )
