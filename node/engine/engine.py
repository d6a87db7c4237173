"""The engine: takes a batch of commands, commits once, and only then releases what it caused."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apsw
import mls_rs

from identity.keys import KeyPair
from node.engine import acquaintances, commands, views
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine.account import Account, create_account
from node.engine.arrivals import Arrivals
from node.engine.blocking import Blocking
from node.engine.by_hand import ByHand
from node.engine.catch_up import CatchUp
from node.engine.commands import Command
from node.engine.contacts import Contacts
from node.engine.conversation import Conversation
from node.engine.core import Core
from node.engine.delivery_tokens import DeliveryTokens
from node.engine.dht import Dht
from node.engine.examine import Examine
from node.engine.explain import Explain
from node.engine.groups.commits import Commits
from node.engine.groups.committing import Committer
from node.engine.groups.convergence import Convergence
from node.engine.groups.entering import Entering
from node.engine.groups.epochs import Epochs
from node.engine.groups.fork_choice import H, Rule
from node.engine.groups.intents import Intents
from node.engine.groups.key_updates import KeyUpdates
from node.engine.groups.membership import Membership
from node.engine.groups.repair import Repair
from node.engine.groups.statements import Statements
from node.engine.groups.welcome import Welcomes
from node.engine.groups.wishes import Wishes
from node.engine.mls import REAL, Library
from node.engine.outbox import Outbox
from node.engine.own_bundle import OwnBundle
from node.engine.policies import Policies
from node.engine.receipts import Receipts
from node.engine.relay_access import RelayAccess
from node.engine.relays import Relays
from node.engine.restoring import restore_account, take_backup
from node.engine.values import Counted, Effect, Event, OutboxReady
from node.store.damage import mend
from node.store.database import Database
from schemas.errors import Blame, Fault, Malformed
from schemas.ids import DeviceKey, IdentityKey

log = logging.getLogger(__name__)

# Not refused after they wrote something; an arrival undoes what its parcel did by itself.
_NOTHING_TO_UNDO = frozenset({d.Arrived, d.TakeDue, d.ReportOutcomes})

LONGEST_WAIT_S = 30.0
SWEEP_S = 3600.0
MEND_AGAIN_S = 3600.0
_OF_OUR_OWN = frozenset(
    {
        commands.WhoAmI,
        d.OwnRecords,
        d.OwnHello,
        commands.ListContacts,
        commands.ListGroups,
        commands.ListRequests,
        commands.FindGroup,
        commands.ExamineGroup,
        d.PeersToGreet,
        d.ReadDiscoverySecrets,
        commands.Send,
        commands.ReadMessages,
        commands.ReadHistory,
        d.TakeDue,
        d.ReadOutbox,
        commands.TakeBackup,
        commands.Tick,
    }
)
"""They read nothing that comes from outside."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch caused, on disk by now: answers in its order (a Fault where refused), effects
    in the order they arose, and when to run `Tick` next (Unix seconds)."""

    answers: tuple[object, ...]
    effects: tuple[Effect, ...]
    wake_at: float


class Engine:
    """Synchronous; owned by one thread. Everything it knows is in the database."""

    def __init__(
        self,
        database: apsw.Connection,
        *,
        random: Callable[[int], bytes] = os.urandom,
        mls: Library = REAL,
        rule: Rule = H,
    ) -> None:
        """Raises Refused `no-account` when the database has none. `rule` is for the simulator."""
        self._db = Database(database)
        core = self._core = Core(self._db, random, mls)
        self._outbox = Outbox(core)
        self._receipts = Receipts(core, self._outbox)
        self._catch_up = CatchUp(core, self._outbox, self._receipts)
        statements = Statements(core, self._outbox)
        intents = Intents(core, self._outbox)
        conversation = Conversation(core, self._outbox, self._receipts, statements)
        repair = self._repair = Repair(core, self._outbox, conversation, intents, rule)
        epochs = Epochs(core, self._outbox, intents)
        committer = Committer(core, self._outbox, epochs, statements)
        membership = Membership(core, self._receipts, epochs, statements, intents, committer)
        self._wishes = Wishes(core, intents, membership)
        self._key_updates = KeyUpdates(core, membership)
        self._tokens = DeliveryTokens(core)
        self._own_bundle = OwnBundle(core, self._outbox, self._tokens)
        blocking = Blocking(core, self._own_bundle)
        contacts = Contacts(core, self._catch_up, self._own_bundle, self._tokens, blocking)
        self._outbox.reads_at = contacts.relays.reads_at
        welcomes = Welcomes(core, epochs, contacts)
        entering = Entering(core, epochs, welcomes)
        self._convergence = Convergence(core, epochs, statements, intents, repair, entering, rule)
        arrivals = Arrivals(
            core,
            conversation,
            self._receipts,
            self._catch_up,
            Commits(core, epochs, statements, intents, entering, self._convergence),
            welcomes,
            contacts,
            blocking,
            intents,
            self._convergence,
        )
        policies = Policies(core, self._own_bundle)
        dht = Dht(core, self._own_bundle)
        by_hand = ByHand(core, self._outbox, contacts)
        relays = self._relays = Relays(core, self._own_bundle)
        access = RelayAccess(core)
        account, explain = Account(core, self._own_bundle, blocking, relays), Explain(core)
        self._tick_at = math.inf  # set by the first Tick; then one comes by then, asked for or not
        self._next_sweep = 0.0
        self._swept = False
        self._mending = False
        self._mended = -math.inf
        self._handlers: dict[type[Command[Any]], Callable[[Any], object]] = {
            commands.WhoAmI: account.who_am_i,
            d.SetEndpoint: account.set_endpoint,
            r.SetRelays: account.set_relays,
            r.FollowRelay: account.follow_relay,
            r.ChangeRelays: relays.change,
            r.ListFormerRelays: relays.former,
            r.FormerRelayEmpty: relays.empty,
            r.OwnRelayStatement: relays.statement,
            r.KeepRelaySession: access.keep_session,
            r.ListRelaySessions: access.sessions,
            r.ForgetRelaySession: access.forget_session,
            r.SetRelayToken: access.set_token,
            r.ReadRelayTokens: access.tokens,
            r.OwnCredential: access.credential,
            r.ReceiveRelayStatement: contacts.receive_statement,
            commands.SetName: account.set_name,
            d.OwnRecords: account.own_records,
            d.OwnHybridKey: account.own_hybrid_key,
            d.OwnDeliveryTokens: self._tokens.own,
            d.MakeKeyPackage: account.make_key_package,
            d.AnswerKeyPackage: account.answer_key_package,
            commands.AddContact: contacts.add,
            commands.ListContacts: contacts.list,
            commands.VerifyContact: contacts.verify,
            commands.Block: blocking.block,
            commands.Unblock: blocking.unblock,
            commands.ListBlocked: blocking.list,
            commands.SetPathPolicy: policies.choose,
            commands.ListPathPolicies: policies.list,
            commands.PathPolicyOf: policies.of_person,
            commands.FindPerson: contacts.find,
            commands.DevicesOf: contacts.devices_of,
            d.LookUpPeer: contacts.look_up,
            d.Acquainted: partial(acquaintances.acquainted, core),
            d.Introducers: partial(acquaintances.introducers, core),
            d.PeersToGreet: contacts.to_greet,
            d.ReadDiscoverySecrets: contacts.discovery_secrets,
            d.KnownNumber: contacts.known_number,
            d.ReceiveBundle: contacts.receive,
            d.OwnPublications: dht.publications,
            d.CellsOf: dht.cells_of,
            d.DhtStart: dht.start,
            d.KeepDhtContacts: dht.keep_contacts,
            commands.SetBootstrap: dht.set_bootstrap,
            d.OwnHello: contacts.own_hello,
            d.LinkUp: contacts.link_up,
            d.LinkDown: contacts.link_down,
            d.AnswerBundle: contacts.answer_bundle,
            commands.CreateGroup: membership.create_group,
            commands.CreateDirect: membership.create_direct,
            commands.Invite: membership.invite,
            commands.Join: membership.join,
            commands.Leave: membership.leave,
            commands.RemoveMember: membership.remove,
            commands.UpdateKey: membership.update_key,
            commands.ListGroups: partial(views.list_groups, core),
            commands.ListRequests: partial(views.list_requests, core),
            commands.FindGroup: partial(views.find_group, core),
            commands.FindDirect: partial(views.find_direct, core),
            commands.ExamineGroup: Examine(core, explain).group,
            commands.Send: conversation.send,
            commands.ReadMessages: conversation.read,
            commands.ReadHistory: conversation.history,
            commands.MoveCursor: conversation.move_cursor,
            commands.ReadLedger: explain.ledger,
            commands.Why: explain.why,
            d.Arrived: arrivals.arrived,
            d.ReceiveSummary: self._catch_up.receive_frame,
            d.TakeDue: self._outbox.take,
            d.ReportOutcomes: self._outbox.report,
            d.ReadOutbox: by_hand.read_outbox,
            d.NoteExported: by_hand.note_exported,
            d.ReceiveIntroduction: by_hand.receive_introduction,
            d.TakeKeyPackage: by_hand.take_key_package,
            d.Retry: self._outbox.retry,
            d.PendingCount: self._pending,
            commands.TakeBackup: partial(take_backup, core),
            commands.Tick: self._tick,
        }

    @staticmethod
    def create(
        database: apsw.Connection,
        name: str,
        *,
        now: float,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """A new identity and device in an empty database. Raises Refused: `home-exists`,
        `bad-name`."""
        create_account(Database(database), name, random, now)

    @staticmethod
    def restore(
        database: apsw.Connection,
        content: bytes,
        *,
        now: float,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """The person of a backup with a new device, in an empty database. Raises Refused:
        `home-exists`, `bad-backup`, `backup-newer`."""
        restore_account(Database(database), content, random, now)

    @property
    def identity(self) -> KeyPair[IdentityKey]:
        return self._core.identity

    @property
    def device(self) -> KeyPair[DeviceKey]:
        return self._core.device

    def run(self, batch: Sequence[Command[Any]], now: float) -> BatchResult:
        """Runs a batch in one transaction. `now` is Unix seconds.

        A command that is refused leaves no trace and spoils nothing else. When the transaction
        cannot be committed every command is answered with that Fault, and nothing happened.
        """
        core = self._core
        core.begin_batch(now)
        self._outbox.begin_batch()
        answers: list[object] = []
        try:
            with self._db.transaction():
                core.clock.observe(now)
                if self._mending and core.people.bundle(core.identity.public) is None:
                    self._own_bundle.make_anew()
                if core.clock.went_back:
                    self._set_timers_anew()
                answers.extend(self._one(command) for command in batch)
                ticked = any(type(command) is commands.Tick for command in batch)
                if not ticked and now >= self._tick_at:  # the timer is late, and is set anew below
                    self._one(commands.Tick())
                    ticked = True
                self._convergence.tick()
                self._wishes.tick()
                self._key_updates.tick()
                self._repair.seal_for_renewed()
                self._catch_up.flush()
                self._receipts.flush()
                self._own_bundle.flush()
                self._tokens.flush()
                core.write_unwritten()
        except Exception as error:
            unexpected = not isinstance(error, Fault) or isinstance(error, Malformed)
            if unexpected and self._may_mend(now):
                return self._mend_and_run(batch, now)
            self._forget_batch()
            if not isinstance(error, Fault):
                raise
            log.error("a batch of %d was not written: %s", len(batch), error)
            return BatchResult(tuple(error for _ in batch), (), now + LONGEST_WAIT_S)
        except BaseException:
            self._forget_batch()
            raise
        self._empty_log()
        return BatchResult(tuple(answers), _merged(core.effects), self._wake_at(ticked))

    def _forget_batch(self) -> None:
        self._core.forget_everything()
        self._outbox.undo_batch()
        self._tokens.look_again()
        self._convergence.undo_batch()
        self._catch_up.undo_batch()
        self._receipts.forget_told()

    def _may_mend(self, now: float) -> bool:
        """Not for every fault: it walks over the whole database, and whoever is able to make us
        fail would have us do nothing else."""
        return not self._mending and abs(now - self._mended) >= MEND_AGAIN_S

    def _mend_and_run(self, batch: Sequence[Command[Any]], now: float) -> BatchResult:
        """A bug, or a row that is not what was written: with those out of the way, once more."""
        self._mending, self._mended = True, now
        try:
            try:
                found = mend(self._db)
            finally:
                self._forget_batch()
            for table, rows in found.items():
                log.error("the database was damaged: %d rows of %s mended or dropped", rows, table)
            result = self.run(batch, now)
        finally:
            self._mending = False
        news = [Event("database-damaged", {"table": t, "rows": n}) for t, n in found.items()]
        counted = [Counted("damaged-row") for _ in range(found.total())]
        return replace(result, effects=(*news, *counted, *result.effects))

    def _one(self, command: Command[Any]) -> object:
        core = self._core
        handler = self._handlers[type(command)]
        try:
            if type(command) in _NOTHING_TO_UNDO:
                return handler(command)
            with core.undoable():
                return handler(command)
        except Malformed as fault:
            if type(command) in _OF_OUR_OWN and self._may_mend(core.now):
                raise  # a row, then
            return fault
        except Fault as fault:
            return fault
        except mls_rs.MlsError as error:
            return Fault(f"mls-{error.code}", f"MLS refuses it: {error}", blame=Blame.PEER)

    def _pending(self, command: d.PendingCount) -> int:
        made = self._receipts.hasten() if command.tell else 0
        return self._core.outbox.unsent() + made

    def _tick(self, _: commands.Tick) -> None:
        core = self._core
        self._outbox.tick()
        if core.now >= self._next_sweep:
            self._next_sweep = core.now + SWEEP_S
            self._sweep()

    def _sweep(self) -> None:
        """Every hour, and when a process starts."""
        core = self._core
        self._swept = True
        core.outbox.pull_in(core.now)
        for store in (core.messages, core.trees, core.branches, core.intents, core.key_packages):
            store.sweep(core.clock.believed)
        self._catch_up.sweep()
        self._own_bundle.tick()
        self._tokens.look_again()
        self._relays.tick()

    def _empty_log(self) -> None:
        """After a sweep: what was erased is still in the log."""
        if self._swept:
            try:
                self._db.checkpoint()
                self._swept = False
            except Fault as fault:  # the batch is on disk all the same: tried after the next one
                log.error("the database's log was not emptied: %s", fault)

    def _set_timers_anew(self) -> None:
        """The clock went back: whatever waits for a time would wait for the whole step."""
        self._tick_at = self._next_sweep = self._core.now
        self._core.outbox.pull_in(self._core.now)
        self._outbox.clock_went_back()
        self._receipts.clock_went_back()
        self._convergence.clock_went_back()
        self._catch_up.clock_went_back()
        self._wishes.clock_went_back()
        self._key_updates.clock_went_back()

    def _wake_at(self, ticked: bool) -> float:
        """When a Tick is to come at the latest, whatever batches come before: they never put off
        what became due meanwhile, nor the sweep."""
        core = self._core
        latest = core.now + LONGEST_WAIT_S
        if ticked:
            self._tick_at = latest
        due = core.outbox.next_try(core.now)
        if due is not None:
            self._tick_at = min(self._tick_at, due)
        parts = (
            self._receipts,
            self._catch_up,
            self._convergence,
            self._wishes,
            self._key_updates,
        )
        others = [part.next_due() for part in parts]
        soon = [time for time in others if time is not None and time > core.now]
        return min(self._tick_at, latest, *soon)


def _merged(effects: list[Effect]) -> tuple[Effect, ...]:
    """One OutboxReady for all, at the end: couriers start when the news is out."""
    ready: frozenset[DeviceKey] = frozenset()
    others: list[Effect] = []
    for effect in effects:
        if isinstance(effect, OutboxReady):
            ready |= effect.devices
        else:
            others.append(effect)
    return tuple([*others, OutboxReady(ready)] if ready else others)
