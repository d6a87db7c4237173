"""The audit log finds what was done to it: deletion, change, reordering, a lost end or start."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from relay.store.audit import (
    MAX_SUBJECT_BYTES,
    START,
    TRIMMED,
    AuditLog,
    Place,
    Row,
    Verdict,
    Verifier,
    next_row,
)
from relay.store.contract import RelayStore
from relay.store.sqlite.store import SqliteStore
from tests.relay.support import DAY, NOW

ADA, BOB = "account:ada", "account:bob"


async def fill(log: AuditLog, count: int = 6) -> list[Row]:
    for number in range(count):
        await log.append("device-registered", (ADA, BOB)[number % 2], now=NOW + number * DAY)
    return list(await log.rows(limit=1000))


def judged(rows: Sequence[Row], begin: Place | None = None, *places: Place) -> Verdict:
    verifier = Verifier(Place(0, START) if begin is None else begin, places)
    verifier.read(rows)
    return verifier.verdict()


async def test_rows_come_as_they_were_written_and_verify(store: RelayStore) -> None:
    place = await store.audit.append("account-made", ADA, now=NOW)
    assert place.number == 1
    [row] = await store.audit.rows(limit=10)
    assert (row.number, row.time, row.event, row.subject) == (1, NOW, "account-made", ADA)
    assert row.hash == place.hash
    rows = await fill(store.audit, 5)
    assert [each.number for each in rows] == [1, 2, 3, 4, 5, 6]
    assert [each.number for each in await store.audit.rows(after=2, limit=2)] == [3, 4]
    verdict = judged(rows, await store.audit.begin(), place)
    assert verdict == Verdict(6, 0, Place(6, rows[-1].hash))


async def test_an_empty_log_is_whole_and_knows_that_a_checkpoint_is_missing() -> None:
    assert judged([]) == Verdict(0, 0, Place(0, START))
    assert "cut off" in judged([], None, Place(3, bytes(32))).fault


@pytest.mark.parametrize("gone", [0, 2, 4])
async def test_a_deleted_row_is_missed(store: RelayStore, gone: int) -> None:
    rows = await fill(store.audit)
    verdict = judged(rows[:gone] + rows[gone + 1 :])
    assert verdict.fault == f"row {gone + 1} is missing"
    assert verdict.head.number == gone


@pytest.mark.parametrize(
    "changes",
    [
        {"time": NOW},
        {"event": "device-revoked"},
        {"subject": BOB},
        {"commitment": bytes(32)},
        {"hash": bytes(32)},
        {"salt": bytes(16)},
        {"subject": BOB, "salt": None},
        {"event": "device-registere", "subject": "d" + ADA},
    ],
)
async def test_a_changed_row_is_told(store: RelayStore, changes: dict[str, object]) -> None:
    rows = await fill(store.audit)
    rows[2] = replace(rows[2], **changes)  # type: ignore[arg-type]
    assert judged(rows).at == 3


async def test_rows_in_another_order_are_told(store: RelayStore) -> None:
    rows = await fill(store.audit)
    rows[1], rows[3] = rows[3], rows[1]
    assert judged(rows).fault
    swapped = replace(rows[1], number=2), replace(rows[3], number=4)
    assert judged([rows[0], swapped[0], rows[2], swapped[1], *rows[4:]]).at == 2


async def test_a_lost_end_is_told_by_a_checkpoint_alone(store: RelayStore) -> None:
    rows = await fill(store.audit)
    checkpoint = Place(6, rows[-1].hash)
    assert judged(rows[:4]).fault == ""
    assert "cut off" in judged(rows[:4], None, checkpoint).fault
    assert judged(rows, None, checkpoint).fault == ""


async def test_a_log_written_anew_is_told_by_a_checkpoint(store: RelayStore) -> None:
    rows = await fill(store.audit)
    forged, head = [], Place(0, START)
    for row in rows:
        forged.append(next_row(head, row.event, "account:eve", bytes(16), row.time))
        head = Place(forged[-1].number, forged[-1].hash)
    assert judged(forged).fault == "", "whoever can write can compute hashes, too"
    assert "checkpoint" in judged(forged, None, Place(4, rows[3].hash)).fault


async def test_an_erased_subject_is_gone_and_the_rest_verifies(store: RelayStore) -> None:
    rows = await fill(store.audit)
    assert await store.audit.erase(ADA) == 3
    kept = list(await store.audit.rows(limit=100))
    assert [row.subject for row in kept] == [None, BOB] * 3
    assert {row.salt for row in kept[::2]} == {None}
    assert judged(kept) == Verdict(6, 3, Place(6, rows[-1].hash))
    assert await store.audit.erase("account:a") == 0
    await store.audit.append("device-registered", f"{BOB} device", now=NOW)
    assert await store.audit.erase(BOB) == 4, "and what is a part of it"


async def test_trimming_leaves_a_log_that_verifies_and_says_where_it_begins(
    store: RelayStore,
) -> None:
    rows = await fill(store.audit)
    assert await store.audit.trim(NOW + 3 * DAY, now=NOW + 9 * DAY) == 3
    begin, kept = await store.audit.begin(), list(await store.audit.rows(limit=100))
    assert begin == Place(3, rows[2].hash)
    assert [row.number for row in kept] == [4, 5, 6, 7]
    assert (kept[-1].event, kept[-1].subject) == (TRIMMED, str(begin))
    whole = judged(kept, begin, begin, Place(6, rows[5].hash))
    assert whole == Verdict(4, 0, Place(7, kept[-1].hash))
    assert await store.audit.trim(NOW + 3 * DAY, now=NOW + 9 * DAY) == 0
    assert "older" in judged(kept, begin, Place(1, rows[0].hash)).fault
    # All of it, and on from there
    assert await store.audit.trim(NOW + 10 * DAY, now=NOW + 10 * DAY) == 4
    assert (await store.audit.append("account-made", ADA, now=NOW)).number == 9
    rest = list(await store.audit.rows(limit=100))
    assert judged(rest, await store.audit.begin()).fault == ""


async def test_a_beginning_that_somebody_removed_is_told(store: RelayStore) -> None:
    rows = await fill(store.audit)
    told = judged(rows[2:], Place(2, rows[1].hash))
    assert "beginning" in told.fault
    assert "missing" in judged(rows[2:]).fault


async def test_two_rows_at_once_follow_each_other(store: RelayStore) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(store.audit.append("account-made", f"account:{number}", now=NOW))
    rows = await store.audit.rows(limit=100)
    assert judged(rows).rows == 50


@pytest.mark.parametrize(
    "event, subject", [("", ADA), ("x" * 65, ADA), ("made", "ä" * MAX_SUBJECT_BYTES)]
)
async def test_what_is_too_long_is_refused(store: RelayStore, event: str, subject: str) -> None:
    with pytest.raises(ValueError):
        await store.audit.append(event, subject, now=NOW)
    assert judged(await store.audit.rows(limit=9)).rows == 0


async def test_it_survives_the_process_and_a_hand_in_the_file_is_told(tmp_path: Path) -> None:
    """With another program on the file itself, as somebody with access to the machine would."""
    store = await SqliteStore.open(tmp_path / "relay.db")
    await fill(store.audit)
    await store.close()
    with sqlite3.connect(tmp_path / "relay.db") as hand:
        hand.execute("UPDATE audit SET subject = 'account:eve' WHERE number = 3")
    hand.close()
    store = await SqliteStore.open(tmp_path / "relay.db")
    verdict = judged(await store.audit.rows(limit=100), await store.audit.begin())
    await store.close()
    assert verdict.fault == "the subject of row 3 was changed"
