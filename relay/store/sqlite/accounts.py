"""Accounts in the SQLite file: see relay/store/accounts.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import apsw

from relay.store.accounts import (
    ENTRIES,
    ENTRY_DEVICES,
    REVOKED_PER_ACCOUNT,
    SESSIONS_PER_ACCOUNT,
    Account,
    AccountCounts,
    AccountEntry,
    Invite,
    RegisteredDevice,
    Session,
    Standing,
    about_account,
    bad_invite,
    entries_of,
    event_of,
    no_account,
)
from relay.store.contract import SWEEP_ROWS
from relay.store.rules import check_account, check_device
from relay.store.sqlite import forgetting, invites
from relay.store.sqlite.audit import append, erase
from relay.store.sqlite.database import Database
from relay.store.sqlite.usage import Room
from schemas.ids import DeviceKey, IdentityKey

_HELD: Final = """
    SELECT EXISTS (SELECT 1 FROM accounts WHERE name = ?), EXISTS (SELECT 1 FROM accounts
        WHERE identity = ?), EXISTS (SELECT 1 FROM account_devices WHERE device = ?),
        (SELECT count(*) FROM accounts)
"""


class SqliteAccounts:
    """An AccountStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def server_setup(self, fresh: bytes) -> bytes:
        return await self._database.write(_server_setup, fresh)

    async def account(self, name: str) -> Account | None:
        return await self._database.read(_account, name)

    async def owner(self, name: str) -> IdentityKey | None:
        return await self._database.read(_owner, name)

    async def entries(self) -> list[AccountEntry]:
        return await self._database.read(_entries)

    async def register(
        self,
        account: Account,
        device: DeviceKey,
        device_name: str,
        *,
        invite: bytes | None,
        most: int,
        now: int,
    ) -> None:
        await self._database.write(_register, account, device, device_name, invite, most, now)

    async def standing(self, device: DeviceKey) -> Standing | None:
        return await self._database.read(_standing, device)

    async def registered(self, devices: Collection[DeviceKey]) -> set[DeviceKey]:
        return await self._database.read(_registered, devices)

    async def start_session(
        self, account: Account, device: DeviceKey, token: bytes, *, issued: int, expires: int
    ) -> bool:
        return await self._database.write(_start_session, account, device, token, issued, expires)

    async def session(self, device: DeviceKey) -> Session | None:
        return await self._database.read(_session, device)

    async def end_session(self, device: DeviceKey) -> None:
        await self._database.write(_end_session, device)

    async def add_device(
        self, identity: IdentityKey, device: DeviceKey, name: str, *, most: int, now: int
    ) -> None:
        await self._database.write(_add_device, identity, device, name, most, now)

    async def devices(self, identity: IdentityKey) -> list[RegisteredDevice]:
        return await self._database.read(_devices, identity)

    async def revoke_device(
        self, identity: IdentityKey, device: DeviceKey, *, now: int, by_operator: bool = False
    ) -> bool:
        event = event_of("device-revoked", by_operator=by_operator)
        return await self._database.write(
            _revoke, identity, device, self._database.room, now, event
        )

    async def delete(
        self, identity: IdentityKey, *, now: int, by_operator: bool = False
    ) -> Sequence[DeviceKey]:
        event = event_of("account-deleted", by_operator=by_operator)
        return await self._database.write(_delete, identity, self._database.room, now, event)

    async def make_invite(self, token: bytes, *, uses: int, expires: int, now: int) -> Invite:
        return await self._database.write(invites.make, token, uses, expires, now)

    async def invite_holds(self, token: bytes, *, now: int) -> bool:
        return await self._database.read(invites.holds, token, now)

    async def invites(self) -> list[Invite]:
        return await self._database.read(invites.all_of_them)

    async def revoke_invite(self, id: str, *, now: int) -> bool:
        return await self._database.write(invites.revoke, id, now)

    async def counts(self, *, now: int) -> AccountCounts:
        return await self._database.read(_counts, now)


