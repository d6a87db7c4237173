"""Which store the settings mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from relay.config import RelayConfig
from relay.store.accounts import AccountStore
from relay.store.audit import AuditReader
from relay.store.contract import RelayStore, Written
from relay.store.sqlite import audit
from relay.store.sqlite import database as sqlite
from relay.store.sqlite.accounts import SqliteAccounts
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Blame, Fault


async def open_store(config: RelayConfig, on_commit: Callable[[Written], None]) -> RelayStore:
    """Open it, made and migrated where needed. Raises what the store's `open` raises."""
    if config.database_url is not None:
        with driver():
            from relay.store.postgres.store import PostgresStore
        return await PostgresStore.open(config.database_url, config.quotas, on_commit=on_commit)
    return await SqliteStore.open(
        config.database, config.quotas, key=config.database_key, on_commit=on_commit
    )


async def until_there(config: RelayConfig) -> None:
    """Wait for a server that is away, and say so; a file is there or is made.

    Raises as `waiting.until_there`.
    """
    if config.database_url is not None:
        with driver():
            from relay.store.postgres import waiting
        await waiting.until_there(config.database_url)


@asynccontextmanager
async def accounts_beside(config: RelayConfig) -> AsyncIterator[AccountStore]:
    """Its accounts, for a command beside the relay or without it.

    Raises what the store's `Database` raises, when it is opened and when it is used.
    """
    if config.database_url is not None:
        with driver():
            from relay.store.postgres import database as postgres
            from relay.store.postgres.accounts import PostgresAccounts

        shared = await postgres.Database.beside(config.database_url)
        try:
            yield PostgresAccounts(shared)
        finally:
            await shared.close()
        return
    database = await sqlite.Database.beside(config.database, key=config.database_key)
    try:
        yield SqliteAccounts(database)
    finally:
        await database.close()


def reading_audit(config: RelayConfig) -> AbstractAsyncContextManager[AuditReader]:
    """Its audit log, beside the relay or without it. Raises what the store's `reading` raises."""
    if config.database_url is not None:
        with driver():
            from relay.store.postgres import audit as postgres_audit
        return postgres_audit.reading(config.database_url)
    return audit.reading(config.database, config.database_key)


@contextmanager
def driver() -> Iterator[None]:
    """Around imports of what needs it: an extra of the distribution. Raises Fault `no-driver`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise Fault(
            "no-driver",
            "what talks to PostgreSQL is not installed",
            blame=Blame.ENVIRONMENT,
            hint="pip install asyncpg, into the environment that this program is in",
        ) from error
