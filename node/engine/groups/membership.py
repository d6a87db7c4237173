"""Changes that this user makes: create, invite, join, remove, leave, new keys.

Every change is one commit by value. It is made, stored together with the state it leads to, and
queued for the others, all in one transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from hashlib import sha256

from identity.bundle import bundle_hash
from identity.signing import sign
from node.engine import commands, values
from node.engine.conversation import check_writable
from node.engine.core import SUITE_NAMES, Core, epoch_id, group_extensions, group_info
from node.engine.groups import invitees
from node.engine.groups.epochs import NO_COMMIT, Epochs, commit_hash
from node.engine.groups.rules import Change, authorise
from node.engine.groups.welcome import split_tree
from node.engine.outbox import Outbox
from node.engine.receipts import Receipts
from node.engine.values import GroupStatus
from node.engine.views import group_view
from node.store.groups import GroupRow, MemberRow
from schemas import limits
from schemas.errors import Blame, Refused
from schemas.group_records import CommitHeader, Intent, IntentKind, MemberRef
from schemas.ids import DeviceKey, GroupId, IntentId
from schemas.messages import GroupInfo, GroupKind, InvitePolicy
from schemas.parcels import (
    BundleDigest,
    BundlesContent,
    CommitContent,
    IntentContent,
    TreeChunkContent,
    WelcomeContent,
)
from schemas.records import Signed, SignedType

BUNDLES_PER_PARCEL = 20
INVITED_AT_ONCE = 50  # devices added by one commit: their KeyPackages fit a parcel
WELCOME_WITH_TREE = limits.PARCEL_BODY - 64 * limits.KIB  # beside header, bundle and digests


class Membership:
    def __init__(self, core: Core, outbox: Outbox, receipts: Receipts, epochs: Epochs) -> None:
        self._core = core
        self._outbox = outbox
        self._receipts = receipts
        self._epochs = epochs

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
        self._commit(row, add=command.key_packages, added=added)
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
        core.groups.add_commit(
            group_id,
            NO_COMMIT,
            NO_COMMIT,
            mls.epoch,
            epoch_id=row.epoch_id,
            header=None,
            mls=None,
            now=core.now,
        )
        self._epochs.write_members(row, mls)
        core.write_mls(row)
        self._epochs.state_head(row)
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
        info = group_info(self._core.mls_group(row.id))
        new_admins = tuple(dict.fromkeys([*info.admins, *(member.identity for member in added)]))
        info_after = dataclasses.replace(info, admins=new_admins) if admin else info
        self._commit(
            row,
            add=key_packages,
            added=added,
            removed=invitees.replaced(self._core, row, added),
            info_after=info_after,
        )

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
        self._commit(row, removed=targets)
        return group_view(self._core, row)

    def update_key(self, command: commands.UpdateKey) -> values.GroupView:
        row = self._writable(command.group)
        self._commit(row)
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
        if row.status in (GroupStatus.ACTIVE, GroupStatus.SPLIT):
            others = [m.device for m in core.groups.members(row.id) if m.device != self._me]
            row.status = GroupStatus.LEAVING if others else GroupStatus.LEFT
            row.accepted = True
            core.groups.save(row)
            intent = Intent(
                IntentId(core.random(IntentId.LENGTH)), row.id, self._me, IntentKind.LEAVE
            )
            signed = sign(SignedType.INTENT, core.device, intent.encode())
            self._outbox.put("intent", IntentContent(signed), others, group=row.id)
        return group_view(core, row)

    def carry(self, row: GroupRow, intents: Sequence[tuple[Intent, Signed]]) -> None:
        """One commit for all these wishes to leave."""
        leavers = {intent.author for intent, _ in intents}
        removed = [m for m in self._core.groups.members(row.id) if m.device in leavers]
        self._commit(row, removed=removed, intents=intents)

    # --- the commit

    def _commit(
        self,
        row: GroupRow,
        *,
        add: Sequence[bytes] = (),
        added: Sequence[MemberRef] = (),
        removed: Sequence[MemberRow] = (),
        info_after: GroupInfo | None = None,
        intents: Sequence[tuple[Intent, Signed]] = (),
    ) -> None:
        core = self._core
        group = core.mls_group(row.id)
        info = group_info(group)
        before = core.groups.members(row.id)
        gone = tuple(MemberRef(member.device, member.identity) for member in removed)
        change = Change(
            MemberRef(self._me, core.identity.public), tuple(added), gone, info_after or info
        )
        authorise(
            info,
            {member.identity for member in before},
            change,
            {intent.author for intent, _ in intents},
        )
        extensions = None
        if change.info_after != info:
            extensions = group_extensions(change.info_after)
        make = partial(
            group.commit,
            add=list(add),
            remove=[member.leaf for member in removed],
            extensions=extensions,
            now=int(core.now),
        )
        pending = make()
        if pending.welcome is not None and len(pending.welcome) > WELCOME_WITH_TREE:
            pending = make(tree_in_welcome=False)
        header = CommitHeader(
            commit_hash(pending.message),
            row.head,
            row.id,
            group.epoch + 1,
            self._me,
            tuple(added),
            gone,
            tuple(intent.id for intent, _ in intents),
        )
        signed = sign(SignedType.COMMIT_HEADER, core.device, header.encode())
        effect = group.apply(pending)
        parent_epoch_id = row.epoch_id
        self._epochs.enter(row, group, effect, header, signed, pending.message)

        recipients = [member.device for member in before if member.device != self._me]
        carried = tuple(wish for _, wish in intents)
        self._outbox.put(
            "commit",
            CommitContent(signed, pending.message, carried),
            recipients,
            group=row.id,
            epoch_id=parent_epoch_id,
            statement=core.groups.statement(row.id, self._me),
        )
        if pending.welcome is not None:
            devices = [member.device for member in added]
            self._welcome(row, pending.welcome, signed, devices, pending.tree)
            self._introduce(row, added, recipients)

    def _welcome(
        self,
        row: GroupRow,
        welcome: bytes,
        header: Signed,
        devices: list[DeviceKey],
        tree: bytes | None,
    ) -> None:
        """`tree` follows in chunks when it is not in the Welcome."""
        core = self._core
        own = core.people.bundle(core.identity.public)
        if own is None:
            raise RuntimeError("an account without a bundle")
        digests = []
        for member in core.groups.members(row.id):
            bundle = core.people.bundle(member.identity)
            if bundle is not None and member.device not in devices:
                digests.append(
                    BundleDigest(member.device, bundle[1].number, bundle_hash(bundle[0]))
                )
        chunks = [] if tree is None else split_tree(tree)
        named = tuple(sha256(chunk).digest() for chunk in chunks)
        content = WelcomeContent(welcome, header, own[0], tuple(digests), named)
        self._outbox.put("welcome", content, devices, group=row.id, epoch_id=row.epoch_id)
        for chunk in chunks:
            self._outbox.put("tree-chunk", TreeChunkContent(chunk), devices, group=row.id)

    def _introduce(
        self, row: GroupRow, added: Sequence[MemberRef], others: list[DeviceKey]
    ) -> None:
        """Everybody gets what they need to reach everybody, also when we are gone."""
        members = self._core.groups.members(row.id)
        newcomers = [member.device for member in added]
        everyone = [MemberRef(member.device, member.identity) for member in members]
        self._send_bundles(row, everyone, newcomers)
        self._send_bundles(row, added, [device for device in others if device not in newcomers])

    def _send_bundles(
        self, row: GroupRow, about: Sequence[MemberRef], recipients: list[DeviceKey]
    ) -> None:
        people = self._core.people
        for start in range(0, len(about), BUNDLES_PER_PARCEL):
            part = about[start : start + BUNDLES_PER_PARCEL]
            bundles = [people.bundle(key) for key in dict.fromkeys(m.identity for m in part)]
            endpoints = [people.endpoint(member.device) for member in part]
            content = BundlesContent(
                tuple(bundle[0] for bundle in bundles if bundle is not None),
                tuple(endpoint[0] for endpoint in endpoints if endpoint is not None),
            )
            self._outbox.put("bundles", content, recipients, group=row.id)

    # --- checks

    @property
    def _me(self) -> DeviceKey:
        return self._core.device.public

    def _writable(self, group: GroupId) -> GroupRow:
        row = self._core.group(group)
        check_writable(row)
        if row.status == GroupStatus.SPLIT:
            raise Refused(
                "group-split",
                "two members changed this group at once, and it cannot be changed any more",
                blame=Blame.ENVIRONMENT,
                hint="make a new group: this version does not heal a split one",
            )
        return row


def _checked_name(name: str) -> str:
    clean = " ".join(name.split())
    if not clean or len(clean.encode()) > limits.GROUP_NAME or not clean.isprintable():
        raise Refused(
            "bad-name", f"a group's name is 1 to {limits.GROUP_NAME} bytes of printable text"
        )
    return clean
