"""Whose the rows of the directory are: who shares its room, and until when it keeps them.

The owner of key packages, hybrid keys and endpoint records is a device; of bundles and relay
statements an identity. See "Owners" in relay/store/rules.py. An owner's row is locked before rows
of theirs are deleted or added, so that the counts are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.refusals import relay_full
from relay.store.contract import SWEEP_ROWS, Quotas
from relay.store.postgres.connecting import Connection
from relay.store.rules import DIRECTORY_MEMORY_S, check_people, has_room
from schemas.ids import DeviceKey

# (table, whose, bytes of a row)
_DIRECTORY: Final = (
    ("key_packages", "device", "coalesce(octet_length(package), 0)"),
    ("kp_requests", "device", "coalesce(octet_length(answer), 0)"),
    ("hybrid_keys", "device", "octet_length(hybrid_key) + octet_length(signature)"),
    ("endpoints", "device", "octet_length(signed)"),
    ("bundles", "identity", "octet_length(signed)"),
    ("relay_statements", "identity", "octet_length(signed)"),
)
_KNOWN: Final = """
    SELECT EXISTS (SELECT FROM accounts WHERE identity = $1) AS has_account,
        EXISTS (SELECT FROM mailboxes WHERE recipient = $2 AND channel = '' AND known)
        OR EXISTS (SELECT FROM account_devices WHERE device = $2 AND revoked IS NULL)
        AS device_known
"""


async def keep(
    connection: Connection, owner: bytes, by: DeviceKey, added: int, quotas: Quotas, now: int
) -> dict[str, int]:
    """Before `added` bytes more are kept for `owner`, brought by the device `by`; how the counts
    change.

    Raises TryLater `relay-full`, Refused `too-many-people`.
    """
    before = await connection.fetchrow(
        "SELECT device, stranger FROM directory_owners WHERE owner = $1 FOR UPDATE", owner
    )
    has_account, device_known = await connection.fetchrow(_KNOWN, owner, bytes(by))
    if owner != by and not has_account and (before is None or before["device"] != by):
        check_people(
            await connection.fetchval(
                "SELECT count(*) FROM directory_owners WHERE device = $1 AND owner <> $1", bytes(by)
            )
        )
    was_stranger = before is not None and before["stranger"]
    stranger = not (has_account or device_known) and (before is None or was_stranger)
    moved = await _held(connection, owner) if was_stranger and not stranger else 0
    await _check(connection, added, quotas, stranger=stranger)
    await connection.execute(
        "INSERT INTO directory_owners (owner, device, renewed, stranger) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (owner) DO UPDATE SET device = excluded.device, renewed = excluded.renewed,"
        " stranger = excluded.stranger AND directory_owners.stranger",
        *(owner, bytes(by), now, stranger),
    )
    return {
        "directory_bytes": added,
        "strangers_directory_bytes": (added if stranger else 0) - moved,
    }


async def _check(connection: Connection, added: int, quotas: Quotas, *, stranger: bool) -> None:
    if added <= 0:
        return
    held, strangers = await connection.fetchrow(
        "SELECT sum(directory_bytes), sum(strangers_directory_bytes) FROM usage"
    )
    most = quotas.directory_bytes
    if not has_room(
        added, held=held, most=most, strangers=strangers, quotas=quotas, stranger=stranger
    ):
        raise relay_full()


async def _held(connection: Connection, owner: bytes) -> int:
    sums = " + ".join(
        f"(SELECT coalesce(sum({size}), 0) FROM {table} WHERE {column} = $1)"  # noqa: S608
        for table, column, size in _DIRECTORY
    )
    return int(await connection.fetchval(f"SELECT {sums}", owner))


async def is_stranger(connection: Connection, owner: bytes) -> bool:
    """Its row is locked."""
    return bool(
        await connection.fetchval(
            "SELECT stranger FROM directory_owners WHERE owner = $1 FOR UPDATE", owner
        )
    )


async def forget(connection: Connection, owners: Sequence[bytes]) -> dict[str, int]:
    """All that the directory has of them; how the counts change."""
    rows = await connection.fetch(
        "DELETE FROM directory_owners WHERE owner = ANY ($1::bytea[]) RETURNING owner, stranger",
        owners,
    )
    strangers = {row["owner"] for row in rows if row["stranger"]}
    total = of_strangers = 0
    for table, column, size in _DIRECTORY:
        gone = await connection.fetch(
            f"DELETE FROM {table} WHERE {column} = ANY ($1::bytea[])"  # noqa: S608
            f" RETURNING {column} AS owner, {size} AS size",
            owners,
        )
        total += sum(row["size"] for row in gone)
        of_strangers += sum(row["size"] for row in gone if row["owner"] in strangers)
    return {"directory_bytes": -total, "strangers_directory_bytes": -of_strangers}


async def sweep(connection: Connection, now: int) -> tuple[int, dict[str, int]]:
    """Forget strangers that nobody has renewed for DIRECTORY_MEMORY_S: (rows seen, counts)."""
    rows = await connection.fetch(
        "SELECT owner, device, stranger FROM directory_owners WHERE renewed <= $1"
        " ORDER BY owner LIMIT $2 FOR UPDATE SKIP LOCKED",
        now - DIRECTORY_MEMORY_S,
        SWEEP_ROWS,
    )
    gone: list[bytes] = []
    moved = 0
    for owner, device, stranger in rows:
        if not any(await connection.fetchrow(_KNOWN, owner, device)):
            gone.append(owner)
            continue
        if stranger:
            moved += await _held(connection, owner)
        await connection.execute(
            "UPDATE directory_owners SET renewed = $2, stranger = false WHERE owner = $1",
            *(owner, now),
        )
    changes = await forget(connection, gone)
    changes["strangers_directory_bytes"] -= moved
    return len(rows), changes
