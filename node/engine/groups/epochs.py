"""Moving from epoch to epoch: the one path by which a commit, ours or another's, takes effect."""

from __future__ import annotations

import hashlib

import mls_rs

from identity.signing import sign
from node.engine.core import Core, epoch_id, group_info
from node.engine.outbox import Outbox
from node.engine.requests import is_of_stranger
from node.engine.values import GroupStatus, State
from node.store.groups import GroupRow, MemberRow
from schemas.group_records import CommitHeader, IntentKind, MemberRef, Statement
from schemas.ids import CommitHash, DeviceKey, IdentityKey
from schemas.records import Signed, SignedType

NO_COMMIT = CommitHash(bytes(32))


class Epochs:
    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox

    def enter(
        self,
        row: GroupRow,
        group: mls_rs.Group,
        effect: mls_rs.Commit,
        header: CommitHeader,
        signed: Signed,
        mls: bytes,
    ) -> None:
        """Takes the epoch that a commit opened: state, members, head, statement, news.

        The state on disk is that of the epoch being left; it is kept as a snapshot, also before
        a commit of our own, so that a better sibling can still be chosen.
        """
        core = self._core
        core.write_unwritten()
        core.groups.snapshot(row, core.now)
        before = {member.device: member for member in core.groups.members(row.id)}
        core.adopt(row.id, group)
        row.head = header.commit
        row.epoch_base = row.next_sequence
        if effect.removes_me:
            left = row.status == GroupStatus.LEAVING
            row.status = GroupStatus.LEFT if left else GroupStatus.REMOVED
            core.groups.add_commit(
                row.id,
                header.commit,
                header.parent,
                header.epoch,
                epoch_id=None,
                header=signed,
                mls=mls,
                now=core.now,
            )
            core.groups.set_members(row.id, [])
            core.write_mls(row)
            core.groups.save(row)
            self._stop_sending(row, [*before])
            core.emit("left" if left else "removed", group=row.id.hex(), name=row.name)
            if is_of_stranger(core, row):  # or a group that is no request any more stays for each
                core.forget_group(row.id)
            return
        row.epoch = group.epoch
        row.epoch_id = epoch_id(group)
        row.name = group_info(group).name
        core.groups.add_commit(
            row.id,
            header.commit,
            header.parent,
            header.epoch,
            epoch_id=row.epoch_id,
            header=signed,
            mls=mls,
            now=core.now,
        )
        after = self.write_members(row, group)
        core.write_mls(row)
        core.groups.save(row)
        self.state_head(row)
        if effect.committer.signature_key == core.device.public:
            core.groups.set_key_update(row.id, row.lamport, None)
        self._close_intents(row, header, after)
        gone = [device for device in before if device not in after]
        # Whose leaf was replaced reads nothing that was sealed before.
        replaced = [ref.device for ref in header.removed if ref.device in after]
        self._stop_sending(row, [*gone, *replaced])
        core.emit(
            "members",
            group=row.id.hex(),
            name=row.name,
            epoch=row.epoch,
            by=core.name_of(member_ref(effect.committer).identity),
            added=[core.name_of(member_ref(member).identity) for member in effect.added],
            removed=[core.name_of(before[device].identity) for device in gone],
        )

    def write_members(self, row: GroupRow, group: mls_rs.Group) -> dict[DeviceKey, MemberRow]:
        roster = []
        for member in group.roster():
            ref = member_ref(member)
            roster.append(MemberRow(ref.device, ref.identity, member.index))
        self._core.groups.set_members(row.id, roster)
        return {member.device: member for member in roster}

    def state_head(self, row: GroupRow) -> None:
        """Our signed word where we stand; it travels with every message and commit."""
        core = self._core
        old = core.groups.statement(row.id, core.device.public)
        number = Statement.decode(old.payload).number + 1 if old is not None else 1
        statement = Statement(row.id, number, row.head, row.epoch_id)
        signed = sign(SignedType.STATEMENT, core.device, statement.encode())
        core.groups.put_statement(core.device.public, signed, statement)

    def _close_intents(
        self, row: GroupRow, header: CommitHeader, after: dict[DeviceKey, MemberRow]
    ) -> None:
        """Done means: carried by a commit, or its effect is there anyway."""
        open_intents = self._core.groups.open_intents(row.id)
        done = [
            intent.id
            for intent, _, _ in open_intents
            if intent.id in header.intents
            or (intent.kind is IntentKind.LEAVE and intent.author not in after)
        ]
        self._core.groups.close_intents(row.id, done)

    def _stop_sending(self, row: GroupRow, devices: list[DeviceKey]) -> None:
        """What waits for a device that is no member any more is told so, not kept for ever."""
        for device in devices:
            for entry in self._core.outbox.open_entries(row.id, device):
                if entry.state == "queued":
                    self._outbox.note(
                        entry.message, device, State.REFUSED, reason="no-longer-a-member"
                    )
                    self._core.outbox.remove_messages([entry.message], device)
            for kind in ("welcome", "bundles", "summary"):
                self._core.outbox.remove_kind(row.id, kind, device)


def member_ref(member: mls_rs.Member) -> MemberRef:
    """The credential was checked by the client's validator before it got here."""
    return MemberRef(DeviceKey(member.signature_key), IdentityKey(member.credential[:32]))


def commit_hash(mls: bytes) -> CommitHash:
    return CommitHash(hashlib.sha256(mls).digest())
