"""The relay's store in one SQLite file: a writer with group commit, and a reader beside it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import apsw

from relay.store import directory, key_packages, mailboxes
from relay.store.contract import (
    KeyPackageAnswer,
    MailboxName,
    MailboxState,
    Quotas,
    StoredHybridKey,
)
from relay.store.writer import Writer
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.node_service import Enqueued, EnqueueItem, Mailbox
from schemas.records import Signed
from storage.sqlite import blaming_the_disk, migrate, open_database

MIGRATIONS = files("relay.store") / "migrations"

T = TypeVar("T")


class SqliteStore:
    """A RelayStore. Made by `open`; reads see every change that was acknowledged before them."""

    def __init__(self, writer: Writer, reader: apsw.Connection, quotas: Quotas) -> None:
        self._writer = writer
        self._reader = reader
        # One thread: a connection belongs to one at a time.
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="relay-reader")
        self._quotas = quotas
        self._closed = False

    @classmethod
    async def open(cls, path: Path, quotas: Quotas | None = None) -> SqliteStore:
        """Open or make the database at `path`, and migrate it. Its folder must be locked by us.

        Raises Fault `database-newer`, `database-damaged`, `disk-full` and the like.
        """
        writing, reading = await asyncio.to_thread(_open_pair, path)
        return cls(Writer(writing), reading, Quotas() if quotas is None else quotas)

    @property
    def commits(self) -> int:
        """Transactions so far: fewer than changes under load."""
        return self._writer.commits

    async def enqueue(self, items: Sequence[EnqueueItem], *, now: int) -> list[Enqueued | Refused]:
        return await self._writer.run(
            lambda connection: mailboxes.enqueue(connection, items, self._quotas, now),
            cost=sum(len(item.sealed) for item in items),
        )

    async def peek(
        self, name: MailboxName, *, after: int, limit: int, max_bytes: int, now: int
    ) -> Mailbox:
        return await self._read(
            functools.partial(
                mailboxes.peek, name=name, after=after, limit=limit, max_bytes=max_bytes, now=now
            )
        )

    async def acknowledge(self, name: MailboxName, sequences: Sequence[int]) -> int:
        return await self._writer.run(
            lambda connection: mailboxes.acknowledge(connection, name, sequences)
        )

    async def mailbox_state(self, name: MailboxName) -> MailboxState:
        return await self._read(lambda connection: mailboxes.state(connection, name))

    async def put_key_package(
        self, device: DeviceKey, suite: int, package: bytes, *, last_resort: bool
    ) -> int:
        return await self._writer.run(
            lambda connection: key_packages.put(
                connection, device, suite, package, self._quotas, last_resort=last_resort
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
        await self._writer.run(lambda connection: directory.put_hybrid_key(connection, device, key))

    async def hybrid_keys(self, devices: Sequence[DeviceKey]) -> list[StoredHybridKey | None]:
        return await self._read(lambda connection: directory.hybrid_keys(connection, devices))

    async def put_bundle(self, identity: IdentityKey, number: int, bundle: Signed) -> None:
        await self._writer.run(
            lambda connection: directory.put_bundle(connection, identity, number, bundle),
            cost=len(bundle.payload),
        )

    async def bundle(self, identity: IdentityKey) -> Signed | None:
        return await self._read(lambda connection: directory.bundle(connection, identity))

    async def put_endpoint(
        self, device: DeviceKey, sequence: int, expires: int, record: Signed
    ) -> None:
        await self._writer.run(
            lambda connection: directory.put_endpoint(
                connection, device, sequence, expires, record
            ),
            cost=len(record.payload),
        )

    async def endpoint(self, device: DeviceKey, *, now: int) -> Signed | None:
        return await self._read(lambda connection: directory.endpoint(connection, device, now))

    async def sweep(self, *, now: int) -> int:
        return await self._writer.run(lambda connection: _sweep(connection, now))

    async def close(self) -> None:
        await self._writer.close()
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._read_thread.shutdown)
            self._reader.close()

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


def _open_pair(path: Path) -> tuple[apsw.Connection, apsw.Connection]:
    """(for the writer, for the reader)."""
    writing = open_database(path)
    try:
        migrate(writing, MIGRATIONS)
        reading = open_database(path)
        reading.pragma("query_only", True)
    except BaseException:
        writing.close()
        raise
    return writing, reading


def _sweep(connection: apsw.Connection, now: int) -> int:
    parts = (mailboxes.sweep, key_packages.sweep, directory.sweep)
    return sum(part(connection, now) for part in parts)
