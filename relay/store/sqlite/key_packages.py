"""KeyPackages: stocked per suite, consumed exactly once, with a last resort."""

from __future__ import annotations

import hashlib

import apsw

from relay.store.contract import (
    LAST_RESORT_REQUESTS,
    REQUEST_MEMORY_S,
    SWEEP_ROWS,
    TAKEN_MEMORY_S,
    KeyPackageAnswer,
    Quotas,
)
from relay.store.rules import check_stock, check_suites, key_package_used
from relay.store.sqlite import directory_owners
from relay.store.sqlite.usage import Room, total
from schemas.ids import DeviceKey

_IN_STOCK = "device = ? AND last_resort = 0 AND package IS NOT NULL"


def put(
    connection: apsw.Connection,
    device: DeviceKey,
    suite: int,
    package: bytes,
    room: Room,
    now: int,
    *,
    last_resort: bool,
) -> int:
    fingerprint = hashlib.sha256(package).digest()
    known = connection.execute(
        "SELECT package IS NULL FROM key_packages WHERE device = ? AND fingerprint = ?",
        (bytes(device), fingerprint),
    ).fetchone()
    if known is None:
        if last_resort:
            _check_suites(connection, device, suite)
        else:
            _check_room(connection, device, room.quotas)
        directory_owners.keep(connection, bytes(device), device, len(package), room, now)
        if last_resort:
            _drop_last_resort(connection, device, suite, room)
        connection.execute(
            "INSERT INTO key_packages (device, suite, fingerprint, last_resort, package)"
            " VALUES (?, ?, ?, ?, ?)",
            (bytes(device), suite, fingerprint, last_resort, package),
        )
    elif known[0]:
        raise key_package_used()
    else:
        directory_owners.keep(connection, bytes(device), device, 0, room, now)
    return _stock(connection, device, suite)


def _check_room(connection: apsw.Connection, device: DeviceKey, quotas: Quotas) -> None:
    held = connection.execute(
        f"SELECT count(*) FROM key_packages WHERE {_IN_STOCK}",  # noqa: S608 - our own text
        (bytes(device),),
    ).get
    check_stock(held, quotas)


def _check_suites(connection: apsw.Connection, device: DeviceKey, suite: int) -> None:
    suites = connection.execute(
        "SELECT count(*) FROM key_packages WHERE device = ? AND last_resort = 1 AND suite != ?",
        (bytes(device), suite),
    ).get
    check_suites(suites)


def _drop_last_resort(
    connection: apsw.Connection, device: DeviceKey, suite: int, room: Room
) -> None:
    gone = connection.execute(
        "DELETE FROM key_packages WHERE device = ? AND suite = ? AND last_resort = 1"
        " RETURNING ifnull(length(package), 0)",
        (bytes(device), suite),
    ).fetchall()
    directory_owners.freed(connection, bytes(device), total(gone), room)


def _stock(connection: apsw.Connection, device: DeviceKey, suite: int) -> int:
    count = connection.execute(
        f"SELECT count(*) FROM key_packages WHERE {_IN_STOCK} AND suite = ?",  # noqa: S608
        (bytes(device), suite),
    ).get
    return int(count)


def take(
    connection: apsw.Connection, device: DeviceKey, suite: int, request: bytes, now: int
) -> KeyPackageAnswer | None:
    before = connection.execute(
        "SELECT answer FROM kp_requests"
        " WHERE device = ? AND suite = ? AND request = ? AND until > ?",
        (bytes(device), suite, request, now),
    ).fetchone()
    if before is not None and before[0] is not None:
        return KeyPackageAnswer(before[0], False)
    if before is None:
        package = _consume_oldest(connection, device, suite, now)
        if package is not None:
            _remember(connection, device, suite, request, package, now)
            return KeyPackageAnswer(package, False)
    last_resort = connection.execute(
        "SELECT package FROM key_packages"
        " WHERE device = ? AND suite = ? AND last_resort = 1 AND package IS NOT NULL",
        (bytes(device), suite),
    ).get
    if last_resort is None:
        return None
    if before is None and _remembered(connection, device) < LAST_RESORT_REQUESTS:
        _remember(connection, device, suite, request, None, now)
    return KeyPackageAnswer(last_resort, True)


def _consume_oldest(
    connection: apsw.Connection, device: DeviceKey, suite: int, now: int
) -> bytes | None:
    row = connection.execute(
        f"SELECT id, package FROM key_packages WHERE {_IN_STOCK}"  # noqa: S608 - our own text
        " AND suite = ? ORDER BY id LIMIT 1",
        (bytes(device), suite),
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "UPDATE key_packages SET package = NULL, taken = ? WHERE id = ?", (now, row[0])
    )
    return bytes(row[1])


def _remember(
    connection: apsw.Connection,
    device: DeviceKey,
    suite: int,
    request: bytes,
    answer: bytes | None,
    now: int,
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO kp_requests (request, device, suite, answer, until)"
        " VALUES (?, ?, ?, ?, ?)",
        (request, bytes(device), suite, answer, now + REQUEST_MEMORY_S),
    )


def _remembered(connection: apsw.Connection, device: DeviceKey) -> int:
    count = connection.execute(
        "SELECT count(*) FROM kp_requests WHERE device = ?", (bytes(device),)
    ).get
    return int(count)


def sweep(connection: apsw.Connection, room: Room, now: int) -> int:
    answers = connection.execute(
        "DELETE FROM kp_requests WHERE rowid IN"
        " (SELECT rowid FROM kp_requests WHERE until <= ? LIMIT ?)"
        " RETURNING device, ifnull(length(answer), 0)",
        (now, SWEEP_ROWS),
    ).fetchall()
    directory_owners.freed_each(connection, answers, room)
    connection.execute(
        "DELETE FROM key_packages WHERE id IN"
        " (SELECT id FROM key_packages WHERE taken <= ? LIMIT ?)",
        (now - TAKEN_MEMORY_S, SWEEP_ROWS),
    )
    return len(answers) + connection.changes()
