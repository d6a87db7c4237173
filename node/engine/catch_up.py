"""Peer catch-up: when two members meet they compare summaries and hand over what is missing.

A full summary says where a device stands, what it has of every author, and a digest of the commits
and votes that it knows. Whoever gets one answers with what the other lacks (`serving`). Nothing is
asked or answered more often than the constants here allow, whatever the other side does.
"""

from __future__ import annotations

from typing import TypeVar

from node.engine import delivery_commands as d
from node.engine import values
from node.engine.branch_tree import HALF
from node.engine.core import Core
from node.engine.outbox import CARRIED, CATCH_UP, FULL_SUMMARY, Outbox
from node.engine.receipts import Receipts
from node.engine.serving import LIFETIME_S, Serving
from node.engine.values import OVER, GroupStatus
from node.engine.watermarks import as_mark
from node.store.groups import GroupRow
from schemas import limits
from schemas.errors import Malformed
from schemas.group_records import Summary
from schemas.ids import CommitHash, DeviceKey, GroupId
from schemas.parcels import CommitContent, MessageContent, ParcelBody, SummaryContent
from schemas.records import Signed

Key = tuple[GroupId, DeviceKey]
_Value = TypeVar("_Value")

SPACING_S = 0.5  # between links that come up: what the first hands over is not asked of all
LONGEST_SPACING_S = 10.0  # whoever comes and goes all the time delays nobody beyond it
ASK_AGAIN_S = 5.0  # one member, about one group
ASKED_AT_ONCE = 3  # members who know more than we do, of one group, in that time
MORE_S = 1.0  # after something was handed over, when more may wait
WITNESSES = 2  # asked when a member is gone
SAME_HEAD_S = 60.0  # until a member is asked again about a head that nobody could explain
SERVE_AGAIN_S = 2.0  # one member, about one group: a later summary replaces the one that waits
WAITING = 1024  # summaries that wait for their turn, of all members
REMEMBERED = 16_384  # of each kind of time and number below

# Ciphertexts are kept for members that missed them. The budget of a group is that of its
# snapshots; of all, what a mailbox holds: a home stays small, and a week of a busy group fits.
CIPHERTEXTS_OF_A_GROUP = 16 * limits.MIB
CIPHERTEXTS = 64 * limits.MIB
TRIM_EVERY = 4 * limits.MIB  # of new ones, between two looks at the budget: a look reads them all


