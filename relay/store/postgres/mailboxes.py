"""Parcels in mailboxes: taken and forgotten in batches, each batch one statement of the server."""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from relay.refusals import mailbox_full, no_mailbox, relay_full, token_refused, token_share_used
from relay.store.contract import KNOWN_AFTER_S, SWEEP_ROWS, MailboxName, MailboxState, Quotas
from relay.store.delivery_tokens import Bringer, token_hash
from relay.store.postgres import usage
from relay.store.postgres.batching import Batcher
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database
from relay.store.postgres.wakeups import notices
from schemas.errors import Fault, Refused
from schemas.ids import ParcelId
from schemas.node_service import Enqueued, EnqueueItem, Mailbox, StoredParcel

LANES: Final = 2  # one works while the other waits for its fsync
PARCEL_OVERHEAD: Final = 64  # bytes of a StoredParcel on the wire besides `sealed`

# By the codes of enqueue_parcels.
_REFUSALS: Final = {
    1: mailbox_full,
    2: relay_full,
    3: token_refused,
    4: token_share_used,
    5: no_mailbox,
}

_ENQUEUE: Final = """
    SELECT * FROM enqueue_parcels(
        $1, $2, $3::bytea[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bytea[], $10::boolean[], $11::boolean[], $12::boolean[], $13::bytea[],
        $14, $15, $16, $17, $18, $19, $20, $21, $22::text[])
"""
_FORGET: Final = "SELECT forget_parcels($1, $2::bytea[], $3::bytea[], $4::bigint[])"
_PEEK: Final = """
    SELECT coalesce(m.refused_since, 0) AS refused_since,
        (SELECT min(seq) FROM parcels WHERE mailbox = m.id AND expires > $4) AS lowest,
        (SELECT max(seq) FROM parcels WHERE mailbox = m.id AND expires > $4) AS highest,
        p.seq, p.id, p.expires, p.checksum, p.sealed
    FROM mailboxes m LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT *, sum(octet_length(sealed) + $7::bigint) OVER (ORDER BY seq) AS size,
                   row_number() OVER (ORDER BY seq) AS n
                FROM (SELECT * FROM parcels
                    WHERE mailbox = m.id AND seq > $3 AND expires > $4 ORDER BY seq LIMIT $5) AS few
        ) AS sized WHERE size <= $6 OR n = 1
    ) p ON true
    WHERE m.recipient = $1 AND m.channel = $2 ORDER BY p.seq
"""


class _Bringing(NamedTuple):
    item: EnqueueItem
    by: Bringer
    now: int


class _Forgetting(NamedTuple):
    name: MailboxName
    sequences: frozenset[int]


