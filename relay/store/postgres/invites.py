"""Invites in PostgreSQL: see AccountStore in relay/store/accounts.py."""

from __future__ import annotations

from relay.store.accounts import (
    EXPIRED_INVITE_S,
    INVITE_ID,
    Invite,
    about_invite,
    invite_id,
)
from relay.store.contract import SWEEP_ROWS
from relay.store.postgres.audit import append
from relay.store.postgres.connecting import Connection


async def make(connection: Connection, token: bytes, uses: int, expires: int, now: int) -> Invite:
    await connection.execute(
        "INSERT INTO invites (token, uses, made, expires) VALUES ($1, $2, $3, $4)",
        *(token, uses, now, expires),
    )
    await append(connection, "invite-made", about_invite(token), now)
    return Invite(invite_id(token), uses, 0, now, expires, ())


async def holds(connection: Connection, token: bytes, now: int) -> bool:
    found = await connection.fetchval(
        "SELECT 1 FROM invites WHERE token = $1 AND used < uses AND expires > $2", token, now
    )
    return found is not None


async def use(connection: Connection, token: bytes, now: int) -> bool:
    """Take one of its uses, if it holds."""
    used = await connection.fetchval(
        "UPDATE invites SET used = used + 1 WHERE token = $1 AND used < uses AND expires > $2"
        " RETURNING 1",
        token,
        now,
    )
    return used is not None


async def all_of_them(connection: Connection) -> list[Invite]:
    rows = await connection.fetch(
        "SELECT token, uses, used, made, expires, ARRAY(SELECT name FROM accounts"
        "  WHERE invite = token ORDER BY accounts.made) AS names"
        " FROM invites ORDER BY made DESC, token"
    )
    return [
        Invite(invite_id(token), uses, used, made, expires, tuple(names))
        for token, uses, used, made, expires, names in rows
    ]


async def revoke(connection: Connection, id: str, now: int) -> bool:
    token = await connection.fetchval(
        "DELETE FROM invites WHERE token = (SELECT token FROM invites"
        " WHERE left(encode(token, 'hex'), $1) = $2 LIMIT 1) RETURNING token",
        INVITE_ID,
        id,
    )
    if token is None:
        return False
    await append(connection, "invite-revoked", about_invite(token), now)
    return True


async def sweep(connection: Connection, now: int) -> int:
    gone = await connection.fetch(
        "DELETE FROM invites WHERE token IN (SELECT token FROM invites"
        " WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        now - EXPIRED_INVITE_S,
        SWEEP_ROWS,
    )
    return len(gone)
