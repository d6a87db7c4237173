"""The relay's store in one SQLite file: a writer with group commit, and a reader beside it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import apsw

from relay.store import backup, directory, key_packages, mailboxes
from relay.store.arrivals import Arrivals
from relay.store.contract import (
    KeyPackageAnswer,
    MailboxName,
    MailboxState,
    Quotas,
    StoredHybridKey,
    Usage,
)
from relay.store.usage import Room, count
from relay.store.writer import Writer, Written
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.limits import PARCEL
from schemas.node_service import Enqueued, EnqueueItem, Mailbox
from schemas.records import Signed
from storage.presence import FilesInPlace
from storage.sqlite import blaming_the_disk, migrate, open_database, settle_log

log = logging.getLogger(__name__)

MIGRATIONS = files("relay.store") / "migrations"

T = TypeVar("T")


class SqliteStore:
    """A RelayStore. Made by `open`; reads see every change that was acknowledged before them."""

    def __init__(
        self,
        writing: apsw.Connection,
        reading: apsw.Connection,
        quotas: Quotas,
        in_place: FilesInPlace,
        on_commit: Callable[[Written], None],
    ) -> None:
        self._room = Room(quotas, count(reading))
        self._writer = Writer(
            writing,
            check=in_place.check,
            on_commit=on_commit,
            on_undone=self._room.count_anew,
        )
        self._reader = reading
        # One thread: a connection belongs to one at a time.
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="relay-reader")
        self._quotas = quotas
        self._closed = False
        self.arrivals = Arrivals()
        self.counters: Counter[str] = Counter()

    @classmethod
    async def open(
        cls,
        path: Path,
        quotas: Quotas | None = None,
        *,
        key: bytes | None = None,
        on_commit: Callable[[Written], None] = lambda _: None,
    ) -> SqliteStore:
        """Open or make the database at `path`, and migrate it. Its folder must be locked by us.

        `key` is the raw key of an encrypted file. A copy made by `backup` becomes a live database
        here: see relay/store/backup.py. `on_commit` is called on the writer's thread.

        Raises Fault `database-newer`, `database-damaged`, `disk-full` and the like.
        """
        writing, reading = await asyncio.to_thread(_open_pair, path, key)
        quotas = Quotas() if quotas is None else quotas
        return cls(writing, reading, quotas, FilesInPlace(path), on_commit)

    @property
    def commits(self) -> int:
        """Transactions so far: fewer than changes under load."""
        return self._writer.commits

    @property
    def trouble(self) -> Fault | None:
        return self._writer.trouble

    @property
    def full(self) -> bool:
        return not self._room.holds(PARCEL)

    @property
    def usage(self) -> Usage:
        return self._room.snapshot()

    async def enqueue(self, items: Sequence[EnqueueItem], *, now: int) -> list[Enqueued | Refused]:
        def on_disk(outcomes: list[Enqueued | Refused]) -> None:
            for item, outcome in zip(items, outcomes, strict=True):
                if isinstance(outcome, Enqueued):
                    self.counters["accepted"] += 1
                    self.arrivals.announce(MailboxName(item.recipient, item.channel))

        return await self._writer.submit(
            lambda connection: mailboxes.enqueue(connection, items, self._room, now),
            cost=sum(len(item.sealed) for item in items),
            then=on_disk,
        )

    async def peek(
        self, name: MailboxName, *, after: int, limit: int, max_bytes: int, now: int
    ) -> Mailbox:
        look = await self._read(
            lambda connection: mailboxes.peek(
                connection, name, after=after, limit=limit, max_bytes=max_bytes, now=now
            )
        )
        if look.damaged:
            await self._set_aside(name, look.damaged, now)
        return look.mailbox

    async def _set_aside(self, name: MailboxName, sequences: list[int], now: int) -> None:
        self.counters["damaged"] += len(sequences)
        log.error("%d parcels are damaged on disk; they are set aside", len(sequences))
        try:
            await self._writer.run(
                lambda connection: mailboxes.set_aside(connection, name, sequences, self._room, now)
            )
        except Fault as fault:  # what is whole is shown all the same
            log.error("damaged parcels could not be set aside: %s", fault)

    async def open_mailbox(self, name: MailboxName, *, now: int) -> None:
        await self._write(mailboxes.open_mailbox, name, self._room, now)

    async def forget_refusal(self, name: MailboxName, since: int) -> None:
        await self._write(mailboxes.forget_refusal, name, since, self._quotas)

    async def acknowledge(self, name: MailboxName, sequences: Sequence[int]) -> int:
        def on_disk(number: int) -> None:
            self.counters["acknowledged"] += number

        return await self._writer.submit(
            lambda connection: mailboxes.acknowledge(connection, name, sequences, self._room),
            then=on_disk,
        )

    async def mailbox_state(self, name: MailboxName) -> MailboxState:
        return await self._read(lambda connection: mailboxes.state(connection, name))

    async def put_key_package(
        self, device: DeviceKey, suite: int, package: bytes, *, last_resort: bool
    ) -> int:
        return await self._writer.run(
            lambda connection: key_packages.put(
                connection, device, suite, package, self._room, last_resort=last_resort
            ),
            cost=len(package),
        )

    async def take_key_package(
        self, device: DeviceKey, suite: int, request: bytes, *, now: int
    ) -> KeyPackageAnswer | None:
        return await self._writer.run(
            lambda connection: key_packages.take(connection, device, suite, request, now)
        )

    async def put_hybrid_key(self, device: DeviceKey, key: StoredHybridKey) -> None:
        await self._write(directory.put_hybrid_key, device, key, self._room)

    async def hybrid_keys(self, devices: Sequence[DeviceKey]) -> list[StoredHybridKey | None]:
        return await self._read(lambda connection: directory.hybrid_keys(connection, devices))

    async def put_bundle(self, identity: IdentityKey, number: int, bundle: Signed) -> None:
        await self._write(
            directory.put_bundle, identity, number, bundle, self._room, cost=len(bundle.payload)
        )

    async def bundle(self, identity: IdentityKey) -> Signed | None:
        return await self._read(lambda connection: directory.bundle(connection, identity))

    async def put_endpoint(
        self, device: DeviceKey, sequence: int, expires: int, record: Signed
    ) -> None:
        arguments = (device, sequence, expires, record, self._room)
        await self._write(directory.put_endpoint, *arguments, cost=len(record.payload))

    async def endpoint(self, device: DeviceKey, *, now: int) -> Signed | None:
        return await self._read(lambda connection: directory.endpoint(connection, device, now))

    async def sweep(self, *, now: int) -> int:
        expired, others = await self._writer.run(
            lambda connection: _sweep(connection, self._room, now)
        )
        self.counters["expired"] += expired
        return expired + others

    async def probe(self, *, now: int) -> None:
        await self._write(_probe, now)

    async def close(self) -> None:
        await self._writer.close()
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._read_thread.shutdown)
            self._reader.close()

    async def _write(self, work: Callable[..., T], *arguments: Any, cost: int = 0) -> T:
        return await self._writer.run(lambda connection: work(connection, *arguments), cost=cost)

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        if self._closed:
            raise Fault("store-closed", "the store is closed", blame=Blame.CALLER)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, self._read_now, work)

    def _read_now(self, work: Callable[[apsw.Connection], T]) -> T:
        with blaming_the_disk():
            self._reader.execute("BEGIN")  # one snapshot for all the statements of a job
            try:
                return work(self._reader)
            finally:
                self._reader.execute("COMMIT")


def _open_pair(path: Path, key: bytes | None) -> tuple[apsw.Connection, apsw.Connection]:
    """(for the writer, for the reader)."""
    writing = open_database(path, key=key)
    try:
        settle_log(writing)
        migrate(writing, MIGRATIONS)
        with blaming_the_disk():
            backup.revive(writing)
        reading = open_database(path, key=key)
        reading.pragma("query_only", True)
    except BaseException:
        writing.close()
        raise
    return writing, reading


def _sweep(connection: apsw.Connection, room: Room, now: int) -> tuple[int, int]:
    expired, unused = mailboxes.sweep(connection, room, now)
    known = mailboxes.recognise(connection, room, now)
    others = key_packages.sweep(connection, room, now) + directory.sweep(connection, room, now)
    return expired, unused + known + others


def _probe(connection: apsw.Connection, now: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('probed', ?)", (now,))
