"""Entering a group by Welcome. It is processed at once; accepting the invitation is local."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import mls_rs

from identity.bundle import open_bundle_untrusted
from identity.signing import open_signed
from node.engine import requests, values
from node.engine.contacts import Contacts
from node.engine.core import Core, epoch_id, group_info
from node.engine.early import Early, NoRoom
from node.engine.groups.authority import member_ref
from node.engine.groups.epochs import Epochs
from node.engine.values import HOLDING, OVER, GroupStatus
from node.store.groups import GroupRow
from node.store.outbox import NO_PARCEL
from schemas import limits
from schemas.errors import Malformed, Refused
from schemas.group_records import CommitHeader, IntentKind, MemberRef
from schemas.ids import GroupId
from schemas.messages import GroupInfo, GroupKind
from schemas.parcels import ParcelBody, WelcomeContent
from schemas.records import BundleCore, SignedType

CHUNK = limits.TREE_CHUNK
STRANGE_WELCOMES = 8  # to one group that we are in: half of those that are kept


@dataclass(frozen=True, slots=True)
class _Welcome:
    content: WelcomeContent
    header: CommitHeader
    inviter: BundleCore
    by_contact: bool
    known: bool  # by somebody we share a group with


class Welcomes:
    def __init__(self, core: Core, epochs: Epochs, contacts: Contacts) -> None:
        self._core = core
        self._epochs = epochs
        self._contacts = contacts

    def receive(self, content: WelcomeContent) -> bool:
        """Whether it is a way into another branch of a group that we are in, kept for fork choice.

        Raises Early while its tree is on its way, NoRoom, Malformed, Refused or MlsError.
        """
        core = self._core
        welcome = self._open(content)
        old = core.groups.get(welcome.header.group)
        if old is not None and old.status not in OVER and not core.is_damaged(old.id):
            return self._keep(old, welcome)
        # Accepted on the device before: the invitation only brings us back.
        came_back = old is not None and old.accepted and self._brings_back(old, welcome.header)
        if not (welcome.by_contact or came_back):
            requests.check_one_more(core)
        mls, info, inviter = self._join(welcome)
        self._contacts.keep_bundle(content.inviter, welcome.inviter, wanted=True)

        expected = info.kind is GroupKind.DIRECT and core.people.contact(inviter.identity)
        row = GroupRow(
            id=GroupId(mls.group_id),
            incarnation=1 if old is None else old.incarnation + 1,
            name=info.name,
            kind=info.kind.value,
            suite=mls.suite,
            status=GroupStatus.ACTIVE,
            accepted=bool(expected or came_back),
            inviter=inviter.identity,
            head=welcome.header.commit,
            epoch=mls.epoch,
            epoch_id=epoch_id(mls),
            epoch_base=1 if old is None else old.next_sequence,
            next_sequence=1 if old is None else old.next_sequence,
            lamport=0 if old is None else old.lamport,
            tips=b"" if old is None else old.tips,
            summary_number=int(core.now) if old is None else old.summary_number,
            joined=core.now,
        )
        if old is not None and old.status not in OVER:
            core.groups.forget_commits(row.id)  # damaged: the way from there to here is not ours
            core.branches.forget(row.id)
        self._stand(row, mls, welcome)
        core.effects.append(values.KeyPackagesLow())
        core.emit(
            "joined" if row.accepted else "request",
            group=row.id.hex(),
            name=row.name,
            kind=row.kind,
            inviter=inviter.identity.hex(),
            inviter_name=core.name_of(inviter.identity),
        )
        return False

    def enter_branch(self, row: GroupRow, body: ParcelBody) -> None:
        """Takes our place in a branch that was chosen and that only a Welcome leads to.

        Raises what `receive` does; then nothing has changed.
        """
        core = self._core
        if not isinstance(body.content, WelcomeContent):
            raise Malformed("wrong-content", "not a Welcome")
        welcome = self._open(body.content)
        mls, info, _ = self._join(welcome)
        if row.status in HOLDING:
            core.keep_snapshot(row)
        if row.status not in (GroupStatus.LEAVING, GroupStatus.SPLIT):
            row.status = GroupStatus.ACTIVE
        row.incarnation = core.groups.last_incarnation(row.id) + 1
        row.name, row.head = info.name, welcome.header.commit
        row.epoch, row.epoch_id = mls.epoch, epoch_id(mls)
        row.epoch_base = row.next_sequence
        self._stand(row, mls, welcome)
        core.branches.drop_welcome(row.id, row.head)
        core.intents.set_done(row.id, welcome.header.intents)

    def _stand(self, row: GroupRow, mls: mls_rs.Group, welcome: _Welcome) -> None:
        """In the epoch that the Welcome leads to."""
        core = self._core
        core.trees.forget(welcome.content.tree_chunks)
        core.adopt(row.id, mls)
        core.groups.save(row)
        header = welcome.header
        core.branches.enter(row, header, welcome.content.header, None, row.epoch_id, core.now)
        self._epochs.write_members(row, mls)
        core.write_mls(row)
        core.groups.set_key_update(row.id, row.lamport, None)

    def _brings_back(self, row: GroupRow, header: CommitHeader) -> bool:
        """To a device that was restored from a backup, or that asked for it."""
        wishes = (self._core.intents.get(row.id, intent) for intent in header.intents)
        me = self._core.device.public
        return row.status == GroupStatus.RESTORED or any(
            wish is not None and wish.intent.kind is IntentKind.READMIT and wish.intent.author == me
            for wish in wishes
        )

    def _keep(self, row: GroupRow, welcome: _Welcome) -> bool:
        """For a branch that may win. Raises Early, NoRoom or Refused."""
        core = self._core
        header = welcome.header
        if core.device.public not in {member.device for member in header.added}:
            raise Malformed("wrong-header", "a Welcome that its header contradicts")
        known = core.branches.commits(row.id).get(header.commit)
        if known is not None and known.entered is not None:
            raise Refused("already-member", "a Welcome to an epoch that we are in")
        strange = header.author not in core.branches.devices(row.id)  # perhaps only as yet
        if strange and len(core.branches.welcomes(row.id)) >= STRANGE_WELCOMES:
            raise Refused("already-member", "a Welcome to a group that we are in")
        self._tree(welcome.content, known=True)
        core.branches.add(row.id, header, welcome.content.header, None, core.now)
        body = ParcelBody(NO_PARCEL, welcome.content, row.id)
        core.branches.keep_welcome(row.id, header.commit, body, core.now)
        if header.parent not in core.branches.commits(row.id):
            core.ahead.add((row.id, header.author))
        return True

    def _open(self, content: WelcomeContent) -> _Welcome:
        """What it says, its signatures verified. Raises Malformed."""
        core = self._core
        header = open_signed(
            SignedType.COMMIT_HEADER, content.header, CommitHeader.decode, lambda h: h.author
        )
        inviter = open_bundle_untrusted(content.inviter)
        theirs = header.author in {device.key for device in inviter.devices}
        by_contact = theirs and core.people.contact(inviter.identity) is not None
        known = by_contact or (theirs and core.people.shares_group(inviter.identity))
        return _Welcome(content, header, inviter, by_contact, known)

    def _join(self, welcome: _Welcome) -> tuple[mls_rs.Group, GroupInfo, MemberRef]:
        """(group, its info, who signed the Welcome). Raises as `receive` does."""
        core, content, header = self._core, welcome.content, welcome.header
        for reference in core.library.welcome_references(content.mls):
            used = core.key_packages.used_blob(reference)
            if used is not None:
                core.mls.restore_key_package(reference, used)
        mls = core.mls.join(content.mls, tree=self._tree(content, known=welcome.known))
        info = group_info(mls)
        roster = {member.index: member_ref(member) for member in mls.roster()}
        # Who signed the Welcome: another invitee could send it on under a header of their own.
        signer = mls.inviter_index
        inviter = None if signer is None else roster.get(signer)
        if (
            mls.group_id != header.group
            or mls.epoch != header.epoch
            or inviter is None
            or inviter.device != header.author
            or inviter.identity != welcome.inviter.identity
            or core.device.public not in {member.device for member in header.added}
        ):
            raise Malformed("wrong-header", "a Welcome that its header contradicts")
        people = {member.identity for member in roster.values()}
        if info.kind is GroupKind.DIRECT and len(people) != 2:
            raise Malformed("wrong-group", "a conversation of two with other members")
        if len(roster) > limits.GROUP_DEVICES:
            raise Refused("group-full", "a group larger than this version handles")
        return mls, info, inviter

    def _tree(self, content: WelcomeContent, *, known: bool) -> bytes | None:
        """The ratchet tree, when it travels beside the Welcome. Raises Early, NoRoom."""
        if not content.tree_chunks:
            return None
        core = self._core
        tree = core.trees.tree(content.tree_chunks)
        if tree is not None:
            return tree
        ours = {reference for reference, _ in core.key_packages.blobs()}
        if ours.isdisjoint(core.library.welcome_references(content.mls)):
            raise Malformed("not-for-me", "a Welcome for none of our KeyPackages")
        if not core.trees.expect(content.tree_chunks, wanted=known, now=core.now):
            raise NoRoom
        raise Early(known=known)

    def receive_chunk(self, data: bytes) -> bool:
        """Whether a Welcome waited for this. Raises NoRoom."""
        room, awaited = self._core.trees.add(sha256(data).digest(), data, self._core.now)
        if not room:
            self._core.count("tree-chunks-full")
            raise NoRoom
        return awaited


def split_tree(tree: bytes) -> list[bytes]:
    """Into parts that fit parcels."""
    return [tree[start : start + CHUNK] for start in range(0, len(tree), CHUNK)]
