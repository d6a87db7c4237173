"""Entering a group by Welcome. It is processed at once; accepting the invitation is local."""

from __future__ import annotations

from hashlib import sha256

from identity.bundle import open_bundle_untrusted
from identity.signing import open_signed
from node.engine import requests, values
from node.engine.contacts import Contacts
from node.engine.core import Core, epoch_id, group_info
from node.engine.groups.commits import Early, NoRoom, is_over
from node.engine.groups.epochs import Epochs, member_ref
from node.engine.values import GroupStatus
from node.store.groups import GroupRow
from schemas import limits
from schemas.errors import Malformed, Refused
from schemas.group_records import CommitHeader
from schemas.ids import GroupId
from schemas.messages import GroupKind
from schemas.parcels import WelcomeContent
from schemas.records import SignedType

CHUNK = limits.TREE_CHUNK


class Welcomes:
    def __init__(self, core: Core, epochs: Epochs, contacts: Contacts) -> None:
        self._core = core
        self._epochs = epochs
        self._contacts = contacts

    def receive(self, content: WelcomeContent) -> None:
        """Raises Early while its tree is on its way, NoRoom, Malformed, Refused or MlsError."""
        core = self._core
        header = open_signed(
            SignedType.COMMIT_HEADER, content.header, CommitHeader.decode, lambda h: h.author
        )
        inviter_core = open_bundle_untrusted(content.inviter)
        old = core.groups.get(header.group)
        if old is not None and not is_over(old) and not core.is_damaged(old.id):
            raise Refused("already-member", "a Welcome to a group that we are in")
        # Accepted on the device before: the invitation only brings us back.
        came_back = old is not None and old.status == GroupStatus.RESTORED and old.accepted
        theirs = header.author in {device.key for device in inviter_core.devices}
        by_contact = theirs and core.people.contact(inviter_core.identity) is not None
        if not (by_contact or came_back):
            requests.check_one_more(core)
        known = by_contact or (theirs and core.people.shares_group(inviter_core.identity))
        mls = core.mls.join(content.mls, tree=self._tree(content, known=known))
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
            or inviter.identity != inviter_core.identity
            or core.device.public not in {member.device for member in header.added}
        ):
            raise Malformed("wrong-header", "a Welcome that its header contradicts")
        people = {member.identity for member in roster.values()}
        if info.kind is GroupKind.DIRECT and len(people) != 2:
            raise Malformed("wrong-group", "a conversation of two with other members")
        if len(roster) > limits.GROUP_DEVICES:
            raise Refused("group-full", "a group larger than this version handles")
        self._contacts.keep_bundle(content.inviter, inviter_core, wanted=True)

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
            head=header.commit,
            epoch=mls.epoch,
            epoch_id=epoch_id(mls),
            epoch_base=1 if old is None else old.next_sequence,
            next_sequence=1 if old is None else old.next_sequence,
            lamport=0 if old is None else old.lamport,
            tips=b"" if old is None else old.tips,
            summary_number=0 if old is None else old.summary_number,
            joined=core.now,
        )
        core.trees.forget(content.tree_chunks)
        if old is not None and not is_over(old):
            core.groups.forget_commits(row.id)  # damaged: the way from there to here is not ours
        core.adopt(row.id, mls)
        core.groups.save(row)
        core.groups.add_commit(
            row.id,
            header.commit,
            header.parent,
            header.epoch,
            epoch_id=row.epoch_id,
            header=content.header,
            mls=None,
            now=core.now,
        )
        self._epochs.write_members(row, mls)
        core.write_mls(row)
        core.groups.set_key_update(row.id, row.lamport, None)
        self._epochs.state_head(row)
        core.effects.append(values.KeyPackagesLow())
        core.emit(
            "joined" if row.accepted else "request",
            group=row.id.hex(),
            name=row.name,
            kind=row.kind,
            inviter=inviter.identity.hex(),
            inviter_name=core.name_of(inviter.identity),
        )

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
