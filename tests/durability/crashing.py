"""A real node or relay that dies by SIGKILL at one named place: a wrapper around the real main.

    python -m tests.durability.crashing node|relay PLAN ARGUMENTS...

Nothing in the program knows of it: names are replaced before the main is called. A batch gets
*labels* from what it did (`send`, `welcome-arrival`, ...); the places `before` and `after` are on
the two sides of the COMMIT of a batch with that label. The program dies at the first pass after the
file `armed` exists in the plan's folder; the file `reached` then says where.

Beside that it watches the journal rule in every process it runs: a parcel that is handed to the
network, or acknowledged, must be on disk by then, as another connection sees it (`violations`).
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apsw

ARMED, REACHED, VIOLATIONS, PRAGMAS = "armed", "reached", "violations", "pragmas"


@dataclass(frozen=True)
class Plan:
    """Where to die, and which rule to break (`mutation`, for tests of the tests)."""

    folder: str
    label: str = ""
    place: str = ""
    mutation: str = ""

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @property
    def where(self) -> str:
        return f"{self.label}/{self.place}"


class Watch:
    """What this process may say to the world: only what is on disk."""

    def __init__(self, plan: Plan, database: Path) -> None:
        self._plan = plan
        self._folder = Path(plan.folder)
        self._database = database
        self.labels: set[str] = set()
        self.batch_parcels: set[bytes] = set()
        self.batch_arrivals: set[bytes] = set()
        self._outbox: set[bytes] = set()  # on disk, since this process started
        self._arrivals: set[bytes] = set()
        self._pragmas: set[str] = set()

    # --- dying

    @property
    def armed(self) -> bool:
        return (self._folder / ARMED).exists()

    def place(self, label: str, place: str) -> None:
        """The program dies here when this is the planned place and the test armed it."""
        if (label, place) == (self._plan.label, self._plan.place):
            if not self.armed:
                return
            self.write(REACHED, self._plan.where)
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, name: str, line: str) -> None:
        """Appended and on disk: the process may end at once."""
        file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, line.encode() + b"\n")
        os.fsync(file)
        os.close(file)

    # --- batches

    def begin(self) -> None:
        self.labels.clear()
        self.batch_parcels.clear()
        self.batch_arrivals.clear()

    def before_commit(self) -> None:
        for label in sorted(self.labels):
            self.place(label, "before")

    def after_commit(self, *, written: bool) -> None:
        for label in sorted(self.labels):
            self.place(label, "after")
        if not written:
            return
        self._outbox |= self.batch_parcels
        self._arrivals |= self.batch_arrivals

    def transaction(self, real: Callable[..., Any], who: str) -> Callable[..., Any]:
        """`storage.sqlite.transaction` with the two places around its COMMIT."""

        @contextmanager
        def watched(connection: apsw.Connection) -> Iterator[None]:
            self.note_pragmas(who, connection)
            with real(connection):
                yield
                self.before_commit()
            self.after_commit(written=not connection.in_transaction)

        return watched

    def note_pragmas(self, who: str, connection: apsw.Connection) -> None:
        """What this live connection, on its own thread, says of itself."""
        if who in self._pragmas:
            return
        self._pragmas.add(who)
        names = ("journal_mode", "synchronous", "foreign_keys")
        said = {name: connection.pragma(name) for name in names}
        self.write(PRAGMAS, json.dumps({"connection": who, **said}))

    # --- the journal rule

    def leaves(self, parcel: bytes) -> None:
        if parcel not in self._outbox and not self._queued(parcel):
            self.write(VIOLATIONS, f"parcel {parcel.hex()} left before it was on disk")

    def acknowledged(self, parcel: bytes) -> None:
        if parcel not in self._arrivals:
            self.write(VIOLATIONS, f"parcel {parcel.hex()} was acknowledged before it was on disk")

    def _queued(self, parcel: bytes) -> bool:
        """By an earlier process."""
        connection = apsw.Connection(str(self._database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(5000)
            query = "SELECT 1 FROM outbox WHERE parcel_id = ?"
            return connection.execute(query, (parcel,)).fetchone() is not None
        finally:
            connection.close()


def replace(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    real = getattr(owner, name)
    setattr(owner, name, functools.wraps(real)(wrapper(real)))


def note_after(watch: Watch, owner: Any, name: str, label: str) -> None:
    """What the method did, it did in the batch under way."""

    def wrapper(real: Any) -> Any:
        def method(*arguments: Any, **named: Any) -> Any:
            answer = real(*arguments, **named)
            watch.labels.add(label)
            return answer

        return method

    replace(owner, name, wrapper)


# --- the node


def wrap_node(watch: Watch, plan: Plan) -> None:
    _wrap_batches(watch)
    _label_batches(watch)
    _wrap_links(watch)
    _wrap_relays(watch)
    if plan.mutation:
        NODE_MUTATIONS[plan.mutation](watch)


def _wrap_batches(watch: Watch) -> None:
    import node.store.database as database
    from node.engine.engine import Engine

    replace(database, "transaction", lambda real: watch.transaction(real, "node"))

    def run(real: Any) -> Any:
        def method(self: Any, batch: Any, now: float) -> Any:
            watch.begin()
            return real(self, batch, now)

        return method

    replace(Engine, "run", run)


def _label_batches(watch: Watch) -> None:
    from node.engine.account import Account
    from node.engine.arrivals import Arrivals
    from node.engine.conversation import Conversation
    from node.engine.groups.commits import Commits
    from node.engine.groups.membership import Membership
    from node.engine.groups.welcome import Welcomes
    from node.engine.outbox import Outbox
    from node.engine.values import Deferred, State
    from node.store.outbox import OutboxStore

    note_after(watch, Conversation, "_seal", "send")
    note_after(watch, Conversation, "received", "message-arrival")
    note_after(watch, Conversation, "move_cursor", "cursor")
    note_after(watch, Membership, "_commit", "commit-made")
    note_after(watch, Commits, "receive", "commit-arrival")
    note_after(watch, Welcomes, "receive", "welcome-arrival")
    note_after(watch, Account, "answer_key_package", "key-package-answer")

    def settle(real: Any) -> Any:
        def method(self: Any, device: Any, receipt: Any) -> None:
            real(self, device, receipt)
            if any(state in (State.DELIVERED, State.READ) for _, state, _ in receipt):
                watch.labels.add("summary-arrival")

        return method

    def report(real: Any) -> Any:
        def method(self: Any, command: Any) -> None:
            for outcome in command.outcomes:
                taken = self._taken.get(outcome.parcel)
                if taken is not None and taken.message is not None:
                    watch.labels |= {"outcome-acked"} if outcome.acked else set()
                    watch.labels |= {"outcome-held"} if outcome.held is not None else set()
            real(self, command)

        return method

    replace(Outbox, "settle", settle)
    replace(Outbox, "report", report)

    def add_parcels(real: Any) -> Any:
        def method(self: Any, payload: Any, parcels: Any, now: float, expires: float) -> None:
            real(self, payload, parcels, now, expires)
            watch.batch_parcels.update(bytes(parcel) for parcel, _ in parcels)

        return method

    def arrived(real: Any) -> Any:
        def method(self: Any, command: Any) -> Any:
            verdict = real(self, command)
            if not isinstance(verdict, Deferred):
                watch.batch_arrivals.add(bytes(command.parcel.id))
            return verdict

        return method

    replace(OutboxStore, "add_parcels", add_parcels)
    replace(Arrivals, "arrived", arrived)


def _wrap_links(watch: Watch) -> None:
    from node.delivery.link import Link
    from schemas.frames import Acked

    def send(real: Any) -> Any:
        async def method(self: Any, parcels: Any) -> Any:
            for parcel in parcels:
                watch.leaves(bytes(parcel.id))
            return await real(self, parcels)

        return method

    def write_answers(real: Any) -> Any:
        async def method(self: Any) -> None:
            for answer in self._answers:
                if isinstance(answer, Acked):
                    watch.acknowledged(bytes(answer.parcel))
                    watch.place("link-ack", "before")
            await real(self)

        return method

    replace(Link, "send", send)
    replace(Link, "_write_answers", write_answers)


def _wrap_relays(watch: Watch) -> None:
    from node.delivery.mailbox import Mailbox
    from node.delivery.relay_client import RelayClient

    def enqueue(real: Any) -> Any:
        async def method(self: Any, batch: Sequence[Any]) -> Any:
            for item in batch:
                watch.leaves(bytes(item.id))
            answer = await real(self, batch)
            watch.place("upload", "answered")
            return answer

        return method

    def take(real: Any) -> Any:
        async def method(self: Any, client: Any, parcels: Any) -> None:
            watch.place("mailbox", "peeked")
            await real(self, client, parcels)

        return method

    def judge(real: Any) -> Any:
        async def method(self: Any, stored: Any) -> bool:
            done: bool = await real(self, stored)
            if done:
                watch.acknowledged(bytes(stored.id))
            return done

        return method

    def ack(real: Any) -> Any:
        async def method(self: Any, sequences: Any) -> None:
            watch.place("mailbox-ack", "before")
            await real(self, sequences)
            watch.place("mailbox-ack", "answered")

        return method

    replace(RelayClient, "enqueue", enqueue)
    replace(RelayClient, "ack", ack)
    replace(Mailbox, "_take", take)
    replace(Mailbox, "_judge", judge)


# --- the relay


def wrap_relay(watch: Watch, plan: Plan) -> None:
    import relay.store.sqlite.writer as writer
    from relay.store.sqlite import key_packages, mailboxes
    from relay.store.sqlite.database import Database

    def transaction(real: Any) -> Any:
        watched = watch.transaction(real, "relay writer")

        def fresh(connection: apsw.Connection) -> Any:
            watch.begin()
            return watched(connection)

        return fresh

    replace(writer, "transaction", transaction)
    note_after(watch, mailboxes, "enqueue", "enqueue")

    def when_it_did_something(label: str) -> Any:
        def wrapper(real: Any) -> Any:
            def function(*arguments: Any, **named: Any) -> Any:
                answer = real(*arguments, **named)
                if answer:
                    watch.labels.add(label)
                return answer

            return function

        return wrapper

    replace(mailboxes, "acknowledge", when_it_did_something("ack"))
    replace(key_packages, "take", when_it_did_something("key-package-fetch"))

    def read_now(real: Any) -> Any:
        def method(self: Any, *work: Any) -> Any:
            watch.note_pragmas("relay reader", self._reader)
            return real(self, *work)

        return method

    replace(Database, "_read_now", read_now)
    if plan.mutation:
        RELAY_MUTATIONS[plan.mutation](watch)


# --- mutations: each breaks one rule, and a test must notice


def _ack_before_commit(_: Watch) -> None:
    """What arrives is acknowledged, to peer and relay, before the batch is on disk."""
    from node.delivery.link import Link
    from node.delivery.mailbox import Mailbox
    from schemas.frames import Acked

    def judge(real: Any) -> Any:
        async def method(self: Any, parcel: Any) -> Any:
            await self._write(Acked(parcel.id))
            await self._frames.stream.drain(1.0)
            return await real(self, parcel)

        return method

    def take(real: Any) -> Any:
        async def method(self: Any, client: Any, parcels: Any) -> None:
            await client.ack([parcel.sequence for parcel in parcels])
            await real(self, client, parcels)

        return method

    replace(Link, "_judge", judge)
    replace(Mailbox, "_take", take)


def _answer_before_commit(watch: Watch) -> None:
    """Once armed, a batch's answers and effects go out while its transaction is still open, as if
    its COMMIT had not reached the disk; the next batches join the transaction."""
    import node.store.database as database

    def transaction(real: Any) -> Any:
        @contextmanager
        def never_committed(connection: apsw.Connection) -> Iterator[None]:
            if not watch.armed:
                with real(connection):
                    yield
                return
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            with real(_Uncommitting(connection)):
                yield

        return never_committed

    replace(database, "transaction", transaction)


class _Uncommitting:
    """Of a connection, what `transaction` uses of it, without BEGIN and COMMIT."""

    in_transaction = True

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> None:
        assert sql in ("BEGIN IMMEDIATE", "COMMIT")

    def pragma(self, name: str) -> Any:
        return self._connection.pragma(name)


def _synchronous_off(_: Watch) -> None:
    import node.home as home

    def open_database(real: Any) -> Any:
        def function(*arguments: Any, **named: Any) -> apsw.Connection:
            connection: apsw.Connection = real(*arguments, **named)
            connection.pragma("synchronous", "off")
            return connection

        return function

    replace(home, "open_database", open_database)


def _enqueue_before_commit(watch: Watch) -> None:
    """The relay says that it holds a parcel a moment before its transaction begins."""
    from relay.store.sqlite.store import SqliteStore
    from schemas.node_service import Enqueued

    running: set[asyncio.Task[Any]] = set()

    def enqueue(real: Any) -> Any:
        async def method(self: Any, items: Sequence[Any], **named: Any) -> Any:
            if not watch.armed:
                return await real(self, items, **named)

            async def later() -> None:
                await asyncio.sleep(0.3)
                await real(self, items, **named)

            running.add(asyncio.create_task(later()))
            return [Enqueued(number, item.expires) for number, item in enumerate(items, 1)]

        return method

    replace(SqliteStore, "enqueue", enqueue)


NODE_MUTATIONS: dict[str, Callable[[Watch], None]] = {
    "ack-before-commit": _ack_before_commit,
    "answer-before-commit": _answer_before_commit,
    "synchronous-off": _synchronous_off,
}
RELAY_MUTATIONS: dict[str, Callable[[Watch], None]] = {
    "enqueue-before-commit": _enqueue_before_commit,
}


def main() -> None:
    program, planned, *arguments = sys.argv[1:]
    plan = Plan(**json.loads(planned))
    if program == "node":
        from node.cli.main import main as node_main

        home = Path(arguments[arguments.index("--home") + 1])
        wrap_node(Watch(plan, home / "node.db"), plan)
        sys.exit(node_main(arguments))
    from relay.main import main as relay_main

    folder = Path(arguments[arguments.index("--data-dir") + 1])
    wrap_relay(Watch(plan, folder / "relay.db"), plan)
    relay_main(arguments)


if __name__ == "__main__":
    main()
