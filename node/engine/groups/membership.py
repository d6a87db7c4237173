"""Changes that this user makes: create, invite, join, remove, leave, new keys.

Every change is an intent, and one commit by value carries it, at once where this device can commit.
It is made, stored together with the state it leads to, and queued for the others, all in one
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.engine import commands, values
from node.engine.conversation import check_writable
from node.engine.core import SUITE_NAMES, Core, epoch_id, group_extensions, group_info
from node.engine.groups import invitees
from node.engine.groups.committing import Committer
from node.engine.groups.epochs import NO_COMMIT, Epochs
from node.engine.groups.intents import Intents, Plan
from node.engine.groups.rules import with_admins
from node.engine.groups.statements import Statements
from node.engine.receipts import Receipts
from node.engine.values import LIVE, GroupStatus
from node.engine.views import group_view
from node.store.groups import GroupRow
from node.store.intents import Wish
from schemas import limits
from schemas.errors import Refused
from schemas.group_records import IntentKind, MemberRef
from schemas.ids import DeviceKey, GroupId
from schemas.messages import GroupInfo, GroupKind, InvitePolicy

INVITED_AT_ONCE = 50  # devices added by one commit: their KeyPackages fit a parcel


class Membership:
    def __init__(
        self,
        core: Core,
        receipts: Receipts,
        epochs: Epochs,
        statements: Statements,
        intents: Intents,
        committer: Committer,
    ) -> None:
        self._core = core
        self._receipts = receipts
        self._epochs = epochs
        self._statements = statements
        self._intents = intents
        self._committer = committer

    # --- creating

    def create_group(self, command: commands.CreateGroup) -> values.GroupView:
        name = _checked_name(command.name)
        me = self._core.identity.public
        info = GroupInfo(name, GroupKind.GROUP, (me,), InvitePolicy.MEMBERS)
        return group_view(self._core, self._create(info, command.suite))

    def create_direct(self, command: commands.CreateDirect) -> values.GroupView:
        core = self._core
        if command.identity == core.identity.public:
            raise Refused("yourself", "a conversation with yourself is not possible")
        if core.people.is_blocked(command.identity):
            raise Refused("blocked", "you blocked this person", hint="quicnprotochat unblock KEY")
        info = GroupInfo("", GroupKind.DIRECT, (), InvitePolicy.MEMBERS)
        row = self._create(info, command.suite)
        added = invitees.added(core, row, (command.identity,), command.key_packages)
        if not added:
            raise Refused("no-key-package", "no KeyPackage of theirs")
        self._committer.commit(row, add=command.key_packages, added=added)
        return group_view(core, row)

    def _create(self, info: GroupInfo, suite: int) -> GroupRow:
        core = self._core
        if suite not in SUITE_NAMES:
            raise Refused("unknown-suite", f"no cipher suite {suite}", hint="hybrid or classic")
        group_id = GroupId(core.random(GroupId.LENGTH))
        mls = core.mls.create_group(group_id, suite, group_extensions(info))
        row = GroupRow(
            id=group_id,
            incarnation=1,
            name=info.name,
            kind=info.kind.value,
            suite=suite,
            status=GroupStatus.ACTIVE,
            accepted=True,
            inviter=None,
            head=NO_COMMIT,
            epoch=mls.epoch,
            epoch_id=epoch_id(mls),
            epoch_base=1,
            next_sequence=1,
            lamport=0,
            tips=b"",
            summary_number=0,
            joined=core.now,
        )
        core.adopt(group_id, mls)
        core.groups.save(row)
        core.branches.enter(row, None, None, None, row.epoch_id, core.now)
        self._epochs.write_members(row, mls)
        core.write_mls(row)
        self._statements.current(row)
        return row

    # --- changing

    def invite(self, command: commands.Invite) -> values.GroupView:
        row = self._writable(command.group)
        if not command.key_packages:  # an invitation repeated after a crash: no empty commit
            raise Refused(
                "already-member",
                "everybody named is in this group",
                hint="`invite --again` for who is, and lost it",
            )
        added = invitees.added(self._core, row, command.people, command.key_packages)
        invitees.check_size(self._core, row, added)
        for start in range(0, len(added), INVITED_AT_ONCE):
            part = slice(start, start + INVITED_AT_ONCE)
            self._invite(row, command.key_packages[part], added[part], admin=command.admin)
        return group_view(self._core, row)

    def _invite(
        self,
        row: GroupRow,
        key_packages: Sequence[bytes],
        added: Sequence[MemberRef],
        *,
        admin: bool,
    ) -> None:
        wishes = [self._intents.make(row, IntentKind.ADD, members=added, key_packages=key_packages)]
        info = info_after = group_info(self._core.mls_group(row.id))
        if admin:
            people = list(dict.fromkeys(member.identity for member in added))
            info_after = with_admins(info, people)
            wishes += [
                self._intents.make(row, IntentKind.PROMOTE, subject=person) for person in people
            ]
        replaced = invitees.replaced(self._core, row, added)
        plan = Plan(tuple(wishes), tuple(key_packages), tuple(added), tuple(replaced), info_after)
        self._change(row, plan)

    def remove(self, command: commands.RemoveMember) -> values.GroupView:
        row = self._writable(command.group)
        if command.identity == self._core.identity.public:
            raise Refused("yourself", "you cannot remove yourself", hint="quicnprotochat leave")
        targets = [
            member
            for member in self._core.groups.members(row.id)
            if member.identity == command.identity
        ]
        if not targets:
            raise Refused("not-a-member", "they are not in this group")
        wish = self._intents.make(row, IntentKind.REMOVE, subject=command.identity)
        info = group_info(self._core.mls_group(row.id))
        self._change(row, Plan((wish,), (), (), tuple(targets), info))
        return group_view(self._core, row)

    def update_key(self, command: commands.UpdateKey) -> values.GroupView:
        row = self._writable(command.group)
        wish = self._intents.make(row, IntentKind.UPDATE)
        self._change(row, Plan((wish,), (), (), (), group_info(self._core.mls_group(row.id))))
        return group_view(self._core, row)

    def join(self, command: commands.Join) -> values.GroupView:
        row = self._core.group(command.group)
        if row.status == GroupStatus.RESTORED:
            check_writable(row)
        if row.status in (GroupStatus.LEFT, GroupStatus.REMOVED, GroupStatus.LEAVING):
            raise Refused("not-a-member", "you are no longer in this group")
        if not row.accepted:
            row.accepted = True
            self._core.groups.save(row)
            for author in self._core.messages.authors(row.id):
                self._receipts.owe(row.id, author)
            inviter = "" if row.inviter is None else self._core.name_of(row.inviter)
            self._core.emit("joined", group=row.id.hex(), name=row.name, inviter_name=inviter)
        return group_view(self._core, row)

    def leave(self, command: commands.Leave) -> values.GroupView:
        """A wish that another member commits; nobody can commit their own removal."""
        core = self._core
        row = core.group(command.group)
        if row.status in LIVE:
            others = [m.device for m in core.groups.members(row.id) if m.device != self._me]
            row.status = GroupStatus.LEAVING if others else GroupStatus.LEFT
            row.accepted = True
            core.groups.save(row)
            self._intents.wish(row, self._intents.make(row, IntentKind.LEAVE), others)
        return group_view(core, row)

    def carry(self, row: GroupRow, wishes: Sequence[Wish]) -> bool:
        """One commit for as many of these wishes as this device can carry; whether there was one.

        Raises Refused or MlsError.
        """
        plan = self._intents.plan(row, wishes, group_info(self._core.mls_group(row.id)))
        if plan.wishes:
            self._commit(row, plan)
        return bool(plan.wishes)

    def _change(self, row: GroupRow, plan: Plan) -> None:
        """At once; while members disagree, it waits among the wishes until they agree."""
        if row.status == GroupStatus.ACTIVE:
            self._commit(row, plan)
            return
        others = [member.device for member in self._core.groups.members(row.id)]
        for wish in plan.wishes:
            self._intents.wish(row, wish, others)

    def _commit(self, row: GroupRow, plan: Plan) -> None:
        self._committer.commit(
            row,
            add=plan.key_packages,
            added=plan.added,
            removed=plan.removed,
            info_after=plan.info_after,
            wishes=plan.wishes,
        )

    # --- checks

    @property
    def _me(self) -> DeviceKey:
        return self._core.device.public

    def _writable(self, group: GroupId) -> GroupRow:
        row = self._core.group(group)
        check_writable(row)
        return row


def _checked_name(name: str) -> str:
    clean = " ".join(name.split())
    if not clean or len(clean.encode()) > limits.GROUP_NAME or not clean.isprintable():
        raise Refused(
            "bad-name", f"a group's name is 1 to {limits.GROUP_NAME} bytes of printable text"
        )
    return clean
