"""Messages: sending, receiving, and reading them by named cursors."""

from __future__ import annotations

import dataclasses

import mls_rs

from node.engine import commands, values
from node.engine.core import Core
from node.engine.groups.statements import Statements
from node.engine.outbox import CARRIED, MESSAGE_LIFETIME_S, Outbox
from node.engine.receipts import Receipts
from node.engine.values import GroupStatus
from node.engine.watermarks import advance
from node.store.groups import GroupRow
from node.store.messages import MessageRow
from schemas import limits, times
from schemas.errors import Refused
from schemas.group_records import MemberRef
from schemas.ids import DeviceKey, EpochId, IdentityKey, MessageId
from schemas.messages import AppMessage, GroupKind
from schemas.parcels import MessageContent

CIPHERTEXT_LIFETIME_S = 7 * 86_400
LAMPORT_STEP = 1 << 20  # above what members say between two messages that reach us
GROUP_SPLIT = "group_split"
DEFAULT_CURSOR = "default"
RECENT = 500  # messages among which one that is answered is looked for


class Conversation:
    def __init__(
        self, core: Core, outbox: Outbox, receipts: Receipts, statements: Statements
    ) -> None:
        self._core = core
        self._outbox = outbox
        self._receipts = receipts
        self._statements = statements

    # --- sending

    def send(self, command: commands.Send) -> values.SentView:
        core = self._core
        row = core.group(command.group)
        check_writable(row)
        if row.kind == GroupKind.DIRECT.value and core.people.has_blocked(row.id):
            raise Refused("blocked", "you blocked this person", hint="quicnprotochat unblock KEY")
        size = len(command.text.encode())
        if not 0 < size <= limits.MESSAGE_TEXT:
            raise Refused(
                "message-too-long" if size else "empty-message",
                f"a message of {size} bytes; the limit is {limits.MESSAGE_TEXT}",
                hint="split it" if size else "write something",
            )
        message = self._compose(row, command.text)
        me = core.device.public
        recipients = [
            MemberRef(member.device, member.identity)
            for member in core.groups.members(row.id)
            if member.device != me
        ]
        core.messages.add(self._own_row(row, message))
        split = row.status == GroupStatus.SPLIT
        self._outbox.open_ledger(
            message.id, row.id, message.sequence, recipients, GROUP_SPLIT if split else None
        )
        if not split:
            self._seal(row, message, [member.device for member in recipients])
        core.groups.save_message(row)
        status = f"queued ({GROUP_SPLIT})" if split else "queued"
        return values.SentView(message.id, row.id, status)

    def _compose(self, row: GroupRow, text: str) -> AppMessage:
        """Takes the next sequence number and answers every open tip."""
        core = self._core
        message = AppMessage(
            MessageId(core.random(MessageId.LENGTH)),
            row.next_sequence,
            min(row.epoch_base, row.next_sequence),
            min(row.lamport + 1, limits.COUNTER),
            _split_ids(row.tips),
            int(times.clamped(core.now) * 1000),
            text,
        )
        row.next_sequence += 1
        row.lamport = message.lamport
        row.tips = bytes(message.id)
        return message

    def seal_again(self, row: GroupRow, message: MessageId, recipients: list[DeviceKey]) -> None:
        """A message of ours that these members cannot read as it was sealed, under the same id."""
        core = self._core
        stored = core.messages.get(row.id, core.device.public, message)
        if stored is None:
            return
        for device in recipients:
            core.outbox.remove_messages([message], device)
        again = AppMessage(
            stored.id,
            stored.sequence,
            min(row.epoch_base, stored.sequence),
            stored.lamport,
            stored.parents,
            stored.sent_ms,
            stored.text,
        )
        passed = max(0.0, core.now - stored.received)
        self._seal(row, again, recipients, lifetime_s=max(60.0, MESSAGE_LIFETIME_S - passed))

    def _seal(
        self,
        row: GroupRow,
        message: AppMessage,
        recipients: list[DeviceKey],
        lifetime_s: float = MESSAGE_LIFETIME_S,
    ) -> None:
        core = self._core
        mls = core.encrypt(row, message.encode())
        core.messages.drop_ciphertext(row.id, core.device.public, message.sequence)
        self._keep(row, core.device.public, message.sequence, row.epoch_id, mls)
        self._outbox.put(
            "message",
            MessageContent(mls),
            recipients,
            group=row.id,
            epoch_id=row.epoch_id,
            statement=self._statements.current(row),
            message=message.id,
            lifetime_s=lifetime_s,
        )

    def _own_row(self, row: GroupRow, message: AppMessage) -> MessageRow:
        core = self._core
        return _message_row(
            row, core.device.public, core.identity.public, message, core.now, "own", own=True
        )

    def _keep(
        self, row: GroupRow, author: DeviceKey, sequence: int, epoch_id: EpochId, mls: bytes
    ) -> None:
        until = self._core.now + CIPHERTEXT_LIFETIME_S
        self._core.messages.keep_ciphertext(row.id, author, sequence, epoch_id, mls, until)

    # --- receiving

    def received(
        self,
        row: GroupRow,
        opened: mls_rs.Message,
        mls: bytes,
        epoch_id: EpochId,
        path: str,
        via: DeviceKey | None,
    ) -> DeviceKey:
        """Stores a decrypted message; answers its author. Raises Malformed."""
        core = self._core
        author = DeviceKey(opened.sender.signature_key)
        if via not in (None, author):
            path = CARRIED
        identity = IdentityKey(opened.sender.credential[:32])
        message = AppMessage.decode(opened.plaintext)
        # One message with the largest number of all would end the counting for everybody.
        lamport = min(message.lamport, row.lamport + LAMPORT_STEP)
        message = dataclasses.replace(message, lamport=lamport)
        stored = _message_row(row, author, identity, message, core.now, path, own=False)
        arrival = core.messages.add(stored)
        if arrival is None:
            return author
        mark = core.messages.watermark(row.id, author)
        core.messages.put_watermark(
            row.id, author, advance(mark, message.sequence, message.epoch_base)
        )
        self._keep(row, author, message.sequence, epoch_id, mls)
        row.lamport = max(row.lamport, message.lamport)
        tips = _split_ids(row.tips)
        missing = {parent for parent in message.parents if parent not in tips}
        if missing and missing - core.messages.latest_ids(row.id, RECENT):
            core.read_more.add((row.id, via or author))
        open_tips = [tip for tip in tips if tip not in message.parents]
        row.tips = b"".join([*open_tips, message.id][-limits.MESSAGE_PARENTS :])
        core.groups.save_message(row)
        if core.outbox.waits(row.id, "welcome"):
            commits = core.branches.commits(row.id).values()
            spoken_in = next((one.hash for one in commits if one.epoch_id == epoch_id), None)
            self._outbox.drop_welcome(row, author, spoken_in)
        if row.accepted and not core.people.is_blocked(identity):
            core.emit(
                "message",
                group=row.id.hex(),
                name=row.name,
                arrival=arrival,
                message=message.id.hex(),
                sender=identity.hex(),
                sender_name=core.name_of(identity),
                path=path,
            )
        return author

    # --- reading

    def read(self, command: commands.ReadMessages) -> tuple[values.MessageView, ...]:
        core = self._core
        rows = core.messages.unread(command.cursor, command.group, command.limit)
        first_arrival: dict[bytes, int] = {}
        for row in rows:
            first_arrival.setdefault(row.group, row.arrival)
        # Causal order within a group, groups by what came first.
        rows.sort(key=lambda r: (first_arrival[r.group], r.lamport, r.author, r.sequence))
        return self._views(rows)

    def history(self, command: commands.ReadHistory) -> tuple[values.MessageView, ...]:
        core = self._core
        core.group(command.group)
        rows = core.messages.latest(command.group, command.after, command.limit)
        rows.sort(key=lambda r: (r.lamport, r.author, r.sequence))
        return self._views(rows)

    def _views(self, rows: list[MessageRow]) -> tuple[values.MessageView, ...]:
        core = self._core
        names = {group: core.group(group).name for group in {row.group for row in rows}}
        return tuple(
            values.MessageView(
                row.arrival,
                row.id,
                row.group,
                names[row.group],
                row.identity,
                row.author,
                core.name_of(row.identity),
                row.sequence,
                row.text,
                row.sent_ms / 1000,
                row.received,
                row.path,
                row.own,
            )
            for row in rows
        )

    def move_cursor(self, command: commands.MoveCursor) -> None:
        for group, arrival in command.seen:
            self._core.messages.move_cursor(command.cursor, group, arrival)
            if command.cursor == DEFAULT_CURSOR:  # the user's own; others are scripts
                for author in self._core.messages.mark_read(group, arrival):
                    self._receipts.owe(group, author)