class Mail:
    """What changes parcels, batched; `origin` marks the wake-ups that this process sends.

    `in_doubt` hears of mailboxes for which parcels were brought that may be there, or not.
    """

    def __init__(
        self,
        database: Database,
        origin: str,
        in_doubt: Callable[[Iterable[MailboxName]], None],
    ) -> None:
        self._database = database
        self._origin = origin
        self._in_doubt = in_doubt
        # Rows of `usage` stay locked until the fsync ends: a lane must not wait for the other one.
        shard = usage.any_shard()
        self._bringing: list[Batcher[_Bringing, Enqueued | Refused]] = [
            Batcher(functools.partial(self._enqueue, (shard + lane) % usage.SHARDS))
            for lane in range(LANES)
        ]
        self._forgetting_shard = (shard + LANES) % usage.SHARDS
        self._forgetting: Batcher[_Forgetting, int] = Batcher(self._forget)

    async def enqueue(
        self,
        items: Sequence[EnqueueItem],
        by: Bringer,
        now: int,
        then: Callable[[MailboxName, Enqueued | Refused], None],
    ) -> list[Enqueued | Refused]:
        """As RelayStore.enqueue; `then` as Batcher.submit's, for each item."""
        outcomes: list[asyncio.Future[Enqueued | Refused]] = []
        try:
            for item in items:
                # A mailbox has its lane: what comes for it keeps its order, and lanes do not meet.
                lane = self._bringing[bytes(item.recipient)[0] % LANES]
                tell = functools.partial(then, MailboxName(item.recipient, item.channel))
                outcomes.append(
                    lane.submit(_Bringing(item, by, now), cost=len(item.sealed), then=tell)
                )
        except Fault:
            for outcome in outcomes:  # they are kept; nobody hears of it
                outcome.cancel()
            raise
        return await asyncio.gather(*outcomes)

    def forget(
        self, name: MailboxName, sequences: Sequence[int], then: Callable[[int], None]
    ) -> asyncio.Future[int]:
        """As RelayStore.acknowledge; `then` as Batcher.submit's."""
        return self._forgetting.submit(_Forgetting(name, frozenset(sequences)), then=then)

    async def _enqueue(self, shard: int, jobs: Sequence[_Bringing]) -> list[Enqueued | Refused]:
        found: dict[int, Enqueued | Refused] = {}
        try:
            for numbers in _rounds(jobs):
                some = [jobs[n] for n in numbers]
                outcomes = await self._database.mail(
                    self._enqueue_once, shard, some, jobs=len(some)
                )
                found |= zip(numbers, outcomes, strict=True)
        except Exception:
            # An answer that was lost may be that of a commit.
            self._in_doubt({MailboxName(job.item.recipient, job.item.channel) for job in jobs})
            raise
        return [found[n] for n in range(len(jobs))]

    async def _enqueue_once(
        self, connection: Connection, shard: int, jobs: Sequence[_Bringing]
    ) -> list[Enqueued | Refused]:
        quotas = self._database.quotas
        items = [job.item for job in jobs]
        codes, sequences, expiries = await connection.fetchrow(
            _ENQUEUE,
            jobs[-1].now,
            shard,
            [bytes(item.recipient) for item in items],
            [item.channel for item in items],
            [bytes(item.id) for item in items],
            [item.expires for item in items],
            [len(item.sealed) for item in items],
            [zlib.crc32(item.sealed) for item in items],
            [item.sealed for item in items],
            [job.item.recipient == job.by.device for job in jobs],
            [job.by.admitted for job in jobs],
            [job.by.making for job in jobs],
            [token_hash(item.token) if item.token else None for item in items],
            quotas.mailbox_parcels,
            quotas.mailbox_bytes,
            int(quotas.mailbox_parcels * quotas.token_share),
            int(quotas.mailbox_bytes * quotas.token_share),
            quotas.total_bytes,
            int(quotas.total_bytes * quotas.strangers_share),
            quotas.total_mailboxes,
            int(quotas.total_mailboxes * quotas.strangers_share),
            notices(self._origin, (item.recipient for item in items)),
        )
        return [
            _REFUSALS[code]() if seq is None else Enqueued(seq, expires or item.expires)
            for item, code, seq, expires in zip(items, codes, sequences, expiries, strict=True)
        ]

    async def _forget(self, jobs: Sequence[_Forgetting]) -> list[int]:
        # Whoever asked first for a parcel has forgotten it; repeating it is harmless.
        owners: dict[tuple[MailboxName, int], int] = {}
        for number, job in enumerate(jobs):
            for sequence in job.sequences:
                owners.setdefault((job.name, sequence), number)
        wanted = list(owners)
        places = await self._database.mail(
            _forget_once,
            self._forgetting_shard,
            [bytes(name.recipient) for name, _ in wanted],
            [name.channel for name, _ in wanted],
            [sequence for _, sequence in wanted],
            jobs=len(jobs),
        )
        counts = [0] * len(jobs)
        for place in places:
            counts[owners[wanted[place - 1]]] += 1
        return counts

    async def close(self) -> None:
        for lane in self._bringing:
            await lane.close()
        await self._forgetting.close()


async def _forget_once(connection: Connection, *columns: object) -> list[int]:
    places: list[int] = await connection.fetchval(_FORGET, *columns)
    return places


def _rounds(jobs: Sequence[_Bringing]) -> list[list[int]]:
    """The places of the jobs, apart where one parcel comes twice: a statement takes it once."""
    rounds: list[list[int]] = []
    seen: dict[tuple[bytes, bytes, bytes], int] = {}
    for number, job in enumerate(jobs):
        item = job.item
        key = (bytes(item.recipient), item.channel, bytes(item.id))
        turn = seen[key] = seen.get(key, -1) + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(number)
    return rounds


class Look(NamedTuple):
    """What a look found: what may be shown, and the sequence numbers that are damaged."""

    mailbox: Mailbox
    damaged: list[int]


async def peek(
    database: Database, name: MailboxName, *, after: int, limit: int, max_bytes: int, now: int
) -> Look:
    rows = await database.fetch(
        _PEEK,
        bytes(name.recipient),
        name.channel,
        after,
        now,
        limit,
        max_bytes,
        PARCEL_OVERHEAD,
    )
    if not rows:
        return Look(Mailbox((), 0, 0), [])
    parcels: list[StoredParcel] = []
    damaged: list[int] = []
    for row in rows:
        if row["seq"] is None:
            continue
        if zlib.crc32(row["sealed"]) != row["checksum"]:
            damaged.append(row["seq"])
        else:
            parcels.append(
                StoredParcel(row["seq"], ParcelId(row["id"]), row["expires"], row["sealed"])
            )
    first = rows[0]
    mailbox = Mailbox(
        tuple(parcels), first["lowest"] or 0, first["highest"] or 0, first["refused_since"]
    )
    return Look(mailbox, damaged)


