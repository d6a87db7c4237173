"""Commits of others: in order they move us on, early ones wait, and a second child is a fork."""

from __future__ import annotations

from identity.signing import open_signed
from node.engine.core import Core, group_info
from node.engine.groups.epochs import Epochs, commit_hash, member_ref
from node.engine.groups.rules import Change, authorise
from node.engine.values import OVER, GroupStatus
from node.store.groups import GroupRow
from schemas.errors import Malformed, Refused
from schemas.group_records import CommitHeader, Intent, IntentKind, Statement
from schemas.ids import DeviceKey, EpochId
from schemas.limits import MIB
from schemas.parcels import CommitContent
from schemas.records import Signed, SignedType

FORK_COMMITS = 256  # of other branches, per group: anybody who was a member can make them up
FORK_BYTES = 8 * MIB


class Early(Exception):
    """What this depends on is not here yet: keep it until it is.

    `known`: by somebody we know, though of a group that we are not in yet.
    """

    def __init__(self, *, known: bool = False) -> None:
        super().__init__()
        self.known = known


class NoRoom(Exception):
    """Nothing more of this kind can be kept just now: withhold the acknowledgement."""


class Commits:
    def __init__(self, core: Core, epochs: Epochs) -> None:
        self._core = core
        self._epochs = epochs

    def receive(self, row: GroupRow, content: CommitContent) -> None:
        """Applies, records or refuses one commit. Raises Early, Malformed, Refused or MlsError."""
        core = self._core
        header = open_signed(
            SignedType.COMMIT_HEADER, content.header, CommitHeader.decode, lambda h: h.author
        )
        if header.group != row.id or header.commit != commit_hash(content.mls):
            raise Malformed("wrong-header", "a header that is not of its commit")
        if core.groups.knows_commit(row.id, header.commit):
            return
        if header.parent != row.head:
            if not core.groups.is_past(row.id, header.parent):
                raise Early
            self._fork(row, header, content)
            return
        before = core.groups.members(row.id)
        candidate = core.mls_group(row.id).clone()
        info = group_info(candidate)
        effect = candidate.process(content.mls)
        if not isinstance(effect, core.library.commit):
            raise Malformed("wrong-header", "not a commit")
        change = Change(
            member_ref(effect.committer),
            tuple(member_ref(member) for member in effect.added),
            tuple(member_ref(member) for member in effect.removed),
            info if effect.removes_me else group_info(candidate),
        )
        if header.author != change.committer.device or header.epoch != row.epoch + 1:
            raise Malformed("wrong-header", "a header that is not of its commit")
        if set(header.added) != set(change.added) or set(header.removed) != set(change.removed):
            raise Malformed("wrong-header", "a header that tells another change than its commit")
        authorise(
            info,
            {member.identity for member in before},
            change,
            self._leavers(row, header, content),
        )
        self._epochs.enter(row, candidate, effect, header, content.header, content.mls)

    def _leavers(
        self, row: GroupRow, header: CommitHeader, content: CommitContent
    ) -> set[DeviceKey]:
        """Devices whose own signature asks for the removal that this commit carries."""
        found = set()
        for signed in content.intents:
            intent = open_signed(SignedType.INTENT, signed, Intent.decode, lambda i: i.author)
            if intent.group != row.id or intent.id not in header.intents:
                raise Malformed("wrong-header", "an intent that its commit does not carry")
            if intent.kind is IntentKind.LEAVE:
                found.add(intent.author)
        return found

    # --- forks: seen, kept and told here; healed by the convergence rule of a later version

    def _fork(self, row: GroupRow, header: CommitHeader, content: CommitContent) -> None:
        core = self._core
        if not core.groups.was_member(row.id, header.author):
            raise Refused("not-a-member", "a commit of a stranger")
        count, size = core.groups.never_entered(row.id)
        if count >= FORK_COMMITS or size + len(content.mls) > FORK_BYTES:
            raise Refused("too-many-forks", "more branches than are kept")
        core.groups.add_commit(
            row.id,
            header.commit,
            header.parent,
            header.epoch,
            epoch_id=None,
            header=content.header,
            mls=content.mls,
            now=core.now,
        )
        self._split(row, header.author)

    def statement(self, row: GroupRow, signed: Signed) -> None:
        """A member's word where it stands: another branch of our epoch, or of one past, is a fork.

        Raises Malformed.
        """
        core = self._core
        author = DeviceKey(signed.signer)
        if core.groups.statement(row.id, author) == signed:
            return  # it comes with every message
        statement = open_signed(SignedType.STATEMENT, signed, Statement.decode, lambda _: author)
        if statement.group != row.id or not core.groups.was_member(row.id, author):
            raise Malformed("wrong-statement", "a statement of a stranger, or about another group")
        core.groups.put_statement(author, signed, statement)

    def other_branch(self, row: GroupRow, epoch_id: EpochId, signed: Signed | None) -> None:
        """A message of an epoch number we have reached, under an epoch id we never entered.

        Only a member's signed word that it stands there makes that a fork: the parcel is anybody's.
        """
        if signed is not None and Statement.decode(signed.payload).epoch_id == epoch_id:
            self._split(row, DeviceKey(signed.signer))

    def _split(self, row: GroupRow, author: DeviceKey) -> None:
        members = {member.device for member in self._core.groups.members(row.id)}
        if row.status != GroupStatus.ACTIVE or author not in members:
            return  # who was removed cannot stop those who stay
        row.status = GroupStatus.SPLIT
        self._core.groups.save(row)
        owner = self._core.people.owner(author)
        self._core.emit(
            "group-split",
            group=row.id.hex(),
            name=row.name,
            by="" if owner is None else self._core.name_of(owner),
            detail="two members changed it at once; what you send to it is kept and waits here. "
            "This version does not heal it: make a new group, and write there",
        )


def is_over(row: GroupRow) -> bool:
    """We are no member any more."""
    return row.status in OVER
