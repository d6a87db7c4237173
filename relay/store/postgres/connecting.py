"""A connection as this store needs it: durable, bounded in time, and to the database it was."""

from __future__ import annotations

import logging
from typing import Any, Final, TypeAlias

import asyncpg

from relay.store.postgres.failures import blaming_the_server
from relay.store.postgres.url import FORM, server_of
from schemas.errors import Blame, Fault

log = logging.getLogger(__name__)

Connection: TypeAlias = Any  # asyncpg has no types

OLDEST: Final = 140000  # PostgreSQL 14; what nobody tries is not promised
CONNECT_S: Final = 5.0
COMMAND_S: Final = 40.0  # a network that swallows everything; the server's own limit comes first
_SESSION: Final = {
    "application_name": "quicnprotochat-relay",
    "synchronous_commit": "on",
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    # Of a server that is gone without a word; its locks are ours to wait for.
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "jit": "off",  # compiles for longer than such statements run
}
CONNECT_OPTIONS: Final[dict[str, Any]] = {
    "timeout": CONNECT_S,
    "command_timeout": COMMAND_S,
    "server_settings": _SESSION,
}


async def connect(url: str) -> Connection:
    """A checked connection of one's own. Raises as `blaming_the_server`, and `check_durable`."""
    with blaming_the_server(server_of(url)):
        try:
            connection = await asyncpg.connect(url, **CONNECT_OPTIONS)
        except ValueError:  # what asyncpg says of it can hold all of it
            raise _bad_url() from None
        try:
            await check_durable(connection)
        except BaseException:
            connection.terminate()
            raise
    return connection


def _bad_url() -> Fault:
    return Fault(
        "bad-database-url",
        "database_url is not one that PostgreSQL understands",
        blame=Blame.CALLER,
        hint=f"write {FORM}",
    )


async def check_durable(connection: Connection) -> None:
    """Fails unless a COMMIT on this connection is on disk when it returns.

    Raises Fault `not-durable`, `database-too-old`.
    """
    version, fsync, commit = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, current_setting('fsync'),"
        " current_setting('synchronous_commit')"
    )
    if version < OLDEST:
        raise Fault(
            "database-too-old",
            f"this PostgreSQL is older than {OLDEST // 10000}",
            blame=Blame.ENVIRONMENT,
            hint="upgrade PostgreSQL",
        )
    if fsync != "on" or commit not in ("on", "remote_apply"):
        raise Fault(
            "not-durable",
            f"PostgreSQL has fsync {fsync} and synchronous_commit {commit}",
            blame=Blame.ENVIRONMENT,
            hint="set both to on: without them, acknowledged mail is lost with the power",
        )
