"""Which store the settings mean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from relay.config import RelayConfig
from relay.store.audit import AuditReader
from relay.store.contract import RelayStore
from relay.store.sqlite import audit
from relay.store.sqlite.store import SqliteStore
from relay.store.sqlite.writer import Written


async def open_store(config: RelayConfig, on_commit: Callable[[Written], None]) -> RelayStore:
    """Open it, made and migrated where needed. Raises what the store's `open` raises."""
    return await SqliteStore.open(
        config.database, config.quotas, key=config.database_key, on_commit=on_commit
    )


def reading_audit(config: RelayConfig) -> AbstractAsyncContextManager[AuditReader]:
    """Its audit log, beside the relay or without it. Raises what the store's `reading` raises."""
    return audit.reading(config.database, config.database_key)
