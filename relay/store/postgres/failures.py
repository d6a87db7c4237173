"""What the server and the network do to us, as Faults; what our own SQL does wrong stays a bug."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from relay.store.moved import moved_away
from schemas.errors import Blame, Fault

UNAVAILABLE: Final = "store-unavailable"
MOVED_STATE: Final = "QN001"  # the SQLSTATE with which a database that was moved refuses writes

# Nothing was done, and doing it again may pass.
AGAIN: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,  # another process has migrated the schema
)

# By SQLSTATE; PostgreSQL's appendix A. (code, message, hint)
_FAULTS: Final = {
    asyncpg.InvalidAuthorizationSpecificationError: (
        "wrong-database-password",
        "PostgreSQL refuses this user or password",
        "check the user and password in database_url, or pg_hba.conf",
    ),
    asyncpg.InvalidCatalogNameError: (
        "no-such-database",
        "PostgreSQL has no database of this name",
        "make it (createdb), or check the name in database_url",
    ),
    asyncpg.InsufficientPrivilegeError: (
        "database-not-ours",
        "PostgreSQL does not let this user do that",
        "make the user the owner of the database",
    ),
    asyncpg.DiskFullError: (
        "disk-full",
        "the disk of PostgreSQL is full",
        "free some space there and try again",
    ),
    asyncpg.ReadOnlySQLTransactionError: (
        "disk-read-only",
        "this PostgreSQL takes no writes: it is a standby, or set to read only",
        "name the primary in database_url, or add target_session_attrs=read-write",
    ),
    asyncpg.DataCorruptedError: (
        "database-damaged",
        "PostgreSQL reports damaged data",
        "restore a backup",
    ),
    asyncpg.IndexCorruptedError: (
        "database-damaged",
        "PostgreSQL reports a damaged index",
        "reindex the database, or restore a backup",
    ),
}
_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,  # shut down, or a statement took too long
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    *AGAIN,  # again and again in vain
)

_CHANGING: Final = (
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


def unavailable(why: str, server: str = "") -> Fault:
    """The database cannot be asked now; whether what was under way was done is not known."""
    at = f" at {server}" if server else ""
    return Fault(
        UNAVAILABLE,
        f"the relay's database{at} cannot be reached: {why}",
        blame=Blame.ENVIRONMENT,
        hint="see whether PostgreSQL runs there, or mend database_url; a relay that runs goes on by"
        " itself when it is back",
    )


@contextmanager
def blaming_the_server(server: str = "") -> Iterator[None]:
    """Codes: `store-unavailable`, `wrong-database-password`, `no-such-database`,
    `database-not-ours`, `disk-full`, `disk-read-only`, `database-damaged`; Refused `moved-away`.

    Messages hold `server`, which is where it is, and nothing else of the URL or of the data.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        fault = _fault_of(error, server)
        if fault is None:
            raise
        raise fault from error
    except (TimeoutError, OSError, asyncpg.InternalClientError) as error:
        raise unavailable(_why(error), server) from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # our own: a wrong type of an argument
            raise
        raise unavailable("the connection was lost", server) from error


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno).lower()
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
    return " ".join(words).lower()


def _fault_of(error: asyncpg.PostgresError, server: str) -> Fault | None:
    if error.sqlstate == MOVED_STATE:
        return moved_away(int(error.detail))
    for kind, (code, message, hint) in _FAULTS.items():
        if isinstance(error, kind):
            return Fault(code, message, blame=Blame.ENVIRONMENT, hint=hint)
    if isinstance(error, _AWAY):
        why = "it starts or ends" if isinstance(error, _CHANGING) else f"SQLSTATE {error.sqlstate}"
        return unavailable(why, server)
    return None
