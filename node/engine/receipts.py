"""Receipts are watermarks: summaries out for what came, and what a peer's summary settles.

`delivered` in the ledger comes from here alone: a device's signed word that it has a message
decrypted and on disk.
"""

from __future__ import annotations

from identity.signing import open_signed, sign
from node.engine import branch_tree, values
from node.engine.core import Core
from node.engine.outbox import SUMMARY_LIFETIME_S, Outbox
from node.engine.values import OVER, State
from node.engine.watermarks import as_mark
from node.store.groups import GroupRow
from node.store.outbox import LedgerRow
from schemas.errors import Malformed
from schemas.group_records import AuthorMark, Summary
from schemas.ids import DeviceKey, GroupId
from schemas.parcels import SummaryContent
from schemas.records import Signed, SignedType

FIRST_PARCEL_S = 1.0  # to an author without a link: soon the first time
NEXT_PARCEL_S = 60.0  # then at most once a minute
LARGE_GROUP = 50  # devices; above, everybody's receipts would be most of the traffic:
LARGE_GROUP_S = 600.0  # at most this often, over links too
RESEND_GAP_S = 10.0


class Receipts:
    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox
        # What an earlier process owed is due at once. When is not durable; that is, is: a relay
        # holds the author's copy for days, and without a receipt it looks as if nobody came.
        self._due: dict[tuple[GroupId, DeviceKey], float] = dict.fromkeys(core.messages.owed(), 0.0)
        self._last: dict[tuple[GroupId, DeviceKey], float] = {}
        self._told: list[tuple[GroupId, DeviceKey]] = []  # by the last flush
        self._told_in_full: list[tuple[GroupId, DeviceKey]] = []  # by this batch

    # --- out

    def owe(self, group: GroupId, author: DeviceKey) -> None:
        """Something of `author` is new here, or was shown: tell them."""
        key = (group, author)
        if self._core.people.is_blocked_device(author):
            return  # to whom we are away
        self._core.messages.set_owed(group, author, True)
        large = len(self._core.groups.members(group)) > LARGE_GROUP
        if author in self._core.linked and not large:
            self._due[key] = self._core.now
        elif key not in self._due:
            pause = LARGE_GROUP_S if large else NEXT_PARCEL_S
            soonest = self._last.get(key, -pause) + pause
            self._due[key] = max(self._core.now + FIRST_PARCEL_S, soonest)

    def link_up(self, device: DeviceKey) -> None:
        """Whatever this device should know of its messages, it learns at once."""
        if self._core.people.is_blocked_device(device):
            return
        for group in self._core.groups.all():
            if self._core.messages.watermark(group.id, device) is not None:
                self._due[group.id, device] = self._core.now

    def hasten(self) -> int:
        """What is owed is due now: this node ends soon. Answers how many receipts that makes."""
        self._due = dict.fromkeys(self._due, self._core.now)
        return len(self._due)

    def flush(self) -> None:
        """At the end of each batch: one summary per group and author, however many messages."""
        core = self._core
        due = [key for key, when in self._due.items() if when <= core.now]
        self._told = due + self._told_in_full
        self._told_in_full = []
        for key in due:
            del self._due[key]
            group, author = key
            signed = self._summary(group, author)
            if signed is None:
                continue
            core.messages.set_owed(group, author, False)
            self._last[key] = core.now
            if author in core.linked:
                core.effects.append(values.SummaryReady(author, signed.encode()))
                continue
            core.outbox.remove_kind(group, "summary", author)
            content = SummaryContent(signed)
            self._outbox.put(
                "summary", content, [author], group=group, lifetime_s=SUMMARY_LIFETIME_S
            )

    def forget_told(self) -> None:
        """After a batch that could not be committed: nobody was told."""
        for key in self._told:
            self._due.setdefault(key, self._core.now)
            self._last.pop(key, None)

    def clock_went_back(self) -> None:
        self._due = dict.fromkeys(self._due, self._core.now)
        self._last.clear()

    def next_due(self) -> float | None:
        return min(self._due.values(), default=None)

    def _summary(self, group: GroupId, author: DeviceKey) -> Signed | None:
        core = self._core
        row = core.groups.get(group)
        mark = core.messages.watermark(group, author)
        if row is None or not row.accepted or row.status in OVER or mark is None:
            return None
        return self.sign(row, (as_mark(author, mark),))

    def sign(self, row: GroupRow, marks: tuple[AuthorMark, ...], tree: bytes = b"") -> Signed:
        """Our next summary in a group; full, where it has a `tree`."""
        core = self._core
        row.summary_number += 1
        core.groups.save(row)
        summary = Summary(row.id, row.epoch_id, row.head, row.summary_number, marks, tree)
        return sign(SignedType.SUMMARY, core.device, summary.encode())

    def told(self, group: GroupId, author: DeviceKey) -> None:
        """A full summary said what a receipt would have."""
        self._due.pop((group, author), None)
        self._told_in_full.append((group, author))
        self._core.messages.set_owed(group, author, False)

    # --- in

    def was_member(self, group: GroupId, device: DeviceKey) -> bool:
        """Of any branch that we heard of, also where it removed us, or we it."""
        core = self._core
        return (
            core.groups.was_member(group, device)
            or device in core.branches.statements(group)
            or branch_tree.names(core.branches.commits(group), device)
        )

    def receive(self, signed: Signed) -> Summary:
        """Settles what a device says it has of ours; answers what it said. Raises Malformed."""
        core = self._core
        summary = open_signed(
            SignedType.SUMMARY, signed, Summary.decode, lambda _: DeviceKey(signed.signer)
        )
        device = DeviceKey(signed.signer)
        if not self.was_member(summary.group, device):
            raise Malformed("not-a-member", "a summary of a stranger")
        if not core.messages.newer_summary(summary.group, device, summary.number, signed):
            return summary
        row = core.groups.get(summary.group)
        if row is not None and core.outbox.waits(row.id, "welcome"):
            self._outbox.drop_welcome(row, device, summary.head)
        mark = next((m for m in summary.authors if m.device == core.device.public), None)
        if mark is None:
            return summary
        moved: list[tuple[LedgerRow, State, str | None]] = [
            (entry, State.READ, None)
            for entry in core.outbox.unread_entries(summary.group, device, mark.read)
        ]
        gone = core.outbox.unsettled(summary.group, device, given_up=True)
        for entry in [*core.outbox.open_entries(summary.group, device, mark.contiguous), *gone]:
            if mark.covers(entry.sequence):
                state = State.READ if entry.sequence <= mark.read else State.DELIVERED
                # A receipt over a link is usually faster than the link's ack is reported.
                linked = entry.path is None and device in core.linked
                moved.append((entry, state, "direct" if linked else None))
            elif (
                entry.state != State.REFUSED
                and entry.sequence in mark.gaps
                and core.now - entry.updated > RESEND_GAP_S
            ):
                core.outbox.bring_message_forward(entry.message, device, core.now)
        self._outbox.settle(device, moved)
        return summary
