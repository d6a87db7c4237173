"""Accounts in PostgreSQL: see relay/store/accounts.py.

What changes who has an account, or a device, has one lock until it commits: such changes are rare,
and so a name, an identity, a device and an invite go to one of any number of processes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

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
from relay.store.postgres import forgetting, invites
from relay.store.postgres.audit import append, erase
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from relay.store.rules import check_account, check_device
from schemas.ids import DeviceKey, IdentityKey

_LOCK: Final = b"accounts"
_HELD: Final = """
    SELECT EXISTS (SELECT FROM accounts WHERE name = $1), EXISTS (SELECT FROM accounts
        WHERE identity = $2), EXISTS (SELECT FROM account_devices WHERE device = $3),
        (SELECT count(*) FROM accounts)
"""


class PostgresAccounts:
    """An AccountStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def server_setup(self, fresh: bytes) -> bytes:
        return await self._database.write(_server_setup, fresh)

    async def account(self, name: str) -> Account | None:
        rows = await self._database.fetch(
            "SELECT identity, record FROM accounts WHERE name = $1", name
        )
        return Account(name, IdentityKey(rows[0][0]), rows[0][1]) if rows else None

    async def owner(self, name: str) -> IdentityKey | None:
        rows = await self._database.fetch("SELECT identity FROM accounts WHERE name = $1", name)
        return IdentityKey(rows[0][0]) if rows else None

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
        rows = await self._database.fetch(
            "SELECT device FROM account_devices WHERE device = ANY ($1::bytea[])"
            " AND revoked IS NULL",
            [bytes(device) for device in devices],
        )
        return {DeviceKey(row[0]) for row in rows}

    async def start_session(
        self, account: Account, device: DeviceKey, token: bytes, *, issued: int, expires: int
    ) -> bool:
        return await self._database.write(_start_session, account, device, token, issued, expires)

    async def session(self, device: DeviceKey) -> Session | None:
        rows = await self._database.fetch(
            "SELECT name, identity, token, issued, expires FROM sessions JOIN accounts"
            " USING (identity) WHERE device = $1",
            bytes(device),
        )
        if not rows:
            return None
        name, identity, *rest = rows[0]
        return Session(name, IdentityKey(identity), *rest)

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
        return await self._database.write(_revoke, identity, device, now, event)

    async def delete(
        self, identity: IdentityKey, *, now: int, by_operator: bool = False
    ) -> Sequence[DeviceKey]:
        event = event_of("account-deleted", by_operator=by_operator)
        return await self._database.write(_delete, identity, now, event)

    async def make_invite(self, token: bytes, *, uses: int, expires: int, now: int) -> Invite:
        return await self._database.write(invites.make, token, uses, expires, now)

    async def invite_holds(self, token: bytes, *, now: int) -> bool:
        return await self._database.read(invites.holds, token, now)

    async def invites(self) -> list[Invite]:
        return await self._database.read(invites.all_of_them)

    async def revoke_invite(self, id: str, *, now: int) -> bool:
        return await self._database.write(invites.revoke, id, now)

    async def counts(self, *, now: int) -> AccountCounts:
        [row] = await self._database.fetch(
            "SELECT (SELECT count(*) FROM accounts),"
            " (SELECT count(*) FROM account_devices WHERE revoked IS NULL),"
            " (SELECT count(*) FROM sessions WHERE expires > $1),"
            " (SELECT count(*) FROM invites WHERE expires > $1 AND used < uses)",
            now,
        )
        return AccountCounts(*row)


async def _server_setup(connection: Connection, fresh: bytes) -> bytes:
    await connection.execute(
        "INSERT INTO relay_secrets (name, value) VALUES ('opaque-setup', $1)"
        " ON CONFLICT (name) DO NOTHING",
        fresh,
    )
    kept: bytes = await connection.fetchval(
        "SELECT value FROM relay_secrets WHERE name = 'opaque-setup'"
    )
    return kept


async def _entries(connection: Connection) -> list[AccountEntry]:
    devices = await connection.fetch(ENTRY_DEVICES)
    return entries_of(await connection.fetch(ENTRIES), devices)


async def _name(connection: Connection, identity: IdentityKey) -> str:
    name: str | None = await connection.fetchval(
        "SELECT name FROM accounts WHERE identity = $1", bytes(identity)
    )
    if name is None:
        raise no_account()
    return name


async def _register(
    connection: Connection,
    account: Account,
    device: DeviceKey,
    device_name: str,
    invite: bytes | None,
    most: int,
    now: int,
) -> None:
    await lock(connection, _LOCK)
    # A Fault does not undo what was written before it: every refusal comes first.
    identity = bytes(account.identity)
    held = await connection.fetchrow(_HELD, account.name, identity, bytes(device))
    check_account(*held, most=most)
    if invite is not None and not await invites.use(connection, invite, now):
        raise bad_invite()
    await connection.execute(
        "INSERT INTO accounts (identity, name, record, made, invite) VALUES ($1, $2, $3, $4, $5)",
        *(identity, account.name, account.record, now, invite),
    )
    await append(connection, "account-made", about_account(account.name), now)
    await _put_device(connection, account.identity, device, device_name, now)