def _server_setup(connection: apsw.Connection, fresh: bytes) -> bytes:
    connection.execute(
        "INSERT INTO relay_secrets (name, value) VALUES ('opaque-setup', ?)"
        " ON CONFLICT (name) DO NOTHING",
        (fresh,),
    )
    kept = connection.execute("SELECT value FROM relay_secrets WHERE name = 'opaque-setup'").get
    return bytes(kept)


def _account(connection: apsw.Connection, name: str) -> Account | None:
    row = connection.execute(
        "SELECT identity, record FROM accounts WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else Account(name, IdentityKey(row[0]), row[1])


def _owner(connection: apsw.Connection, name: str) -> IdentityKey | None:
    identity = connection.execute("SELECT identity FROM accounts WHERE name = ?", (name,)).get
    return None if identity is None else IdentityKey(identity)


def _entries(connection: apsw.Connection) -> list[AccountEntry]:
    devices = connection.execute(ENTRY_DEVICES).fetchall()
    return entries_of(connection.execute(ENTRIES), devices)


def _name(connection: apsw.Connection, identity: IdentityKey) -> str:
    name = connection.execute(
        "SELECT name FROM accounts WHERE identity = ?", (bytes(identity),)
    ).get
    if name is None:
        raise no_account()
    return str(name)


def _register(
    connection: apsw.Connection,
    account: Account,
    device: DeviceKey,
    device_name: str,
    invite: bytes | None,
    most: int,
    now: int,
) -> None:
    # A Fault does not undo what was written before it: every refusal comes first.
    identity = bytes(account.identity)
    held = connection.execute(_HELD, (account.name, identity, bytes(device))).get
    check_account(*held, most=most)
    if invite is not None and not invites.use(connection, invite, now):
        raise bad_invite()
    connection.execute(
        "INSERT INTO accounts (identity, name, record, made, invite) VALUES (?, ?, ?, ?, ?)",
        (identity, account.name, account.record, now, invite),
    )
    append(connection, "account-made", about_account(account.name), now)
    _put_device(connection, account.identity, device, device_name, now)


def _standing(connection: apsw.Connection, device: DeviceKey) -> Standing | None:
    row = connection.execute(
        "SELECT identity, revoked IS NOT NULL FROM account_devices WHERE device = ?",
        (bytes(device),),
    ).fetchone()
    return None if row is None else Standing(IdentityKey(row[0]), bool(row[1]))


def _registered(connection: apsw.Connection, devices: Collection[DeviceKey]) -> set[DeviceKey]:
    found = ((device, _standing(connection, device)) for device in devices)
    return {device for device, standing in found if standing and not standing.revoked}


# Sessions


def _start_session(
    connection: apsw.Connection,
    account: Account,
    device: DeviceKey,
    token: bytes,
    issued: int,
    expires: int,
) -> bool:
    identity = bytes(account.identity)
    connection.execute(
        "INSERT OR REPLACE INTO sessions (device, identity, token, issued, expires)"
        " SELECT ?, identity, ?, ?, ? FROM accounts WHERE identity = ? AND record = ?",
        (bytes(device), token, issued, expires, identity, account.record),
    )
    if not connection.changes():
        return False
    connection.execute(
        "DELETE FROM sessions WHERE identity = ?1 AND device != ?2 AND device NOT IN (SELECT device"
        " FROM sessions WHERE identity = ?1 AND device != ?2 ORDER BY issued DESC LIMIT ?3)",
        (identity, bytes(device), SESSIONS_PER_ACCOUNT - 1),
    )
    return True


def _session(connection: apsw.Connection, device: DeviceKey) -> Session | None:
    row = connection.execute(
        "SELECT name, identity, token, issued, expires FROM sessions JOIN accounts"
        " USING (identity) WHERE device = ?",
        (bytes(device),),
    ).fetchone()
    return None if row is None else Session(row[0], IdentityKey(row[1]), *row[2:])


def _end_session(connection: apsw.Connection, device: DeviceKey) -> None:
    connection.execute("DELETE FROM sessions WHERE device = ?", (bytes(device),))


# Devices


def _add_device(
    connection: apsw.Connection,
    identity: IdentityKey,
    device: DeviceKey,
    name: str,
    most: int,
    now: int,
) -> None:
    _name(connection, identity)
    standing, held = _standing(connection, device), len(_devices(connection, identity))
    if check_device(standing, identity, held, most):
        _put_device(connection, identity, device, name, now)
    else:
        connection.execute(
            "UPDATE account_devices SET name = ? WHERE device = ?", (name, bytes(device))
        )


def _put_device(
    connection: apsw.Connection, identity: IdentityKey, device: DeviceKey, name: str, now: int
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO account_devices (device, identity, name, registered)"
        " VALUES (?, ?, ?, ?)",
        (bytes(device), bytes(identity), name, now),
    )
    append(connection, "device-registered", about_account(_name(connection, identity), device), now)


def _devices(connection: apsw.Connection, identity: IdentityKey) -> list[RegisteredDevice]:
    rows = connection.execute(
        "SELECT device, name, registered FROM account_devices"
        " WHERE identity = ? AND revoked IS NULL ORDER BY registered, device",
        (bytes(identity),),
    )
    return [RegisteredDevice(DeviceKey(row[0]), *row[1:]) for row in rows]


def _revoke(
    connection: apsw.Connection,
    identity: IdentityKey,
    device: DeviceKey,
    room: Room,
    now: int,
    event: str,
) -> bool:
    if _standing(connection, device) != Standing(identity, revoked=False):
        return False
    connection.execute(
        "UPDATE account_devices SET revoked = ? WHERE device = ?", (now, bytes(device))
    )
    connection.execute(
        "DELETE FROM account_devices WHERE identity = ?1 AND revoked IS NOT NULL AND device NOT IN"
        " (SELECT device FROM account_devices WHERE identity = ?1 AND revoked IS NOT NULL"
        "  ORDER BY revoked DESC LIMIT ?2)",
        (bytes(identity), REVOKED_PER_ACCOUNT),
    )
    _end_session(connection, device)
    forgetting.forget_device(connection, device, room)
    append(connection, event, about_account(_name(connection, identity), device), now)
    return True


def _delete(
    connection: apsw.Connection, identity: IdentityKey, room: Room, now: int, event: str
) -> Sequence[DeviceKey]:
    name = _name(connection, identity)
    rows = connection.execute(
        "SELECT device FROM account_devices WHERE identity = ?", (bytes(identity),)
    )
    devices = [DeviceKey(row[0]) for row in rows]
    for device in devices:
        forgetting.forget_device(connection, device, room)
    forgetting.forget_identity(connection, identity, room)
    connection.execute("DELETE FROM accounts WHERE identity = ?", (bytes(identity),))
    append(connection, event, about_account(name), now)
    erase(connection, about_account(name))
    return devices


# Counts and expiry


def _counts(connection: apsw.Connection, now: int) -> AccountCounts:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM accounts),"
        " (SELECT count(*) FROM account_devices WHERE revoked IS NULL),"
        " (SELECT count(*) FROM sessions WHERE expires > ?1),"
        " (SELECT count(*) FROM invites WHERE expires > ?1 AND used < uses)",
        (now,),
    ).get
    return AccountCounts(*row)


def sweep(connection: apsw.Connection, now: int) -> int:
    """Sessions and invites that have expired."""
    connection.execute(
        "DELETE FROM sessions WHERE device IN"
        " (SELECT device FROM sessions WHERE expires <= ? LIMIT ?)",
        (now, SWEEP_ROWS),
    )
    return connection.changes() + invites.sweep(connection, now)
