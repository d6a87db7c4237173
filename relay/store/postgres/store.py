"""The relay's store in PostgreSQL: any number of relay processes share one."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from base64 import b32encode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from relay.store.arrivals import Arrivals
from relay.store.contract import (
    KeyPackageAnswer,
    MailboxName,
    MailboxState,
    Quotas,
    StoredHybridKey,
    Usage,
    Written,
)
from relay.store.delivery_tokens import ANYBODY, Bringer
from relay.store.postgres import directory, key_packages, mailboxes
from relay.store.postgres.accounts import PostgresAccounts
from relay.store.postgres.accounts import sweep as sweep_accounts
from relay.store.postgres.audit import PostgresAudit
from relay.store.postgres.blobs import PostgresBlobs
from relay.store.postgres.blobs import sweep as sweep_blobs
from relay.store.postgres.channels import PostgresChannels
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database
from relay.store.postgres.delivery_tokens import PostgresDeliveryTokens
from relay.store.postgres.processes import PostgresProcesses
from relay.store.postgres.statements import PostgresStatements
from relay.store.postgres.usage import COUNT, count
from relay.store.postgres.wakeups import ORIGIN_LENGTH, Wakeups
from relay.upkeep import Upkeep
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.limits import PARCEL
from schemas.node_service import Enqueued, EnqueueItem, Mailbox
from schemas.records import Signed

log = logging.getLogger(__name__)

T = TypeVar("T")

USAGE_AGE_S: Final = 2.0  # of the counts that are shown, while something is written
_SWEEP_LOCK: Final = 0x73_77_65_65_70  # "sweep": one process at a time


class PostgresStore:
    """A RelayStore. Made by `open`; reads see every change that was acknowledged before them."""

    def __init__(self, database: Database, usage: Usage) -> None:
        origin = b32encode(os.urandom(5)).decode()[:ORIGIN_LENGTH]
        self.database = database
        self.processes = PostgresProcesses(database)
        self.arrivals = Arrivals()
        self.audit = PostgresAudit(database)
        self.blobs = PostgresBlobs(database)
        self.statements = PostgresStatements(database)
        self.accounts = PostgresAccounts(database)
        self.channels = PostgresChannels(database)
        self.delivery_tokens = PostgresDeliveryTokens(database)
        self.counters: Counter[str] = Counter()
        self.upkeep = Upkeep()
        self._mail = mailboxes.Mail(database, origin, self._wake_in_doubt)
        self._usage = usage
        self._counted = time.monotonic()
        self._counting: asyncio.Task[None] | None = None
        self._wakeups = Wakeups(
            database.connect,
            self.arrivals,
            origin,
            database.note_trouble,
            self._come_back,
            self.upkeep,
        )

    @classmethod
    async def open(
        cls,
        url: str,
        quotas: Quotas | None = None,
        *,
        on_commit: Callable[[Written], None] = lambda _: None,
    ) -> PostgresStore:
        """Connect to the database at `url` (postgresql://…), and migrate it.

        Other processes may have it open, and open it at the same time. Raises what Database.open
        does.
        """
        quotas = Quotas() if quotas is None else quotas
        database = await Database.open(url, quotas, on_commit=on_commit)
        try:
            store = cls(database, await database.read(count))
            await store._wakeups.open()
        except BaseException:
            await database.close()
            raise
        return store

    @property
    def commits(self) -> int:
        """Transactions so far: fewer than changes under load."""
        return self.database.commits

    @property
    def trouble(self) -> Fault | None:
        return self.database.trouble

    @property
    def full(self) -> bool:
        return self._usage.bytes + PARCEL > self.database.quotas.total_bytes

    @property
    def usage(self) -> Usage:
        """Exact after a probe or a sweep; else of USAGE_AGE_S before the last change, at most."""
        return replace(self._usage)

    def _wake_in_doubt(self, names: Iterable[MailboxName]) -> None:
        """Their parcels may be on disk now, or in a moment."""
        self._wakeups.heed_own()
        for name in names:
            self.arrivals.announce(name)

    async def _come_back(self) -> None:
        """A write clears `trouble`, before anybody brings one."""
        await self.probe(now=int(time.time()))

    async def _count(self) -> None:
        [row] = await self.database.fetch(COUNT)
        self._usage = Usage(*row)
        self._counted = time.monotonic()

    def _count_soon(self) -> None:
        if self._counting is None and time.monotonic() > self._counted + USAGE_AGE_S:
            self._counting = asyncio.create_task(self._count(), name="relay-usage")
            self._counting.add_done_callback(self._has_counted)

    def _has_counted(self, task: asyncio.Task[None]) -> None:
        self._counting = None
        if not task.cancelled() and task.exception() is not None:
            log.info("the store could not be counted: %s", task.exception())

    async def enqueue(
        self, items: Sequence[EnqueueItem], *, now: int, by: Bringer = ANYBODY
    ) -> list[Enqueued | Refused]:
        def on_disk(name: MailboxName, outcome: Enqueued | Refused) -> None:
            self._count_soon()
            if isinstance(outcome, Enqueued):
                self.counters["accepted"] += 1
                self.arrivals.announce(name)

        return await self._mail.enqueue(items, by, now, on_disk)

    async def peek(
        self, name: MailboxName, *, after: int, limit: int, max_bytes: int, now: int
    ) -> Mailbox:
        while True:
            look = await mailboxes.peek(
                self.database, name, after=after, limit=limit, max_bytes=max_bytes, now=now
            )
            if not look.damaged:
                return look.mailbox
            went = await self._set_aside(name, look.damaged, now)
            if look.mailbox.parcels or not went:
                return look.mailbox

    async def _set_aside(self, name: MailboxName, sequences: list[int], now: int) -> bool:
        self.counters["damaged"] += len(sequences)
        log.error("%d parcels are damaged on disk; they are set aside", len(sequences))
        try:
            await self.database.write(mailboxes.set_aside, name, sequences, now)
        except Fault as fault:  # what is whole is shown all the same
            log.error("damaged parcels could not be set aside: %s", fault)
            return False
        return True

    async def open_mailbox(self, name: MailboxName, *, now: int) -> None:
        await self.database.write(mailboxes.open_mailbox, name, self.database.quotas, now)

    async def forget_refusal(self, name: MailboxName, since: int) -> None:
        await self.database.write(mailboxes.forget_refusal, name, since, self.database.quotas)

    async def acknowledge(self, name: MailboxName, sequences: Sequence[int]) -> int:
        def on_disk(number: int) -> None:
            self._count_soon()
            self.counters["acknowledged"] += number

        return await self._mail.forget(name, sequences, on_disk)

    async def mailbox_state(self, name: MailboxName) -> MailboxState:
        return await mailboxes.state(self.database, name)

    async def put_key_package(
        self, device: DeviceKey, suite: int, package: bytes, *, last_resort: bool, now: int
    ) -> int:
        quotas = self.database.quotas
        return await self.database.write(
            key_packages.put, device, suite, package, last_resort, quotas, now
        )

    async def take_key_package(
        self, device: DeviceKey, suite: int, request: bytes, *, now: int
    ) -> KeyPackageAnswer | None:
        return await self.database.write(key_packages.take, device, suite, request, now)

    async def put_hybrid_key(self, device: DeviceKey, key: StoredHybridKey, *, now: int) -> None:
        await self.database.write(directory.put_hybrid_key, device, key, self.database.quotas, now)

    async def hybrid_keys(self, devices: Sequence[DeviceKey]) -> list[StoredHybridKey | None]:
        return await directory.hybrid_keys(self.database, devices)

    async def put_bundle(
        self, identity: IdentityKey, number: int, bundle: Signed, *, by: DeviceKey, now: int
    ) -> None:
        quotas = self.database.quotas
        await self.database.write(directory.BUNDLES.put, identity, number, bundle, by, quotas, now)

    async def bundle(self, identity: IdentityKey) -> Signed | None:
        return await directory.BUNDLES.get(self.database, identity)

    async def put_endpoint(
        self, device: DeviceKey, sequence: int, expires: int, record: Signed, *, now: int
    ) -> None:
        arguments = (device, sequence, record, device, self.database.quotas, now, expires)
        await self.database.write(directory.ENDPOINTS.put, *arguments)

    async def endpoint(self, device: DeviceKey, *, now: int) -> Signed | None:
        return await directory.endpoint(self.database, device, now)

    async def sweep(self, *, now: int) -> int:
        """One process at a time; for the others there is nothing to do."""
        mail = await self.database.write(_alone, mailboxes.sweep, now)
        swept = 0
        if mail is not None:
            self.counters["expired"] += mail.expired
            swept = mail.expired + mail.others
        for others in (key_packages.sweep, directory.sweep, sweep_accounts):
            swept += await self.database.write(_alone, others, now) or 0
        blobs = await self.database.write(_alone, sweep_blobs, now)
        if blobs is not None:
            self.blobs.counters["expired"] += blobs.expired
            swept += blobs.expired + blobs.rows
        await self._count()
        return swept

    async def probe(self, *, now: int) -> None:
        await self.database.write(_probe, now)
        await self._count()

    async def close(self) -> None:
        await self._wakeups.close()
        await self._mail.close()
        if self._counting is not None:
            await asyncio.wait([self._counting])
        await self.database.close()


async def _alone(
    connection: Connection, sweep: Callable[[Connection, int], Awaitable[T]], now: int
) -> T | None:
    """A part of the sweep; None when another process is at one."""
    if await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _SWEEP_LOCK):
        return await sweep(connection, now)
    return None


async def _probe(connection: Connection, now: int) -> None:
    await connection.execute(
        "INSERT INTO meta (name, value) VALUES ('probed', $1)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        now,
    )