async def _standing(connection: Connection, device: DeviceKey) -> Standing | None:
    row = await connection.fetchrow(
        "SELECT identity, revoked IS NOT NULL FROM account_devices WHERE device = $1",
        bytes(device),
    )
    return None if row is None else Standing(IdentityKey(row[0]), row[1])


# Sessions


async def _start_session(
    connection: Connection,
    account: Account,
    device: DeviceKey,
    token: bytes,
    issued: int,
    expires: int,
) -> bool:
    identity = bytes(account.identity)
    # FOR UPDATE: logins of one account one after the other, and none while it is deleted.
    there = await connection.fetchval(
        "SELECT 1 FROM accounts WHERE identity = $1 AND record = $2 FOR UPDATE",
        identity,
        account.record,
    )
    if there is None:
        return False
    await connection.execute(
        "INSERT INTO sessions (device, identity, token, issued, expires)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (device) DO UPDATE SET"
        " identity = excluded.identity, token = excluded.token, issued = excluded.issued,"
        " expires = excluded.expires",
        *(bytes(device), identity, token, issued, expires),
    )
    await connection.execute(
        "DELETE FROM sessions WHERE identity = $1 AND device <> $2 AND device NOT IN (SELECT device"
        " FROM sessions WHERE identity = $1 AND device <> $2 ORDER BY issued DESC LIMIT $3)",
        *(identity, bytes(device), SESSIONS_PER_ACCOUNT - 1),
    )
    return True


async def _end_session(connection: Connection, device: DeviceKey) -> None:
    await connection.execute("DELETE FROM sessions WHERE device = $1", bytes(device))


# Devices


async def _add_device(
    connection: Connection,
    identity: IdentityKey,
    device: DeviceKey,
    name: str,
    most: int,
    now: int,
) -> None:
    await lock(connection, _LOCK)
    await _name(connection, identity)
    standing, held = await _standing(connection, device), await _devices(connection, identity)
    if check_device(standing, identity, len(held), most):
        await _put_device(connection, identity, device, name, now)
    else:
        await connection.execute(
            "UPDATE account_devices SET name = $1 WHERE device = $2", name, bytes(device)
        )


async def _put_device(
    connection: Connection, identity: IdentityKey, device: DeviceKey, name: str, now: int
) -> None:
    await connection.execute(
        "INSERT INTO account_devices (device, identity, name, registered) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (device) DO UPDATE SET name = excluded.name,"
        " registered = excluded.registered, revoked = NULL",
        *(bytes(device), bytes(identity), name, now),
    )
    about = about_account(await _name(connection, identity), device)
    await append(connection, "device-registered", about, now)


async def _devices(connection: Connection, identity: IdentityKey) -> list[RegisteredDevice]:
    rows = await connection.fetch(
        "SELECT device, name, registered FROM account_devices"
        " WHERE identity = $1 AND revoked IS NULL ORDER BY registered, device",
        bytes(identity),
    )
    return [RegisteredDevice(DeviceKey(row[0]), row[1], row[2]) for row in rows]


async def _revoke(
    connection: Connection, identity: IdentityKey, device: DeviceKey, now: int, event: str
) -> bool:
    await lock(connection, _LOCK)
    if await _standing(connection, device) != Standing(identity, revoked=False):
        return False
    await connection.execute(
        "UPDATE account_devices SET revoked = $1 WHERE device = $2", now, bytes(device)
    )
    await connection.execute(
        "DELETE FROM account_devices WHERE identity = $1 AND revoked IS NOT NULL AND device NOT IN"
        " (SELECT device FROM account_devices WHERE identity = $1 AND revoked IS NOT NULL"
        "  ORDER BY revoked DESC LIMIT $2)",
        *(bytes(identity), REVOKED_PER_ACCOUNT),
    )
    await _end_session(connection, device)
    about = about_account(await _name(connection, identity), device)
    await append(connection, event, about, now)
    await forgetting.forget(connection, [device])
    return True


async def _delete(
    connection: Connection, identity: IdentityKey, now: int, event: str
) -> Sequence[DeviceKey]:
    await lock(connection, _LOCK)
    name = await _name(connection, identity)
    rows = await connection.fetch(
        "SELECT device FROM account_devices WHERE identity = $1", bytes(identity)
    )
    devices = [DeviceKey(row[0]) for row in rows]
    await connection.execute("DELETE FROM accounts WHERE identity = $1", bytes(identity))
    await append(connection, event, about_account(name), now)
    await erase(connection, about_account(name))
    await forgetting.forget(connection, devices, identity)
    return devices


async def sweep(connection: Connection, now: int) -> int:
    """Sessions and invites that have expired."""
    ended = await connection.fetch(
        "DELETE FROM sessions WHERE device IN (SELECT device FROM sessions"
        " WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        now,
        SWEEP_ROWS,
    )
    return len(ended) + await invites.sweep(connection, now)
