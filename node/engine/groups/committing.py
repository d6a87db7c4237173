"""Making one commit: stored with the epoch it leads to and queued for the others, at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256

from identity.bundle import bundle_hash
from identity.signing import sign
from node.engine.core import Core, group_extensions, group_info
from node.engine.groups.authority import encode_intents, in_our_words
from node.engine.groups.epochs import Epochs, commit_hash
from node.engine.groups.statements import Statements
from node.engine.groups.welcome import split_tree
from node.engine.introductions import introductions
from node.engine.outbox import Outbox
from node.store.groups import GroupRow, MemberRow
from node.store.intents import Wish
from schemas import limits
from schemas.group_records import CommitHeader, MemberRef
from schemas.ids import DeviceKey
from schemas.messages import GroupInfo
from schemas.parcels import (
    BundleDigest,
    CommitContent,
    TreeChunkContent,
    WelcomeContent,
)
from schemas.records import Signed, SignedType

WELCOME_WITH_TREE = limits.PARCEL_BODY - 64 * limits.KIB  # beside header, bundle and digests


class Committer:
    def __init__(self, core: Core, outbox: Outbox, epochs: Epochs, statements: Statements) -> None:
        self._core = core
        self._outbox = outbox
        self._epochs = epochs
        self._statements = statements

    def commit(
        self,
        row: GroupRow,
        *,
        add: Sequence[bytes] = (),
        added: Sequence[MemberRef] = (),
        removed: Sequence[MemberRow] = (),
        info_after: GroupInfo | None = None,
        wishes: Sequence[Wish] = (),
    ) -> None:
        """One commit by value. Raises Refused when the group's rules forbid it, or MlsError."""
        core = self._core
        group = core.mls_group(row.id)
        info = group_info(group)
        before = core.groups.members(row.id)
        gone = tuple(MemberRef(member.device, member.identity) for member in removed)
        extensions = None
        if info_after is not None and info_after != info:
            extensions = group_extensions(info_after)
        carried = tuple(wish.signed for wish in wishes)
        make = partial(
            group.commit,
            add=list(add),
            remove=[member.leaf for member in removed],
            extensions=extensions,
            authenticated_data=encode_intents(carried),
            now=int(core.now),
        )
        with in_our_words():
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
            tuple(wish.intent.id for wish in wishes),
        )
        signed = sign(SignedType.COMMIT_HEADER, core.device, header.encode())
        effect = group.apply(pending)
        parent_epoch_id = row.epoch_id
        for wish in wishes:
            core.intents.add(wish, core.now, done=True)
        self._epochs.enter(row, group, effect, header, signed, pending.message)
        statement = self._statements.current(row)

        recipients = [member.device for member in before if member.device != self._me]
        self._outbox.put(
            "commit",
            CommitContent(signed, pending.message, carried),
            recipients,
            group=row.id,
            epoch_id=parent_epoch_id,
            statement=statement,
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
        for content in introductions(self._core, about, recipients):
            self._outbox.put("bundles", content, recipients, group=row.id)

    @property
    def _me(self) -> DeviceKey:
        return self._core.device.public
