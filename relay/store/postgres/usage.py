"""How much the whole store holds, and whether there is room for more.

The counts are rows that change in the transactions that they count, spread over shards. A sum over
them lacks what others have under way: processes together can exceed a quota of the whole store by
what each of them writes at one moment. Quotas of one mailbox or device are exact.
"""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Final

from relay.store.contract import Usage
from relay.store.postgres.connecting import Connection

SHARDS: Final = 16
_COUNTS: Final = tuple(field.name for field in fields(Usage))
COUNT: Final = "SELECT {} FROM usage".format(  # noqa: S608 - our own text
    ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in _COUNTS)
)


def any_shard() -> int:
    """A row of `usage`, apart from those of other transactions, of whichever process.

    Never by the process id: in containers each is 1.
    """
    return random.SystemRandom().randrange(SHARDS)


async def count(connection: Connection) -> Usage:
    return Usage(*await connection.fetchrow(COUNT))


async def add(connection: Connection, **changes: int) -> None:
    """Counts of this transaction's rows, by the names of Usage; its LAST statement.

    The row stays locked until the commit: whoever waited for another lock behind it could wait for
    us.
    """
    names = [name for name in changes if name in _COUNTS]
    if len(names) != len(changes):
        raise ValueError(f"counts are {_COUNTS}")
    if any(changes.values()):
        sums = ", ".join(f"{name} = {name} + ${at}" for at, name in enumerate(names, 2))
        await connection.execute(
            f"UPDATE usage SET {sums} WHERE shard = $1",  # noqa: S608 - our own names
            any_shard(),
            *(changes[name] for name in names),
        )
