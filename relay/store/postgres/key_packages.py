"""KeyPackages: stocked per suite, consumed exactly once by whichever process, with a last resort.

What changes a device's stock has the device's lock until it commits: so the oldest goes first, the
quota is exact, and a request that comes to two processes at once has one answer.
"""

from __future__ import annotations

import hashlib
from typing import Final

from relay.store.contract import (
    LAST_RESORT_REQUESTS,
    REQUEST_MEMORY_S,
    SWEEP_ROWS,
    TAKEN_MEMORY_S,
    KeyPackageAnswer,
    Quotas,
)
from relay.store.postgres import directory_owners, usage
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import lock
from relay.store.rules import check_stock, check_suites, key_package_used
from schemas.ids import DeviceKey

_LOCK: Final = b"key packages"
_IN_STOCK: Final = "device = $1 AND NOT last_resort AND package IS NOT NULL"


async def put(
    connection: Connection,
    device: DeviceKey,
    suite: int,
    package: bytes,
    last_resort: bool,
    quotas: Quotas,
    now: int,
) -> int:
    key = bytes(device)
    await lock(connection, _LOCK, key)
    fingerprint = hashlib.sha256(package).digest()
    used = await connection.fetchval(
        "SELECT package IS NULL FROM key_packages WHERE device = $1 AND fingerprint = $2",
        key,
        fingerprint,
    )
    if used:
        raise key_package_used()
    if used is None:
        await _check(connection, key, suite, quotas, last_resort=last_resort)
    added = len(package) if used is None else 0
    changes = await directory_owners.keep(connection, key, device, added, quotas, now)
    if used is None:
        if last_resort:
            dropped = await _drop_last_resort(connection, key, suite)
            changes["directory_bytes"] -= dropped
            if await directory_owners.is_stranger(connection, key):
                changes["strangers_directory_bytes"] -= dropped
        await connection.execute(
            "INSERT INTO key_packages (device, suite, fingerprint, last_resort, package)"
            " VALUES ($1, $2, $3, $4, $5)",
            *(key, suite, fingerprint, last_resort, package),
        )
    stock: int = await connection.fetchval(
        f"SELECT count(*) FROM key_packages WHERE {_IN_STOCK} AND suite = $2",  # noqa: S608
        key,
        suite,
    )
    await usage.add(connection, **changes)
    return stock


async def _check(
    connection: Connection, key: bytes, suite: int, quotas: Quotas, *, last_resort: bool
) -> None:
    if last_resort:
        check_suites(
            await connection.fetchval(
                "SELECT count(*) FROM key_packages WHERE device = $1 AND last_resort"
                " AND suite <> $2",
                key,
                suite,
            )
        )
    else:
        check_stock(
            await connection.fetchval(
                f"SELECT count(*) FROM key_packages WHERE {_IN_STOCK}",  # noqa: S608
                key,
            ),
            quotas,
        )


async def _drop_last_resort(connection: Connection, key: bytes, suite: int) -> int:
    """The bytes that it took."""
    gone = await connection.fetchval(
        "DELETE FROM key_packages WHERE device = $1 AND suite = $2 AND last_resort"
        " RETURNING coalesce(octet_length(package), 0)",
        key,
        suite,
    )
    return gone or 0


async def take(
    connection: Connection, device: DeviceKey, suite: int, request: bytes, now: int
) -> KeyPackageAnswer | None:
    key = bytes(device)
    await lock(connection, _LOCK, key)
    before = await connection.fetchrow(
        "SELECT answer FROM kp_requests"
        " WHERE device = $1 AND suite = $2 AND request = $3 AND until > $4",
        *(key, suite, request, now),
    )
    if before is not None and before["answer"] is not None:
        return KeyPackageAnswer(before["answer"], last_resort=False)
    if before is None:
        package = await _consume_oldest(connection, key, suite, now)
        if package is not None:
            await _remember(connection, key, suite, request, package, now)
            return KeyPackageAnswer(package, last_resort=False)
    last_resort = await connection.fetchval(
        "SELECT package FROM key_packages"
        " WHERE device = $1 AND suite = $2 AND last_resort AND package IS NOT NULL",
        key,
        suite,
    )
    if last_resort is None:
        return None
    if before is None and await _remembered(connection, key) < LAST_RESORT_REQUESTS:
        await _remember(connection, key, suite, request, None, now)
    return KeyPackageAnswer(last_resort, last_resort=True)


async def _consume_oldest(connection: Connection, key: bytes, suite: int, now: int) -> bytes | None:
    row = await connection.fetchrow(
        f"SELECT id, package FROM key_packages WHERE {_IN_STOCK}"  # noqa: S608 - our own text
        " AND suite = $2 ORDER BY id LIMIT 1",
        key,
        suite,
    )
    if row is None:
        return None
    await connection.execute(
        "UPDATE key_packages SET package = NULL, taken = $2 WHERE id = $1", row["id"], now
    )
    return bytes(row["package"])


async def _remember(
    connection: Connection, key: bytes, suite: int, request: bytes, answer: bytes | None, now: int
) -> None:
    """The answer's bytes were the stock's: the directory holds as many as before."""
    await connection.execute(
        "INSERT INTO kp_requests (device, suite, request, answer, until)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (device, suite, request)"
        " DO UPDATE SET answer = excluded.answer, until = excluded.until",
        *(key, suite, request, answer, now + REQUEST_MEMORY_S),
    )


async def _remembered(connection: Connection, key: bytes) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM kp_requests WHERE device = $1", key
    )
    return count


async def sweep(connection: Connection, now: int) -> int:
    answers = await connection.fetch(
        "DELETE FROM kp_requests r USING (SELECT k.device, k.suite, k.request, o.stranger"
        "  FROM kp_requests k JOIN directory_owners o ON o.owner = k.device"
        "  WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS old"
        " WHERE (r.device, r.suite, r.request) = (old.device, old.suite, old.request)"
        " RETURNING coalesce(octet_length(r.answer), 0) AS size, old.stranger",
        now,
        SWEEP_ROWS,
    )
    taken = await connection.fetch(
        "DELETE FROM key_packages WHERE id IN (SELECT id FROM key_packages"
        " WHERE taken <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id",
        now - TAKEN_MEMORY_S,
        SWEEP_ROWS,
    )
    await usage.add(
        connection,
        directory_bytes=-sum(row["size"] for row in answers),
        strangers_directory_bytes=-sum(row["size"] for row in answers if row["stranger"]),
    )
    return len(answers) + len(taken)
