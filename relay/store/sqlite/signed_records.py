"""Tables of the directory that keep one signed record of each owner, the one of highest number."""

from __future__ import annotations

import apsw

from relay.store.rules import check_newer
from relay.store.sqlite import directory_owners
from relay.store.sqlite.usage import Room
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed


class SignedRecords:
    def __init__(
        self, table: str, *, owner: str, number: str, others: tuple[str, ...] = ()
    ) -> None:
        """`owner`, `number` and `others` name columns; the record is in `signed`."""
        columns = (owner, number, "signed", *others)
        places = ", ".join("?" for _ in columns)
        self._held = f"SELECT {number}, signed FROM {table} WHERE {owner} = ?"  # noqa: S608
        self._put = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608

    def put(
        self,
        connection: apsw.Connection,
        owner: DeviceKey | IdentityKey,
        number: int,
        record: Signed,
        by: DeviceKey,
        room: Room,
        now: int,
        *others: int,
    ) -> None:
        """The device `by` brings it. The same again renews how long its owner is remembered.

        Raises Refused `stale`, `too-many-people`; TryLater `relay-full`.
        """
        key, data = bytes(owner), record.encode()
        held = connection.execute(self._held, (key,)).fetchone()
        newer = check_newer(held, number, data)
        added = len(data) - (0 if held is None else len(held[1]))
        directory_owners.keep(connection, key, by, added, room, now)
        if newer:
            connection.execute(self._put, (key, number, data, *others))

    def get(self, connection: apsw.Connection, owner: DeviceKey | IdentityKey) -> Signed | None:
        held = connection.execute(self._held, (bytes(owner),)).fetchone()
        return None if held is None else Signed.decode(held[1])
