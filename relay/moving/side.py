"""What the databases between which a relay is moved have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

from relay.store.contract import Usage
from schemas.errors import Blame, Refused

Value: TypeAlias = int | float | bytes | str | None  # a boolean is 0 or 1
Row: TypeAlias = tuple[Value, ...]

BATCH_BYTES: Final = 4 * 1024 * 1024  # in memory at once, about
BATCH_ROWS: Final = 2_000

# Not copied, and why; every other table is, whichever part of the store it belongs to.
NOT_MOVED: Final[Mapping[str, str]] = {
    "schema_version": "of this database",
    "sqlite_sequence": "see `next_ids`",
    "home": "says which server this is",
    "usage": "see `usage`",
    "processes": "none of them runs",
    "relay_key": "see `seed`; SQLite has it in a file",
    "audit_begin": "see `audit_begin`; PostgreSQL notes the end as well",
    "audit_places": "as above",
}
COUNTED_ANEW: Final = {"delivery_tokens": {"parcels", "bytes"}}  # SQLite counts them in memory


class Source(Protocol):
    """Held against changes for as long as it is open."""

    async def tables(self) -> dict[str, tuple[str, ...]]:
        """Those of the database, with their columns in a fixed order."""
        ...

    async def count(self, table: str) -> int: ...

    def rows(self, table: str, columns: Sequence[str]) -> AsyncIterator[list[Row]]:
        """All rows, in batches."""
        ...

    async def next_ids(self) -> dict[str, int]:
        """Of tables that never give an id twice, the next one."""
        ...

    async def usage(self) -> Usage: ...

    async def seed(self) -> bytes | None:
        """Of the relay's key; None: it is not kept here."""
        ...

    async def audit_begin(self) -> tuple[int, bytes] | None:
        """Number and hash of what the first row of the audit log follows; None: nothing."""
        ...

    async def mark_as_moved(self, now: int) -> None:
        """It is read no more, and no relay starts on it."""
        ...


class Target(Source, Protocol):
    """Nothing of what was written is there before `finish`; without it, nothing is left behind."""

    async def parents(self) -> dict[str, set[str]]:
        """Which tables a table refers to."""
        ...

    async def write(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None: ...

    async def set_next_ids(self, ids: Mapping[str, int]) -> None: ...

    async def set_usage(self, usage: Usage) -> None: ...

    async def set_seed(self, seed: bytes) -> None: ...

    async def set_audit_begin(self, number: int, hash_: bytes) -> None:
        """After the log is there."""
        ...

    async def finish(self) -> None:
        """On disk, all of it, when this returns."""
        ...


OpenedSource: TypeAlias = AbstractAsyncContextManager[Source]
OpenedTarget: TypeAlias = AbstractAsyncContextManager[Target]


class Batch:
    """Rows until they are enough to be handed on."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row) -> bool:
        """Whether it is full now."""
        self.rows.append(row)
        self._bytes += sum(len(value) for value in row if isinstance(value, bytes | str))
        return self._bytes >= BATCH_BYTES or len(self.rows) >= BATCH_ROWS


def relay_runs(where: str) -> Refused:
    return Refused(
        "already-running",
        f"a relay runs on {where}",
        blame=Blame.ENVIRONMENT,
        hint="stop every process of it first",
    )


def not_empty(where: str, what: str) -> Refused:
    return Refused(
        "target-not-empty",
        f"{where} holds a relay's data: {what}",
        hint="name a new one; nothing is mixed or replaced",
    )
