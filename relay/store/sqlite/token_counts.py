"""What came with each delivery token and waits, counted in the transaction that keeps it."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from relay.store.contract import Quotas
from relay.store.delivery_tokens import token_hash
from schemas.node_service import EnqueueItem

_SPEND = """
    UPDATE delivery_tokens SET parcels = parcels + 1, bytes = bytes + ?1
    WHERE device = ?2 AND hash = ?3 AND parcels < ?4 AND bytes + ?1 <= ?5 RETURNING id
"""
_REFUND = "UPDATE delivery_tokens SET parcels = parcels - ?, bytes = bytes - ? WHERE id = ?"


def spend(connection: apsw.Connection, item: EnqueueItem, quotas: Quotas) -> int | None:
    """The id of the item's token, with one more parcel counted; None: unknown, or its share is
    used up."""
    if not item.token or item.channel:
        return None
    most = int(quotas.mailbox_parcels * quotas.token_share)
    most_bytes = int(quotas.mailbox_bytes * quotas.token_share)
    row = connection.execute(
        _SPEND,
        (len(item.sealed), bytes(item.recipient), token_hash(item.token), most, most_bytes),
    ).fetchone()
    return None if row is None else int(row[0])


def is_set(connection: apsw.Connection, item: EnqueueItem) -> bool:
    """Whether the item's token opens its mailbox, its share apart."""
    if not item.token or item.channel:
        return False
    return (
        connection.execute(
            "SELECT 1 FROM delivery_tokens WHERE device = ? AND hash = ?",
            (bytes(item.recipient), token_hash(item.token)),
        ).fetchone()
        is not None
    )


def refund(connection: apsw.Connection, gone: Iterable[tuple[int | None, int]]) -> None:
    """Parcels that wait no more, as (id of a token or None, bytes)."""
    counts: dict[int, tuple[int, int]] = {}
    for token, size in gone:
        if token is not None:
            parcels, held = counts.get(token, (0, 0))
            counts[token] = (parcels + 1, held + size)
    for token, (parcels, size) in counts.items():
        connection.execute(_REFUND, (parcels, size, token))
