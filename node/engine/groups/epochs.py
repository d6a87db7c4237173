"""Moving from epoch to epoch: the one path by which a commit, ours or another's, takes effect."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import mls_rs

from identity.signing import open_signed
from node.engine.core import Core, GroupDamaged, epoch_id, group_info
from node.engine.groups.authority import encode_intents, in_our_words, member_ref
from node.engine.groups.intents import Intents
from node.engine.outbox import Outbox
from node.engine.requests import is_of_stranger
from node.engine.values import HOLDING, GroupStatus, State
from node.store.branches import Snapshot
from node.store.groups import GroupRow, MemberRow
from schemas.errors import Malformed
from schemas.group_records import CommitHeader, Intent, IntentKind, MemberRef
from schemas.ids import CommitHash, DeviceKey
from schemas.parcels import CommitContent
from schemas.records import Signed, SignedType

NO_COMMIT = CommitHash(bytes(32))
NO_LONGER_A_MEMBER = "no-longer-a-member"


class WrongHeader(Malformed):
    """A header that its commit contradicts: the commit itself may be good."""

    def __init__(self, what: str) -> None:
        super().__init__("wrong-header", what)


class Epochs:
    def __init__(self, core: Core, outbox: Outbox, intents: Intents) -> None:
        self._core = core
        self._outbox = outbox
        self._intents = intents

    # --- forwards

    def follow(self, row: GroupRow, header: CommitHeader, content: CommitContent) -> None:
        """Enters the epoch that a commit of another on our head opens; checks all that it claims.

        Raises WrongHeader, Malformed, Refused or MlsError; then nothing has changed.
        """
        core = self._core
        candidate = core.mls_group(row.id).clone()
        effect = self.check(row, candidate, header, content)
        self._intents.keep(row, header, content)
        self.enter(row, candidate, effect, header, content.header, content.mls)

    def check(
        self,
        row: GroupRow,
        candidate: mls_rs.Group,
        header: CommitHeader,
        content: CommitContent,
    ) -> mls_rs.Commit:
        """Processes a commit on a copy of the group as it was before. Raises as `follow` does."""
        epoch = candidate.epoch
        self._intents.of_commit(row, content.intents, header.intents)
        with in_our_words():
            effect = candidate.process(content.mls)
        if not isinstance(effect, self._core.library.commit):
            raise WrongHeader("not a commit")
        if header.author != effect.committer.signature_key or header.epoch != epoch + 1:
            raise WrongHeader("a header that is not of its commit")
        if set(header.added) != _refs(effect.added) or set(header.removed) != _refs(effect.removed):
            raise WrongHeader("a header that tells another change than its commit")
        if encode_intents(content.intents) != effect.authenticated_data:
            raise WrongHeader("intents that are not those of the commit")
        return effect

    def enter(
        self,
        row: GroupRow,
        group: mls_rs.Group,
        effect: mls_rs.Commit,
        header: CommitHeader,
        signed: Signed,
        mls: bytes,
    ) -> None:
        """Takes the epoch that a commit opened: state, members, head, news.

        The state on disk is that of the epoch being left; it is kept as a snapshot, also before
        a commit of our own, so that a better sibling can still be chosen.
        """
        core = self._core
        core.keep_snapshot(row)
        before = {member.device: member for member in core.groups.members(row.id)}
        core.adopt(row.id, group)
        row.head = header.commit
        row.epoch_base = row.next_sequence
        if effect.removes_me:
            core.branches.enter(row, header, signed, mls, None, core.now)
            core.write_mls(row)
            self.put_out(row)
            return
        row.epoch = group.epoch
        row.epoch_id = epoch_id(group)
        row.name = group_info(group).name
        core.branches.enter(row, header, signed, mls, row.epoch_id, core.now)
        after = self.write_members(row, group)
        core.write_mls(row)
        core.groups.save(row)
        if effect.committer.signature_key == core.device.public:
            core.groups.set_key_update(row.id, row.lamport, None)
        self._close_intents(row, header, group)
        gone = [device for device in before if device not in after]
        self._stop_sending(row, gone)
        core.renewed |= {
            (row.id, member.device)
            for member in header.removed
            if member.device in after and member.device != core.device.public
        }
        core.emit(
            "members",
            group=row.id.hex(),
            name=row.name,
            epoch=row.epoch,
            by=core.name_of(member_ref(effect.committer).identity),
            added=[core.name_of(member_ref(member).identity) for member in effect.added],
            removed=[core.name_of(before[device].identity) for device in gone],
        )

    def put_out(self, row: GroupRow) -> None:
        """The branch that won has us no more. The snapshots stay: another may win yet."""
        core = self._core
        members = [member.device for member in core.groups.members(row.id)]
        left = row.status == GroupStatus.LEAVING
        row.status = GroupStatus.LEFT if left else GroupStatus.REMOVED
        core.groups.set_members(row.id, [])
        core.groups.save(row)
        self._stop_sending(row, members)
        core.emit("left" if left else "removed", group=row.id.hex(), name=row.name)
        if is_of_stranger(core, row):  # or a group that is no request any more stays for each
            core.forget_group(row.id)

    # --- backwards

    def go_back(self, row: GroupRow, snapshot: Snapshot) -> None:
        """To an epoch that we left, from where another branch can be followed.

        Raises GroupDamaged.
        """
        core = self._core
        state = core.groups.snapshot_state(row.id, snapshot.epoch_id)
        if state is None:
            raise GroupDamaged("a snapshot that is gone")
        if row.status in HOLDING:
            core.keep_snapshot(row)  # which may trim the one that we return to
        else:
            row.status = GroupStatus.ACTIVE
        core.branches.restore(row.id, snapshot, *state)
        row.head, row.epoch_id = snapshot.head, snapshot.epoch_id
        row.epoch, row.incarnation = snapshot.epoch, snapshot.incarnation
        row.epoch_base = row.next_sequence
        core.groups.save(row)
        group = core.reload(row)
        row.name = group_info(group).name
        core.groups.save(row)
        core.branches.come_back(row.id, row.head, core.now)
        self.write_members(row, group)

    # --- rows

    def write_members(self, row: GroupRow, group: mls_rs.Group) -> dict[DeviceKey, MemberRow]:
        roster = []
        for member in group.roster():
            ref = member_ref(member)
            roster.append(MemberRow(ref.device, ref.identity, member.index))
        self._core.groups.set_members(row.id, roster)
        return {member.device: member for member in roster}

    def _close_intents(self, row: GroupRow, header: CommitHeader, group: mls_rs.Group) -> None:
        """Done means that the effect is there: a commit may name a wish and do nothing about it."""
        core = self._core
        info = group_info(group)
        named = [core.intents.get(row.id, intent) for intent in header.intents]
        wishes = {wish.intent.id: wish.intent for wish in named if wish is not None}
        wishes |= {wish.intent.id: wish.intent for wish in core.intents.open(row.id)}
        done = {
            intent.id
            for intent in wishes.values()
            if self._intents.satisfied(row, intent, info)
            or (intent.id in header.intents and _is_of_committer(intent, header))
        }
        core.intents.set_done(row.id, done)
        core.intents.set_done(row.id, wishes.keys() - done, done=False)

    def _stop_sending(self, row: GroupRow, devices: Sequence[DeviceKey]) -> None:
        """What waits for a device that is no member any more is told so, not kept for ever."""
        for device in devices:
            for entry in self._core.outbox.open_entries(row.id, device):
                if entry.state in ("queued", "carried"):
                    self._outbox.note(
                        entry.message, device, State.REFUSED, reason=NO_LONGER_A_MEMBER
                    )
                    self._core.outbox.remove_messages([entry.message], device)
            for kind in ("welcome", "bundles", "summary"):
                self._core.outbox.remove_kind(row.id, kind, device)


def _is_of_committer(intent: Intent, header: CommitHeader) -> bool:
    """What has no effect that could be seen later: new keys of who commits, a new leaf."""
    if intent.kind is IntentKind.UPDATE:
        return intent.author == header.author
    added = {member.device for member in header.added}
    return intent.kind is IntentKind.READMIT and intent.author in added


def open_header(content: CommitContent) -> CommitHeader:
    """Raises Malformed."""
    header = open_signed(
        SignedType.COMMIT_HEADER, content.header, CommitHeader.decode, lambda h: h.author
    )
    if header.commit != commit_hash(content.mls):
        raise WrongHeader("a header that is not of its commit")
    return header


def _refs(members: Sequence[mls_rs.Member]) -> set[MemberRef]:
    return {member_ref(member) for member in members}


def commit_hash(mls: bytes) -> CommitHash:
    return CommitHash(hashlib.sha256(mls).digest())
