"""The relay's store in one SQLite file: a writer with group commit, and a reader beside it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

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
from relay.store.sqlite import directory, directory_owners, key_packages, mailboxes
from relay.store.sqlite.accounts import SqliteAccounts
from relay.store.sqlite.accounts import sweep as sweep_accounts
from relay.store.sqlite.audit import SqliteAudit
from relay.store.sqlite.blobs import SqliteBlobs
from relay.store.sqlite.blobs import sweep as sweep_blobs
from relay.store.sqlite.channels import SqliteChannels
from relay.store.sqlite.database import Database
from relay.store.sqlite.delivery_tokens import SqliteDeliveryTokens
from relay.store.sqlite.statements import SqliteStatements
from relay.store.sqlite.usage import Room
from relay.upkeep import Upkeep
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.limits import PARCEL
from schemas.node_service import Enqueued, EnqueueItem, Mailbox
from schemas.records import Signed

log = logging.getLogger(__name__)


class SqliteStore:
    """A RelayStore. Made by `open`; reads see every change that was acknowledged before them."""

    processes = None

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self.database = database
        self._room = database.room
        self._quotas = quotas
        self.statements = SqliteStatements(database)
        self.arrivals = Arrivals()
        self.audit = SqliteAudit(database)
        self.blobs = SqliteBlobs(database)
        self.accounts = SqliteAccounts(database)
        self.channels = SqliteChannels(database)
        self.delivery_tokens = SqliteDeliveryTokens(database)
        self.counters: Counter[str] = Counter()
        self.upkeep = Upkeep()

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
        here: see relay/store/sqlite/backup.py. `on_commit` is called on the writer's thread.

        Raises Refused `moved-away`, Fault `database-newer`, `database-damaged`, `disk-full` and
        the like.
        """
        quotas = Quotas() if quotas is None else quotas
        database = await Database.open(path, quotas, key=key, on_commit=on_commit)
        return cls(database, quotas)

    @property
    def commits(self) -> int:
        """Transactions so far: fewer than changes under load."""
        return self.database.writer.commits

    @property
    def trouble(self) -> Fault | None:
        return self.database.writer.trouble

    @property
    def full(self) -> bool:
        return not self._room.holds(PARCEL)

    @property
    def usage(self) -> Usage:
        return self._room.snapshot()

    async def enqueue(
        self, items: Sequence[EnqueueItem], *, now: int, by: Bringer = ANYBODY
    ) -> list[Enqueued | Refused]:
        def on_disk(outcomes: list[Enqueued | Refused]) -> None:
            for item, outcome in zip(items, outcomes, strict=True):
                if isinstance(outcome, Enqueued):
                    self.counters["accepted"] += 1
                    self.arrivals.announce(MailboxName(item.recipient, item.channel))

        return await self.database.writer.submit(
            lambda connection: mailboxes.enqueue(connection, items, by, self._room, now),
            cost=sum(len(item.sealed) for item in items),
            then=on_disk,
        )

    async def peek(
        self, name: MailboxName, *, after: int, limit: int, max_bytes: int, now: int
    ) -> Mailbox:
        look = await self.database.read(
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
            await self.database.writer.run(
                lambda connection: mailboxes.set_aside(connection, name, sequences, self._room, now)
            )
        except Fault as fault:  # what is whole is shown all the same
            log.error("damaged parcels could not be set aside: %s", fault)

    async def open_mailbox(self, name: MailboxName, *, now: int) -> None:
        await self.database.write(mailboxes.open_mailbox, name, self._room, now)

    async def forget_refusal(self, name: MailboxName, since: int) -> None:
        await self.database.write(mailboxes.forget_refusal, name, since, self._quotas)

    async def acknowledge(self, name: MailboxName, sequences: Sequence[int]) -> int:
        def on_disk(number: int) -> None:
            self.counters["acknowledged"] += number

        return await self.database.writer.submit(
            lambda connection: mailboxes.acknowledge(connection, name, sequences, self._room),
            then=on_disk,
        )

    async def mailbox_state(self, name: MailboxName) -> MailboxState:
        return await self.database.read(mailboxes.state, name)

    async def put_key_package(
        self, device: DeviceKey, suite: int, package: bytes, *, last_resort: bool, now: int
    ) -> int:
        return await self.database.writer.run(
            lambda connection: key_packages.put(
                connection, device, suite, package, self._room, now, last_resort=last_resort
            ),
            cost=len(package),
        )

    async def take_key_package(
        self, device: DeviceKey, suite: int, request: bytes, *, now: int
    ) -> KeyPackageAnswer | None:
        return await self.database.writer.run(
            lambda connection: key_packages.take(connection, device, suite, request, now)
        )

    async def put_hybrid_key(self, device: DeviceKey, key: StoredHybridKey, *, now: int) -> None:
        await self.database.write(directory.put_hybrid_key, device, key, self._room, now)

    async def hybrid_keys(self, devices: Sequence[DeviceKey]) -> list[StoredHybridKey | None]:
        return await self.database.read(directory.hybrid_keys, devices)

    async def put_bundle(
        self, identity: IdentityKey, number: int, bundle: Signed, *, by: DeviceKey, now: int
    ) -> None:
        arguments = (identity, number, bundle, by, self._room, now)
        await self.database.write(directory.BUNDLES.put, *arguments, cost=len(bundle.payload))

    async def bundle(self, identity: IdentityKey) -> Signed | None:
        return await self.database.read(directory.BUNDLES.get, identity)

    async def put_endpoint(
        self, device: DeviceKey, sequence: int, expires: int, record: Signed, *, now: int
    ) -> None:
        arguments = (device, sequence, record, device, self._room, now, expires)
        await self.database.write(directory.ENDPOINTS.put, *arguments, cost=len(record.payload))

    async def endpoint(self, device: DeviceKey, *, now: int) -> Signed | None:
        return await self.database.read(directory.endpoint, device, now)

    async def sweep(self, *, now: int) -> int:
        await self.database.count_what_others_did()
        expired, others = await self.database.write(_sweep, self._room, now)
        blobs, rows = await self.database.write(sweep_blobs, self._room, now)
        self.counters["expired"] += expired
        self.blobs.counters["expired"] += blobs
        return expired + others + blobs + rows

    async def probe(self, *, now: int) -> None:
        await self.database.write(_probe, now)

    async def close(self) -> None:
        await self.database.close()


def _sweep(connection: apsw.Connection, room: Room, now: int) -> tuple[int, int]:
    expired, unused = mailboxes.sweep(connection, room, now)
    known = mailboxes.recognise(connection, room, now)
    others = key_packages.sweep(connection, room, now) + directory.sweep(connection, room, now)
    others += directory_owners.sweep(connection, room, now)
    return expired, unused + known + others + sweep_accounts(connection, now)


def _probe(connection: apsw.Connection, now: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('probed', ?)", (now,))
