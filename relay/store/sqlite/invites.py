"""Invites in the SQLite file: see AccountStore in relay/store/accounts.py."""

from __future__ import annotations

from typing import Any

import apsw

from relay.store.accounts import EXPIRED_INVITE_S, INVITE_ID, Invite, about_invite, invite_id
from relay.store.contract import SWEEP_ROWS
from relay.store.sqlite.audit import append


def make(connection: apsw.Connection, token: bytes, uses: int, expires: int, now: int) -> Invite:
    connection.execute(
        "INSERT INTO invites (token, uses, made, expires) VALUES (?, ?, ?, ?)",
        (token, uses, now, expires),
    )
    append(connection, "invite-made", about_invite(token), now)
    return Invite(invite_id(token), uses, 0, now, expires, ())


def holds(connection: apsw.Connection, token: bytes, now: int) -> bool:
    found = connection.execute(
        "SELECT 1 FROM invites WHERE token = ? AND used < uses AND expires > ?",
        (token, now),
    ).get
    return found is not None


def use(connection: apsw.Connection, token: bytes, now: int) -> bool:
    """Take one of its uses, if it holds."""
    if not holds(connection, token, now):
        return False
    connection.execute("UPDATE invites SET used = used + 1 WHERE token = ?", (token,))
    return True


def all_of_them(connection: apsw.Connection) -> list[Invite]:
    rows: list[Any] = connection.execute(
        "SELECT token, uses, used, made, expires FROM invites ORDER BY made DESC, token"
    ).fetchall()
    return [
        Invite(invite_id(token), uses, used, made, expires, _names(connection, token))
        for token, uses, used, made, expires in rows
    ]


def _names(connection: apsw.Connection, token: bytes) -> tuple[str, ...]:
    rows = connection.execute("SELECT name FROM accounts WHERE invite = ? ORDER BY made", (token,))
    return tuple(str(row[0]) for row in rows)


def revoke(connection: apsw.Connection, id: str, now: int) -> bool:
    token = connection.execute(
        "SELECT token FROM invites WHERE substr(lower(hex(token)), 1, ?) = ?", (INVITE_ID, id)
    ).get
    if token is None:
        return False
    connection.execute("DELETE FROM invites WHERE token = ?", (token,))
    append(connection, "invite-revoked", about_invite(token), now)
    return True


def sweep(connection: apsw.Connection, now: int) -> int:
    connection.execute(
        "DELETE FROM invites WHERE token IN (SELECT token FROM invites WHERE expires <= ? LIMIT ?)",
        (now - EXPIRED_INVITE_S, SWEEP_ROWS),
    )
    return connection.changes()