def check_writable(row: GroupRow) -> None:
    """Raises Refused: `not-accepted`, `not-a-member`, or `not-readmitted`."""
    if row.status == GroupStatus.RESTORED:
        raise Refused(
            "not-readmitted",
            "this device is not in the group: it was restored from a backup",
            hint="ask an admin to invite you again",
        )
    if row.status in (GroupStatus.LEFT, GroupStatus.REMOVED, GroupStatus.LEAVING):
        raise Refused("not-a-member", "you are no longer in this group", hint="ask to be invited")
    if not row.accepted:
        raise Refused(
            "not-accepted",
            "this invitation waits for your answer",
            hint=f"quicnprotochat join {row.id}",
        )


def _message_row(
    row: GroupRow,
    author: DeviceKey,
    identity: IdentityKey,
    message: AppMessage,
    now: float,
    path: str,
    *,
    own: bool,
) -> MessageRow:
    return MessageRow(
        row.id,
        author,
        message.id,
        identity,
        message.sequence,
        message.lamport,
        message.parents,
        message.sent_at_ms,
        now,
        own,
        path,
        message.text,
    )


def _split_ids(packed: bytes) -> tuple[MessageId, ...]:
    step = MessageId.LENGTH
    return tuple(MessageId(packed[i : i + step]) for i in range(0, len(packed), step))
