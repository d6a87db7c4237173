"""Tables of the directory that keep one signed record of each owner, the one of highest number."""

from __future__ import annotations

from relay.store.contract import Quotas
from relay.store.postgres import directory_owners, usage
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from relay.store.rules import check_newer
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed


class SignedRecords:
    def __init__(
        self, table: str, *, owner: str, number: str, others: tuple[str, ...] = ()
    ) -> None:
        """`owner`, `number` and `others` name columns; the record is in `signed`."""
        columns = (owner, number, "signed", *others)
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
        self._name = table.encode()
        self._held = f"SELECT {number}, signed FROM {table} WHERE {owner} = $1"  # noqa: S608
        self._put = (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608
            f" ON CONFLICT ({owner}) DO UPDATE SET {changes}"
        )

    async def put(
        self,
        connection: Connection,
        owner: DeviceKey | IdentityKey,
        number: int,
        record: Signed,
        by: DeviceKey,
        quotas: Quotas,
        now: int,
        *others: int,
    ) -> None:
        """The device `by` brings it. The same again renews how long its owner is remembered.

        Raises Refused `stale`, `too-many-people`; TryLater `relay-full`.
        """
        key, data = bytes(owner), record.encode()
        await lock(connection, self._name, key)
        held = await connection.fetchrow(self._held, key)
        newer = check_newer(None if held is None else tuple(held), number, data)
        added = len(data) - (0 if held is None else len(held["signed"]))
        changes = await directory_owners.keep(connection, key, by, added, quotas, now)
        if newer:
            await connection.execute(self._put, key, number, data, *others)
        await usage.add(connection, **changes)

    async def get(self, database: Database, owner: DeviceKey | IdentityKey) -> Signed | None:
        rows = await database.fetch(self._held, bytes(owner))
        return Signed.decode(rows[0]["signed"]) if rows else None