class CatchUp:
    def __init__(self, core: Core, outbox: Outbox, receipts: Receipts) -> None:
        self._core = core
        self._outbox = outbox
        self._receipts = receipts
        self._serving = Serving(core, outbox)
        self._asks: dict[Key, float] = {}  # when we send a full summary
        self._asked: dict[Key, float] = {}  # when we last did
        self._asked_about: dict[Key, tuple[CommitHash, float]] = {}
        self._slots: dict[GroupId, float] = {}  # the last turn given to a link that came up
        self._turns: dict[GroupId, list[float]] = {}  # when members ahead of us were asked
        self._waiting: dict[Key, tuple[float, Summary]] = {}  # from when on it is answered
        self._served: dict[Key, float] = {}
        self._numbers: dict[Key, int] = {}  # of the last full summary
        self._done: tuple[list[Key], dict[Key, tuple[float, Summary]]] = ([], {})  # by this batch

    # --- links

    def link_up(self, device: DeviceKey) -> None:
        """A full summary for each group that is shared, one after another within a group."""
        core = self._core
        self._receipts.link_up(device)
        if core.people.is_blocked_device(device):
            return  # to whom we are away
        self._serving.forget(device)
        self._drop_parcels(device)
        for row in core.groups.all():
            if self._speaks_in(row) and self._is_member(row, device):
                slot = max(core.now, self._slots.get(row.id, 0.0) + SPACING_S)
                slot = min(slot, core.now + LONGEST_SPACING_S)
                self._slots[row.id] = self._asks[row.id, device] = slot

    def link_down(self, device: DeviceKey) -> None:
        """What was for this link ends with it: the next one asks anew.

        Who is gone may have told others what did not come to us any more.
        """
        self._drop_parcels(device)
        for waiting in (self._asks, self._waiting):
            for key in [key for key in waiting if key[1] == device]:
                del waiting[key]
        for row in self._core.groups.all():
            if self._speaks_in(row) and self._is_member(row, device):
                others = {member.device for member in self._core.groups.members(row.id)}
                for other in sorted(others & self._core.linked - {device})[:WITNESSES]:
                    self._ask_soon((row.id, other), MORE_S)

    def _drop_parcels(self, device: DeviceKey) -> None:
        for row in self._core.groups.all():
            for kind in (CATCH_UP, CARRIED):
                self._core.outbox.remove_kind(row.id, kind, device)

    # --- in

    def receive_frame(self, command: d.ReceiveSummary) -> None:
        """A summary on a link must be the peer's own."""
        if command.summary.signer != command.device:
            raise Malformed("wrong-signer", "a summary of somebody else")
        self.receive(command.summary)

    def receive(self, signed: Signed) -> None:
        """Settles what it confirms; a full one waits for its answer. Raises Malformed."""
        summary = self._receipts.receive(signed)
        key = (summary.group, DeviceKey(signed.signer))
        row = self._core.groups.get(summary.group)
        if len(summary.tree) != 2 * HALF or row is None:
            return
        if row.status == GroupStatus.REMOVED:  # by a branch that may have lost: a member asks
            self._ask_soon(key)
        if not self._speaks_in(row):
            return
        if summary.number <= self._numbers.get(key, -1):
            self._core.count("catch-up-repeated")
            return
        due = max(self._core.now, self._served.get(key, 0.0) + SERVE_AGAIN_S)
        if key in self._waiting:
            due = self._waiting[key][0]
            self._core.count("catch-up-replaced")
        elif len(self._waiting) >= WAITING:
            self._core.count("catch-up-busy")
            return
        _remember(self._numbers, key, summary.number)
        self._waiting[key] = (due, summary)

    def handed_over(self, body: ParcelBody, author: DeviceKey | None, via: DeviceKey) -> None:
        """A peer brought something of another's that is new here: it may have more."""
        if isinstance(body.content, CommitContent):
            author = DeviceKey(body.content.header.signer)
        elif not isinstance(body.content, MessageContent):
            return
        row = self._core.groups.get(body.group)
        if author not in (None, via) and row is not None and self._is_member(row, via):
            self._asks.setdefault((body.group, via), self._core.now + MORE_S)

    # --- at the end of each batch

    def flush(self) -> None:
        core = self._core
        self._done = ([], {})
        self._serve_one()
        for key in sorted(core.ahead, key=lambda key: (key[1] not in core.linked, key)):
            if self._turn_to_ask(key[0]):
                self._ask_soon(key)
        for key in sorted(core.read_more):
            self._ask_soon(key, MORE_S)
        for key in sorted(key for key, when in self._asks.items() if when <= core.now):
            self._done[0].append(key)
            del self._asks[key]
            self._ask(*key)
        if core.messages.kept_bytes > TRIM_EVERY:
            self.sweep()

    def undo_batch(self) -> None:
        """It could not be committed: nobody was asked or answered."""
        asked, waiting = self._done
        for key in asked:
            self._asks.setdefault(key, self._core.now)
        for key, waited in waiting.items():
            self._waiting.setdefault(key, waited)
        self._serving.forget()

    def clock_went_back(self) -> None:
        now = self._core.now
        self._asks = dict.fromkeys(self._asks, now)
        self._waiting = {key: (now, summary) for key, (_, summary) in self._waiting.items()}
        for times in (self._asked, self._asked_about, self._slots, self._turns, self._served):
            times.clear()
        self._serving.forget()

    def next_due(self) -> float | None:
        due = [*self._asks.values(), *(when for when, _ in self._waiting.values())]
        return max(min(due), self._core.now + 0.001) if due else None

    def sweep(self) -> None:
        """The oldest ciphertexts go until they fit."""
        core = self._core
        core.messages.kept_bytes = 0
        for _ in range(core.catch_up.trim_ciphertexts(CIPHERTEXTS_OF_A_GROUP, CIPHERTEXTS)):
            core.count("ciphertext-over-budget")

    # --- asking

    def _turn_to_ask(self, group: GroupId) -> bool:
        """Many may know what we lack, and one of them is enough."""
        times = self._turns.setdefault(group, [])
        times[:] = [when for when in times if when > self._core.now - ASK_AGAIN_S]
        if len(times) >= ASKED_AT_ONCE:
            return False
        times.append(self._core.now)
        return True

    def _ask_soon(self, key: Key, delay_s: float = 0.0) -> None:
        soonest = max(self._core.now + delay_s, self._asked.get(key, 0.0) + ASK_AGAIN_S)
        self._asks[key] = min(self._asks.get(key, soonest), soonest)

    def _ask(self, group: GroupId, device: DeviceKey) -> None:
        core = self._core
        row = core.groups.get(group)
        if row is None or not (self._speaks_in(row) or row.status == GroupStatus.REMOVED):
            return
        if not row.accepted or core.people.is_blocked_device(device):
            return
        if not self._receipts.was_member(group, device):
            core.count("catch-up-stranger")
            return
        members = {member.device for member in core.groups.members(group)}
        authors = core.messages.authors(group)
        marks = []
        for author in sorted(authors, key=lambda a: (a not in members, a))[
            : limits.SUMMARY_AUTHORS
        ]:
            mark = core.messages.watermark(group, author)
            if mark is not None:
                marks.append(as_mark(author, mark))
        signed = self._receipts.sign(row, tuple(marks), self._serving.digest(row, device))
        _remember(self._asked, (group, device), core.now)
        self._receipts.told(group, device)
        if device in core.linked:
            core.effects.append(values.SummaryReady(device, signed.encode()))
            return
        core.outbox.remove_kind(group, FULL_SUMMARY, device)
        self._outbox.put(
            FULL_SUMMARY, SummaryContent(signed), [device], group=group, lifetime_s=LIFETIME_S
        )

    # --- serving

    def _serve_one(self) -> None:
        """One a batch: the next batch is not far, and others wait for this one."""
        core = self._core
        due = [(when, key) for key, (when, _) in self._waiting.items() if when <= core.now]
        if not due:
            return
        key = min(due)[1]
        group, device = key
        waited = self._waiting.pop(key)
        self._done[1][key] = waited
        row = core.groups.get(group)
        if row is None or not self._speaks_in(row):
            return
        if core.catch_up.waiting(group, device, (CATCH_UP, CARRIED)):
            core.count("catch-up-under-way")
            self._waiting[key] = (core.now + SERVE_AGAIN_S, waited[1])
            return
        _remember(self._served, key, core.now)
        self._serving.serve(row, device, waited[1])
        self._look_ahead(row, key, waited[1])

    def _look_ahead(self, row: GroupRow, key: Key, summary: Summary) -> None:
        """A member on a commit that we do not know has something for us."""
        core = self._core
        if summary.head in core.branches.commits(row.id) or not self._is_member(row, key[1]):
            return
        head, when = self._asked_about.get(key, (None, 0.0))
        if head != summary.head or core.now - when >= SAME_HEAD_S:
            _remember(self._asked_about, key, (summary.head, core.now))
            core.ahead.add(key)

    # --- who

    @staticmethod
    def _speaks_in(row: GroupRow) -> bool:
        """Nothing is sent to a group before its invitation is accepted, or after it is over."""
        return row.accepted and row.status not in OVER

    def _is_member(self, row: GroupRow, device: DeviceKey) -> bool:
        return any(member.device == device for member in self._core.groups.members(row.id))


def _remember(times: dict[Key, _Value], key: Key, value: _Value) -> None:
    """The oldest makes room."""
    times.pop(key, None)
    times[key] = value
    if len(times) > REMEMBERED:
        del times[next(iter(times))]
