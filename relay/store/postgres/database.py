"""The PostgreSQL database as the parts of the store use it.

Each part (key packages, accounts, blobs, …) is a module of SQL over `write` and `read`; mail, which
is most of the work, goes through `Batcher`s on connections of its own (see mailboxes.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg

from relay.store.contract import Quotas, Written
from relay.store.postgres.connecting import (
    CONNECT_OPTIONS,
    CONNECT_S,
    Connection,
    check_durable,
    connect,
)
from relay.store.postgres.failures import AGAIN, UNAVAILABLE, blaming_the_server
from relay.store.postgres.moved import check_not_moved
from relay.store.postgres.schema import migrate, require_newest, revive_if_moved
from schemas.errors import Blame, Fault

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTIONS: Final = 6  # per process, for everything but mail
MAIL_CONNECTIONS: Final = 3  # two take parcels, one forgets them
ATTEMPTS: Final = 5
RETRY_S: Final = 0.02


class Database:
    """Made by `open` or `beside`; reads see every change that was acknowledged before them, by
    any process."""

    def __init__(
        self,
        url: str,
        quotas: Quotas,
        on_commit: Callable[[Written], None],
        greet: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """`greet` prepares each new connection."""
        self.quotas = quotas
        self.trouble: Fault | None = None  # why the last write failed; None: it did not
        self.commits = 0
        self._url = url
        self._on_commit = on_commit
        self._greet = greet
        self._pool = self._make_pool(CONNECTIONS)
        self._mail_pool = self._make_pool(MAIL_CONNECTIONS)
        self._running: set[asyncio.Task[object]] = set()
        self.closed = False

    @classmethod
    async def open(
        cls, url: str, quotas: Quotas, *, on_commit: Callable[[Written], None] = lambda _: None
    ) -> Database:
        """Connect, and migrate what is older; several processes may do so at once.

        `url` is one of PostgreSQL's (postgresql://…). Raises what `blaming_the_server` does, and
        Fault `bad-database-url`, `database-newer`, `not-durable`, Refused `moved-away`.
        """
        connection = await connect(url)
        try:
            with blaming_the_server():
                await migrate(connection)
                await check_not_moved(connection)
        finally:
            connection.terminate()
        return await cls(url, quotas, on_commit, _greet)._ready()

    @classmethod
    async def beside(cls, url: str) -> Database:
        """For a command, whether the relay runs or not: nothing is made, migrated or settled.

        Raises as `open` does, and Fault `no-database`, `database-older`.
        """
        connection = await connect(url)
        try:
            with blaming_the_server():
                await require_newest(connection)
                await check_not_moved(connection)
        finally:
            connection.terminate()
        return await cls(url, Quotas(), lambda _: None, check_durable)._ready()

    async def _ready(self) -> Database:
        await self._pool  # an empty one; it connects as it is used
        await self._mail_pool
        return self

    def _make_pool(self, size: int) -> asyncpg.Pool:
        return asyncpg.create_pool(
            self._url, min_size=0, max_size=size, init=self._greet, reset=_keep, **CONNECT_OPTIONS
        )

    async def connect(self) -> Connection:
        """A connection of one's own, as a listener needs it."""
        return await connect(self._url)

    async def write(self, work: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """`work(connection, *arguments)` in a transaction; returns once that is on disk.

        It may run more than once (each time but the last undone), and goes on when its caller has
        gone. When it raises a Fault, what it wrote before stays and the Fault comes out here; any
        other exception undoes all of it. Whoever reads something to change it locks it first: the
        row (FOR UPDATE), or a name (`lock`).

        Raises as `blaming_the_server`; after `store-unavailable`, it may have been done or not.
        """
        return await self._go_on(self._write(work, arguments))

    async def _write(self, work: Callable[..., Awaitable[T]], arguments: tuple[object, ...]) -> T:
        outcome: T | _Refusal = await self.attempt(self._pool, _in_transaction, work, arguments)
        if isinstance(outcome, _Refusal):
            raise outcome.fault
        return outcome

    async def mail(self, work: Callable[..., Awaitable[T]], *arguments: object, jobs: int) -> T:
        """`work(connection, *arguments)`, one statement that commits by itself; for a Batcher."""
        return await self.attempt(self._mail_pool, work, *arguments, jobs=jobs)

    async def attempt(
        self,
        pool: asyncpg.Pool,
        work: Callable[..., Awaitable[T]],
        *arguments: object,
        jobs: int = 1,
    ) -> T:
        """A change, done again when it stood in another's way; keeps `trouble` and the metrics."""
        self.check_open()
        begun = time.perf_counter()
        try:
            with blaming_the_server():
                for attempt in range(ATTEMPTS):
                    try:
                        async with pool.acquire(timeout=CONNECT_S) as connection:
                            outcome = await work(connection, *arguments)
                        break
                    except AGAIN:
                        if attempt == ATTEMPTS - 1:
                            raise
                        # Apart from each other, or they meet again.
                        await asyncio.sleep(random.uniform(0, RETRY_S * 2**attempt))  # noqa: S311
        except Fault as fault:
            self.note_trouble(fault)
            raise
        self.trouble = None
        self.commits += 1
        self._on_commit(Written(jobs, 0.0, time.perf_counter() - begun))
        return outcome

    async def read(self, work: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """`work(connection, *arguments)` on one snapshot, without a right to write."""
        return await self._read(_on_snapshot, work, arguments)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement that changes nothing."""
        return await self._read(_fetch, query, arguments)

    async def _read(self, work: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Once more when the connection had been lost. Raises Fault `store-closed`."""
        self.check_open()
        for last in (False, True):
            try:
                with blaming_the_server():
                    async with self._pool.acquire(timeout=CONNECT_S) as connection:
                        return await work(connection, *arguments)
            except Fault as fault:
                if last or fault.code != UNAVAILABLE:
                    raise
        raise AssertionError("unreachable")

    def check_open(self) -> None:
        if self.closed:
            raise Fault("store-closed", "the store is closed", blame=Blame.CALLER)

    def note_trouble(self, fault: Fault) -> None:
        if self.trouble is None or self.trouble.code != fault.code:
            log.error("the database takes no writes: %s", fault)
        self.trouble = fault

    async def _go_on(self, work: Awaitable[T]) -> T:
        """Wait for it; whoever stops waiting does not stop it."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # who waited has it; nobody else misses it

    async def close(self) -> None:
        """Finish what is under way, then let go. Idempotent."""
        self.closed = True
        while self._running:
            await asyncio.wait(self._running)
        for pool in (self._pool, self._mail_pool):
            try:
                async with asyncio.timeout(CONNECT_S):
                    await pool.close()
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pool.terminate()


async def lock(connection: Connection, *names: bytes) -> None:
    """Until the transaction ends, nobody else has the lock of this name: `lock(c, b"kp", device)`.

    Whoever takes several takes them in one order.
    """
    digest = hashlib.blake2b(b"\0".join(names), digest_size=8).digest()
    number = int.from_bytes(digest, signed=True)
    await connection.execute("SELECT pg_advisory_xact_lock($1)", number)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What a job raised after its writes, which stay."""

    fault: Fault


async def _in_transaction(
    connection: Connection, work: Callable[..., Awaitable[T]], arguments: tuple[object, ...]
) -> T | _Refusal:
    async with connection.transaction():
        try:
            return await work(connection, *arguments)
        except Fault as fault:
            return _Refusal(fault)


async def _on_snapshot(
    connection: Connection, work: Callable[..., Awaitable[T]], arguments: tuple[object, ...]
) -> T:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await work(connection, *arguments)


async def _fetch(
    connection: Connection, query: str, arguments: tuple[object, ...]
) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
    return found


async def _greet(connection: Connection) -> None:
    await check_durable(connection)
    await revive_if_moved(connection)


async def _keep(connection: Connection) -> None:
    """What is given back is as it was: no job leaves settings or locks behind."""
