"""The outbox and the delivery ledger: what leaves, when it is tried again, and what became of it.

A message's parcel stays in the outbox until its recipient said `delivered`, or it expires. The
stages of a parcel are `queued` (not left), `sent` (on the recipient's disk, by its link ack) and
`held` (on a relay's disk); the last two wait for a receipt and are handed over again without one.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from node.engine import branch_tree, values
from node.engine import delivery_commands as d
from node.engine.core import Core
from node.engine.requests import TOO_MANY_REQUESTS
from node.engine.under_way import Taken, UnderWay
from node.engine.values import State
from node.store.groups import GroupRow
from node.store.outbox import NO_PARCEL, LedgerRow, OutboxRow
from schemas.group_records import MemberRef
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId, MessageId, ParcelId
from schemas.parcels import NO_EPOCH, NO_GROUP, Content, ParcelBody, readdress
from schemas.records import Signed

MESSAGE_LIFETIME_S = 30 * 86_400
SUMMARY_LIFETIME_S = 7 * 86_400

FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 600.0
SENT_AGAIN_S = 300.0  # on the peer's disk, but no receipt: doubled each time
LONGEST_SENT_AGAIN_S = 6 * 3600.0
HELD_MARGIN_S = 86_400.0  # a relay's copy is renewed a day before it expires
HELD_GRACE_S = 5.0  # a peer that comes back fetches its mail first
TAKEN_LIMIT_S = 120.0  # a parcel whose outcome never came is due again
UNREADABLE_TRIES = 5

# The epoch that a message is sealed in is too long ago for its recipient.
_KEYS_GONE = frozenset({"mls-epoch-secrets-gone", "mls-epoch-too-old", "mls-sender-left"})

# Kinds of peer catch-up: a question, and what members hand on
FULL_SUMMARY, CATCH_UP, CARRIED = "full-summary", "catch-up", "carried"

# A parcel that came here by way of its recipient's own disk needs nothing more.
_ENDS_WITH_ACK = frozenset(
    {
        "commit",
        "welcome",
        "bundles",
        "own-bundle",
        "tree-chunk",
        "summary",
        "intent",
        "statement",
        "heads",
        *(_OF_CATCH_UP := (FULL_SUMMARY, CATCH_UP, CARRIED)),
    }
)
_ENDS_WITH_RELAY = frozenset({"summary", *_OF_CATCH_UP})  # the next one says it again
FAILING = 10_000  # messages that are remembered as tried in vain


class Outbox:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._taken = UnderWay()
        self._told: set[ParcelId] = set()  # invitations whose refusal was announced
        self._served: dict[DeviceKey, GroupId] = {}  # whose turn was the last, by recipient
        self.reads_at: Callable[[DeviceKey, str], bool] = lambda device, relay: True
        self._failing: dict[MessageId, None] = {}  # tried in vain for somebody, oldest first

    def put(
        self,
        kind: str,
        content: Content,
        recipients: Iterable[DeviceKey],
        *,
        group: GroupId = NO_GROUP,
        epoch_id: EpochId = NO_EPOCH,
        statement: Signed | None = None,
        message: MessageId | None = None,
        lifetime_s: float = MESSAGE_LIFETIME_S,
    ) -> None:
        """One payload, stored once, and a parcel of its own for each recipient device."""
        core = self._core
        parcels = [(ParcelId(core.random(ParcelId.LENGTH)), device) for device in recipients]
        if not parcels:
            return
        body = ParcelBody(NO_PARCEL, content, group, epoch_id, statement).encode()
        payload = core.outbox.add_payload(group, kind, body, message)
        core.outbox.add_parcels(payload, parcels, core.now, core.now + lifetime_s)
        core.effects.append(values.OutboxReady(frozenset(device for _, device in parcels)))

    def drop_welcome(self, row: GroupRow, device: DeviceKey, stands_on: CommitHash | None) -> None:
        """Who speaks where a Welcome led needs it no more."""
        core = self._core
        commits = core.branches.commits(row.id)
        if branch_tree.has_entered(commits, row.head, device, stands_on):
            core.outbox.remove_kind(row.id, "welcome", device)

    # --- taking and reporting

    def take(self, command: d.TakeDue) -> tuple[values.OutboxItem, ...]:
        core = self._core
        hybrid_key = core.people.hybrid_key(command.recipient)
        items: list[values.OutboxItem] = []
        for row in self._due(command.recipient, command.limit):
            self._taken.take(row, core.now)
            items.append(
                values.OutboxItem(
                    row.parcel,
                    row.recipient,
                    readdress(row.body, row.parcel),
                    hybrid_key,
                    int(row.expires),
                )
            )
        return tuple(items)

    def _due(self, recipient: DeviceKey, limit: int) -> list[OutboxRow]:
        """The groups take turns, one parcel each, from where the last turn ended: the backlog of
        one does not delay the others. What left before and has no receipt fills the rest."""
        core = self._core
        store = core.outbox
        out = self._taken.to(recipient)  # these stay due in the table
        queues = [
            (group, deque(self._free(store.due_of_group(recipient, group, core.now, limit, out))))
            for group in store.groups_waiting(recipient)
        ]
        last = self._served.get(recipient, NO_GROUP)
        queues.sort(key=lambda queue: (queue[0] <= last, queue[0]))
        waiting = deque(queue for queue in queues if queue[1])
        found: list[OutboxRow] = []
        while waiting and len(found) < limit:
            group, rows = waiting.popleft()
            found.append(rows.popleft())
            self._served[recipient] = group
            if rows:
                waiting.append((group, rows))
        if len(found) < limit:
            again = store.due_again(recipient, core.now, limit + len(out))
            found += self._free(again)[: limit - len(found)]
        return found

    def _free(self, rows: list[OutboxRow]) -> list[OutboxRow]:
        """Those that delivery does not have already, and that are not over."""
        return [
            row
            for row in rows
            if row.parcel not in self._taken and row.expires > self._core.clock.believed
        ]

    def _put_back(self, parcel: ParcelId) -> Taken | None:
        taken = self._taken.put_back(parcel)
        if taken is not None and not self._taken.to(taken.recipient):
            self._served.pop(taken.recipient, None)
        return taken

    def report(self, command: d.ReportOutcomes) -> None:
        for outcome in command.outcomes:
            taken = self._put_back(outcome.parcel)
            if taken is not None and taken.delivered:
                if outcome.acked:
                    continue  # the receipt was faster, and said so
                row = None
            else:
                row = self._core.outbox.get(outcome.parcel)
            if row is None:  # delivered meanwhile, or no longer wanted
                if taken is not None and (outcome.acked or outcome.held is not None):
                    self._note_path(taken, outcome)
            elif outcome.acked:
                self._acked(row)
            elif outcome.held is not None:
                self._held(row, *outcome.held)
            elif outcome.refused is not None:
                self._refused(row, outcome.refused)
            else:
                self._again(row, outcome.reason, outcome.retry_after_s)

    def _note_path(self, taken: Taken, outcome: d.Outcome) -> None:
        """The receipt was faster than the word by which path the message went."""
        if taken.message is None:
            return
        entry = self._core.outbox.ledger_entry(taken.message, taken.recipient)
        if entry is not None:
            relay, until = None, None
            if outcome.held is not None:
                relay, until = outcome.held[0], min(outcome.held[1], int(taken.expires))
            path = "relay" if relay is not None else "direct"
            entry = dataclasses.replace(entry, path=path, relay=relay, held_until=until)
            self._core.outbox.write_ledger([entry])

    def _acked(self, row: OutboxRow) -> None:
        if row.kind in _ENDS_WITH_ACK:
            self._core.outbox.remove(row.parcel, row.payload)
            if row.kind == "welcome":
                self._note_invitation(row, waits=False)
            return
        attempts = row.attempts + 1 if row.stage == "sent" else 0
        wait = min(SENT_AGAIN_S * 2 ** min(attempts, 16), LONGEST_SENT_AGAIN_S)
        self._core.outbox.reschedule(row.parcel, "sent", attempts, self._core.now + wait)
        self.note(row.message, row.recipient, State.SENT, path="direct")

    def _held(self, row: OutboxRow, relay: str, until: int) -> None:
        if row.kind in _ENDS_WITH_RELAY:
            self._core.outbox.remove(row.parcel, row.payload)
            return
        until = min(until, int(row.expires))  # the rest is the relay's word: it may be any number
        again = max(until - HELD_MARGIN_S, self._core.now + HELD_MARGIN_S)
        if not self.reads_at(row.recipient, relay):
            again = self._core.now  # they moved while it was on its way there
            self._core.effects.append(values.OutboxReady(frozenset({row.recipient})))
        self._core.outbox.reschedule(row.parcel, "held", 0, again)
        self.note(
            row.message, row.recipient, State.HELD, path="relay", relay=relay, held_until=until
        )

    def _refused(self, row: OutboxRow, code: str) -> None:
        if code == "cannot-open" and row.attempts < UNREADABLE_TRIES:
            self._again(row, "recipient-cannot-open", None)  # a newer bundle may come first
            return
        if row.message is not None and code in _KEYS_GONE:
            sealed_in = ParcelBody.decode(row.body).epoch_id
            self._core.unreadable.add((row.group, row.recipient, row.message, sealed_in))
            self._again(row, "recipient-lacks-keys", None)  # until we are in a later epoch
            return
        if row.kind == "welcome" and code == TOO_MANY_REQUESTS:
            self._again(row, code, None)  # until they have answered some
            self._tell_of_invitation(row, code)
            self._note_invitation(row, waits=True)
            return
        self._tell_of_invitation(row, code)
        self.give_up(row, State.REFUSED, code)

    def _tell_of_invitation(self, row: OutboxRow, code: str) -> None:
        """It has no ledger: who made it hears of a refusal by an event, once."""
        if row.kind != "welcome" or code == "already-member" or row.parcel in self._told:
            return
        self._told.add(row.parcel)
        core = self._core
        group, owner = core.groups.get(row.group), core.people.owner(row.recipient)
        core.emit(
            "refused",
            group=row.group.hex(),
            name="" if group is None else group.name,
            identity="" if owner is None else owner.hex(),
            member="" if owner is None else core.name_of(owner),
            reason=code,
        )

    def _note_invitation(self, row: OutboxRow, *, waits: bool) -> None:
        """Whether what waits for this device waits for its Welcome, which it refuses so far."""
        reason = TOO_MANY_REQUESTS if waits else None
        changed = [
            dataclasses.replace(entry, reason=reason, updated=self._core.now)
            for entry in self._core.outbox.open_entries(row.group, row.recipient)
            if (entry.reason == TOO_MANY_REQUESTS) is not waits
        ]
        self._core.outbox.write_ledger(changed)
        for entry in changed:
            self._announce(entry)

    def _again(self, row: OutboxRow, reason: str | None, retry_after_s: float | None) -> None:
        core = self._core
        wait = min(FIRST_RETRY_S * 2 ** min(row.attempts, 16), LONGEST_RETRY_S)
        wait *= 0.75 + core.random(1)[0] / 512  # spread by a quarter either way
        if retry_after_s is not None:
            wait = max(0.05, min(retry_after_s, LONGEST_RETRY_S))
        core.outbox.reschedule(row.parcel, row.stage, row.attempts + 1, core.now + wait)
        if row.stage == "queued" and reason is not None and row.message is not None:
            self._failing.setdefault(row.message)
            if len(self._failing) > FAILING:
                del self._failing[next(iter(self._failing))]
            self.note(row.message, row.recipient, State.QUEUED, reason=reason)
            self._carry(row.message, core.outbox.holder(row.message))

    def give_up(self, row: OutboxRow, state: State, reason: str) -> None:
        self._core.outbox.remove(row.parcel, row.payload)
        self.note(row.message, row.recipient, state, reason=reason)

    # --- time and links

    def retry(self, command: d.Retry) -> None:
        """A device came into reach."""
        core = self._core
        core.outbox.bring_forward(command.device, "queued", core.now)
        core.outbox.bring_forward(command.device, "held", core.now + HELD_GRACE_S)
        if core.outbox.has_due(command.device, core.now):
            core.effects.append(values.OutboxReady(frozenset({command.device})))

    def tick(self) -> None:
        core = self._core
        for row in core.outbox.expired(core.clock.believed):
            self.give_up(row, State.EXPIRED, "expired")
        for parcel in self._taken.since(core.now - TAKEN_LIMIT_S):
            self._put_back(parcel)
        ready = core.outbox.due_recipients(core.now)
        if ready:
            core.effects.append(values.OutboxReady(ready))

    def clock_went_back(self) -> None:
        self._taken.restart_times(self._core.now)

    def begin_batch(self) -> None:
        self._taken.begin_batch()

    def undo_batch(self) -> None:
        """It could not be committed."""
        self._taken.undo_batch()
        self._told.clear()  # the event may have been lost with it: rather twice than never
        self._served.clear()

    # --- the ledger

    def open_ledger(
        self,
        message: MessageId,
        group: GroupId,
        sequence: int,
        recipients: Sequence[MemberRef],
        reason: str | None,
    ) -> None:
        now = self._core.now
        self._core.outbox.open_ledger(
            [
                LedgerRow(
                    message,
                    member.device,
                    member.identity,
                    group,
                    sequence,
                    State.QUEUED,
                    None,
                    None,
                    None,
                    reason,
                    now,
                )
                for member in recipients
            ]
        )

    def note(
        self,
        message: MessageId | None,
        device: DeviceKey,
        state: State,
        *,
        path: str | None = None,
        relay: str | None = None,
        held_until: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Moves one entry of the ledger, unless it already stands further."""
        entry = None
        if message is not None:
            entry = self._core.outbox.ledger_entry(message, device)
        if entry is not None:
            moved = self._moved(
                entry, state, path=path, relay=relay, held_until=held_until, reason=reason
            )
            if moved is not None:
                self._core.outbox.write_ledger([moved])

    def settle(
        self, device: DeviceKey, receipt: Sequence[tuple[LedgerRow, State, str | None]]
    ) -> None:
        """What a device said that it has or has shown: (entry, new state, path where unknown)."""
        store = self._core.outbox
        moved = [self._moved(entry, state, path=path) for entry, state, path in receipt]
        store.write_ledger([entry for entry in moved if entry is not None])
        fresh = [entry.message for entry, _, _ in receipt if entry.state != State.DELIVERED]
        for parcel in store.remove_messages(fresh, device):
            self._taken.note_delivered(parcel)
        for message in fresh:
            if message in self._failing:
                self._carry(message, device)

    def _carry(self, message: MessageId, carrier: DeviceKey | None) -> None:
        """`carrier` has it, and meets those whom we cannot reach perhaps before we do."""
        if carrier is None:
            return
        moved = [
            self._moved(entry, State.CARRIED, path=CARRIED, carrier=carrier)
            for entry in self._core.outbox.ledger(message)
            if entry.state == State.QUEUED and entry.reason not in (None, TOO_MANY_REQUESTS)
        ]
        self._core.outbox.write_ledger([entry for entry in moved if entry is not None])

    def _moved(
        self,
        entry: LedgerRow,
        state: State,
        *,
        path: str | None = None,
        relay: str | None = None,
        held_until: float | None = None,
        reason: str | None = None,
        carrier: DeviceKey | None = None,
    ) -> LedgerRow | None:
        """An entry as it becomes, announced; None when it already stands further."""
        if State(entry.state) not in _BEFORE[state]:
            return None
        entry = dataclasses.replace(
            entry,
            state=state.value,
            path=path or entry.path,
            relay=relay or entry.relay,
            held_until=held_until if state is State.HELD else entry.held_until,
            reason=reason,
            updated=self._core.now,
            carrier=carrier or entry.carrier,
        )
        self._announce(entry)
        return entry

    def _announce(self, entry: LedgerRow) -> None:
        by = self._core.carrier(entry)
        self._core.emit(
            "ledger",
            message=entry.message.hex(),
            group=entry.group.hex(),
            identity=entry.identity.hex(),
            device=entry.device.hex(),
            name=self._core.name_of(entry.identity),
            state=entry.state,
            path=entry.path,
            relay=entry.relay,
            reason=entry.reason,
            by=None if by is None else by.hex(),
            by_name="" if by is None else self._core.name_of(by),
        )


# From which states an entry may move to which.
_ON_THE_WAY = frozenset({State.QUEUED, State.SENT, State.HELD, State.CARRIED})
_BEFORE: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.QUEUED}),
    State.SENT: frozenset({State.QUEUED, State.HELD, State.CARRIED}),
    State.HELD: frozenset({State.QUEUED, State.HELD, State.CARRIED}),
    State.CARRIED: frozenset({State.QUEUED, State.CARRIED}),
    State.DELIVERED: _ON_THE_WAY | {State.REFUSED},
    State.READ: _ON_THE_WAY | {State.DELIVERED, State.REFUSED},
    State.EXPIRED: _ON_THE_WAY,
    State.REFUSED: _ON_THE_WAY,
}
