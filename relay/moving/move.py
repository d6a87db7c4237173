"""Moves all that a relay keeps: copied in batches, then read again and compared, then kept or not.

Tables are found in the databases themselves, so a part of the store that comes later is moved as
well. Names and columns are the same in every kind of store.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from relay.moving.side import (
    COUNTED_ANEW,
    NOT_MOVED,
    OpenedSource,
    OpenedTarget,
    Row,
    Source,
    Target,
)
from schemas.errors import Blame, Fault

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # table, rows so far, rows in all


@dataclass(slots=True)
class Moved:
    """Rows per table. `keyed`: the relay's key came along; `marked`: no relay starts on the old
    database any more."""

    rows: dict[str, int] = field(default_factory=dict)
    keyed: bool = False
    marked: bool = False


@dataclass(slots=True)
class _Sum:
    """What a table holds, whatever the order of its rows."""

    rows: int = 0
    digest: int = 0

    def add(self, row: Row) -> None:
        self.rows += 1
        of_row = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
        self.digest = (self.digest + int.from_bytes(of_row)) % 2**128


async def move(
    opened_source: OpenedSource, opened_target: OpenedTarget, progress: Progress, *, now: int
) -> Moved:
    """All or nothing; the source stays as it is, but for a mark that no relay starts on it.

    Raises Refused `already-running`, `target-not-empty`, `moved-away`; Fault `cannot-move`,
    `move-damaged` when what was written is not what was read, and what the databases raise.
    """
    done = None
    try:
        async with opened_source as source:
            async with opened_target as target:
                moved = await _move(source, target, progress)
            done = moved  # the target is whole and on disk
            await source.mark_as_moved(now)
        done.marked = True  # and the mark, too
    except Fault as fault:
        if done is None:
            raise
        log.error("the old database is not marked as moved: %s", fault)
    return done


async def _move(source: Source, target: Target, progress: Progress) -> Moved:
    moved = Moved()
    tables = await _tables(source, target)
    sums = {}
    for table, columns in tables.items():
        sums[table] = await _copy(source, target, table, columns, progress)
        moved.rows[table] = sums[table].rows
    await target.set_next_ids(await source.next_ids())
    await target.set_usage(await source.usage())
    begin = await source.audit_begin()
    if begin is not None:
        await target.set_audit_begin(*begin)
    seed = await source.seed()
    if seed is not None:
        await target.set_seed(seed)
        moved.keyed = True
    for table, columns in tables.items():
        if await _sum(target, table, columns) != sums[table]:
            raise Fault(
                "move-damaged",
                f"{table} does not hold what was written to it",
                blame=Blame.ENVIRONMENT,
                hint="check the target's disk and memory; the source is as it was",
            )
    await target.finish()
    return moved


async def _tables(source: Source, target: Target) -> dict[str, tuple[str, ...]]:
    """Columns of each table that is moved; those that others refer to first.

    Raises Refused `cannot-move` when something has no place in the target.
    """
    here, there = await source.tables(), await target.tables()
    for table, counts in COUNTED_ANEW.items():
        here[table] = tuple(each for each in here[table] if each not in counts)
    for table, columns in here.items():
        missing = set(columns) - set(there.get(table, ()))
        if table not in NOT_MOVED and missing and await source.count(table):
            raise Fault(
                "cannot-move",
                f"the target has no place for {', '.join(sorted(missing))} of {table}",
                blame=Blame.INCOMPATIBLE,
                hint="use a newer version of this program",
            )
    order = TopologicalSorter(await target.parents()).static_order()
    common = set(here) & set(there) - set(NOT_MOVED)
    first = [table for table in order if table in common]
    return {table: here[table] for table in [*first, *sorted(common - set(first))]}


async def _copy(
    source: Source, target: Target, table: str, columns: tuple[str, ...], progress: Progress
) -> _Sum:
    number, found = await source.count(table), _Sum()
    progress(table, 0, number)
    async for batch in source.rows(table, columns):
        for row in batch:
            found.add(row)
        await target.write(table, columns, batch)
        progress(table, found.rows, number)
    return found


async def _sum(source: Source, table: str, columns: tuple[str, ...]) -> _Sum:
    found = _Sum()
    async for batch in source.rows(table, columns):
        for row in batch:
            found.add(row)
    return found
