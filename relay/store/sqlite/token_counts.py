"""Which token a parcel came with, and how much of the mailbox what came with one takes."""

from __future__ import annotations

import apsw

from relay.store.contract import Quotas
from relay.store.delivery_tokens import token_hash
from schemas.node_service import EnqueueItem


def find(connection: apsw.Connection, item: EnqueueItem) -> int | None:
    """The id of the item's token, if it opens the mailbox. Channels have none."""
    if not item.token or item.channel:
        return None
    row = connection.execute(
        "SELECT id FROM delivery_tokens WHERE device = ? AND hash = ?",
        (bytes(item.recipient), token_hash(item.token)),
    ).fetchone()
    return None if row is None else int(row[0])


def share(quotas: Quotas) -> tuple[int, int]:
    """(parcels, bytes) that may wait with one token. Where less waits in all, none is above."""
    return (
        int(quotas.mailbox_parcels * quotas.token_share),
        int(quotas.mailbox_bytes * quotas.token_share),
    )


def is_share_used(
    connection: apsw.Connection, mailbox: int, token: int, size: int, quotas: Quotas
) -> bool:
    """Whether a parcel of `size` more is above the token's share. Walks over the mailbox."""
    parcels, held = connection.execute(
        "SELECT count(*), ifnull(sum(length(sealed)), 0) FROM parcels"
        " WHERE mailbox = ? AND token = ?",
        (mailbox, token),
    ).get
    most, most_bytes = share(quotas)
    return bool(parcels >= most or held + size > most_bytes)
