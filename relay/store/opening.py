"""Which store the settings mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from relay.config import RelayConfig
from relay.store.accounts import AccountStore
from relay.store.audit import AuditReader
from relay.store.contract import RelayStore
from relay.store.sqlite import audit
from relay.store.sqlite import database as sqlite
from relay.store.sqlite.accounts import SqliteAccounts
from relay.store.sqlite.store import SqliteStore
from relay.store.sqlite.writer import Written


async def open_store(config: RelayConfig, on_commit: Callable[[Written], None]) -> RelayStore:
    """Open it, made and migrated where needed. Raises what the store's `open` raises."""
    return await SqliteStore.open(
        config.database, config.quotas, key=config.database_key, on_commit=on_commit
    )


@asynccontextmanager
async def accounts_beside(config: RelayConfig) -> AsyncIterator[AccountStore]:
    """Its accounts, for a command beside the relay or without it.

    Raises what the store's `Database` raises, when it is opened and when it is used.
    """
    if config.store_backend == "postgres" and config.database_url is not None:
        # An extra of the distribution: without it, there is no driver.
        from relay.store.postgres import database as postgres
        from relay.store.postgres.accounts import PostgresAccounts

        shared = await postgres.Database.open(config.database_url, config.quotas)
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
    return audit.reading(config.database, config.database_key)