async def set_aside(
    connection: Connection, name: MailboxName, sequences: Sequence[int], now: int
) -> None:
    """Take damaged parcels out of the mailbox."""
    await connection.execute(
        "SELECT FROM mailboxes WHERE recipient = $1 AND channel = $2 FOR NO KEY UPDATE",
        bytes(name.recipient),
        name.channel,
    )
    await connection.execute(
        "INSERT INTO damaged (recipient, channel, seq, id, found)"
        " SELECT m.recipient, m.channel, p.seq, p.id, $4 FROM mailboxes m"
        " JOIN parcels p ON p.mailbox = m.id"
        " WHERE m.recipient = $1 AND m.channel = $2 AND p.seq = ANY ($3::bigint[])",
        bytes(name.recipient),
        name.channel,
        sequences,
        now,
    )
    many = len(sequences)
    await connection.execute(
        _FORGET, usage.any_shard(), [bytes(name.recipient)] * many, [name.channel] * many, sequences
    )


async def open_mailbox(connection: Connection, name: MailboxName, quotas: Quotas, now: int) -> None:
    key = bytes(name.recipient), name.channel
    there = await connection.fetchval(
        # Locked, or what is being swept away would pass for one that is there.
        "SELECT true FROM mailboxes WHERE recipient = $1 AND channel = $2 FOR NO KEY UPDATE",
        *key,
    )
    if there is None:
        held = await usage.count(connection)
        strangers = int(quotas.total_mailboxes * quotas.strangers_share)
        if held.mailboxes >= quotas.total_mailboxes or held.strangers >= strangers:
            raise relay_full()
        made = await connection.fetchval(
            "INSERT INTO mailboxes (recipient, channel) VALUES ($1, $2)"
            " ON CONFLICT DO NOTHING RETURNING 1",
            *key,
        )
    else:
        made = None
    await connection.execute(
        "UPDATE mailboxes SET opened = $3 WHERE recipient = $1 AND channel = $2 AND opened IS NULL",
        *key,
        now,
    )
    if made:
        await usage.add(connection, mailboxes=1, strangers=1)


async def forget_refusal(
    connection: Connection, name: MailboxName, since: int, quotas: Quotas
) -> None:
    await connection.execute(
        "UPDATE mailboxes SET refused_since = NULL WHERE recipient = $1 AND channel = $2"
        " AND refused_since = $3 AND parcels < $4 AND bytes < $5",
        bytes(name.recipient),
        name.channel,
        since,
        quotas.mailbox_parcels,
        quotas.mailbox_bytes,
    )


async def state(database: Database, name: MailboxName) -> MailboxState:
    rows = await database.fetch(
        "SELECT parcels, bytes, CASE next_seq WHEN 0 THEN"
        " coalesce((SELECT value FROM meta WHERE name = 'first_seq'), 1) ELSE next_seq END,"
        " refused_since FROM mailboxes WHERE recipient = $1 AND channel = $2",
        bytes(name.recipient),
        name.channel,
    )
    return MailboxState(*rows[0]) if rows else MailboxState(0, 0, 1, None)


class Swept(NamedTuple):
    """Rows: parcels that expired, and what else went or became known."""

    expired: int
    others: int


async def sweep(connection: Connection, now: int) -> Swept:
    """One portion of each. The order of locks is that of the functions in 0001_first.sql."""
    expired = await connection.fetchval(
        "SELECT expire_parcels($1, $2, $3)", now, usage.any_shard(), SWEEP_ROWS
    )
    unused = await connection.fetch(
        "DELETE FROM mailboxes WHERE id IN (SELECT id FROM mailboxes"
        "  WHERE NOT known AND opened IS NULL AND parcels = 0"
        "  LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING next_seq",
        SWEEP_ROWS,
    )
    if unused:
        await connection.execute(
            "INSERT INTO meta AS m (name, value) VALUES ('first_seq', $1)"
            " ON CONFLICT (name) DO UPDATE SET value = greatest(m.value, excluded.value)",
            max(1, *(row["next_seq"] for row in unused)),
        )
    known = await connection.fetch(
        "UPDATE mailboxes SET known = true WHERE id IN (SELECT id FROM mailboxes"
        "  WHERE NOT known AND opened <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING bytes",
        now - KNOWN_AFTER_S,
        SWEEP_ROWS,
    )
    await usage.add(
        connection,
        mailboxes=-len(unused),
        strangers=-len(unused) - len(known),
        strangers_bytes=-sum(row["bytes"] for row in known),
    )
    return Swept(expired, len(unused) + len(known))
