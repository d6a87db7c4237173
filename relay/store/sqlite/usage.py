"""How much the whole store holds, and whether there is room for more.

The numbers live in memory, changed by the writer's thread together with the rows, and are counted
anew when a transaction was undone. Room is reserved: mailboxes that nobody is known to own share a
part of it, so whoever makes up recipients cannot shut out those who have one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import apsw

from relay.refusals import relay_full
from relay.store.contract import Quotas, Usage
from relay.store.rules import has_room

# Tables of the directory: whose a row is, and its bytes
DIRECTORY: Final = (
    ("key_packages", "device", "ifnull(length(package), 0)"),
    ("kp_requests", "device", "ifnull(length(answer), 0)"),
    ("hybrid_keys", "device", "length(hybrid_key) + length(signature)"),
    ("endpoints", "device", "length(signed)"),
    ("bundles", "identity", "length(signed)"),
    ("relay_statements", "identity", "length(signed)"),
)


@dataclass(slots=True)
class Room:
    """The counts and the limits on them; belongs to the writer's thread."""

    quotas: Quotas
    usage: Usage

    def count_anew(self, connection: apsw.Connection) -> None:
        self.usage = count(connection)

    def snapshot(self) -> Usage:
        return replace(self.usage)

    def holds(self, size: int) -> bool:
        """Whether a parcel of `size` bytes has room in a mailbox that is known."""
        return self.usage.bytes + size <= self.quotas.total_bytes

    def holds_for_strangers(self, size: int) -> bool:
        share = int(self.quotas.total_bytes * self.quotas.strangers_share)
        return self.usage.strangers_bytes + size <= share

    def add(self, size: int, *, known: bool) -> None:
        self.usage.parcels += 1
        self.usage.bytes += size
        if not known:
            self.usage.strangers_bytes += size

    def remove(self, parcels: int, size: int, *, known: bool) -> None:
        self.usage.parcels -= parcels
        self.usage.bytes -= size
        if not known:
            self.usage.strangers_bytes -= size

    def add_mailbox(self) -> None:
        """Raises TryLater `relay-full` when there are too many, of strangers or in all."""
        strangers = int(self.quotas.total_mailboxes * self.quotas.strangers_share)
        if self.usage.mailboxes >= self.quotas.total_mailboxes or self.usage.strangers >= strangers:
            raise relay_full()
        self.usage.mailboxes += 1
        self.usage.strangers += 1

    def add_directory(self, size: int, *, stranger: bool) -> None:
        """See DIRECTORY. Raises TryLater `relay-full`."""
        usage = self.usage
        if size > 0 and not has_room(
            size,
            held=usage.directory_bytes,
            most=self.quotas.directory_bytes,
            strangers=usage.strangers_directory_bytes,
            quotas=self.quotas,
            stranger=stranger,
        ):
            raise relay_full()
        usage.directory_bytes += size
        usage.strangers_directory_bytes += stranger * size

    def holds_blob(self, size: int, *, stranger: bool) -> bool:
        """Whether there is room for one more blob of `size` bytes."""
        return self.usage.blobs < self.quotas.total_blobs and self._holds_blob_bytes(size, stranger)

    def add_blob_chunk(self, size: int, *, stranger: bool) -> None:
        """Raises TryLater `relay-full`."""
        if not self._holds_blob_bytes(size, stranger):
            raise relay_full()
        self.usage.blob_bytes += size
        self.usage.strangers_blob_bytes += stranger * size

    def remove_blob_chunk(self, size: int, *, stranger: bool) -> None:
        self.usage.blob_bytes -= size
        self.usage.strangers_blob_bytes -= stranger * size

    def _holds_blob_bytes(self, size: int, stranger: bool) -> bool:
        return has_room(
            size,
            held=self.usage.blob_bytes,
            most=self.quotas.total_blob_bytes,
            strangers=self.usage.strangers_blob_bytes,
            quotas=self.quotas,
            stranger=stranger,
        )


def total(rows: Iterable[tuple[Any, ...]]) -> int:
    """The sum of a column of numbers, as RETURNING gave it."""
    return sum(int(row[0]) for row in rows)


def count(connection: apsw.Connection) -> Usage:
    [mailboxes] = connection.execute(
        "SELECT count(*), ifnull(sum(parcels), 0), ifnull(sum(bytes), 0),"
        " ifnull(sum(NOT known), 0), ifnull(sum(iif(known, 0, bytes)), 0) FROM mailboxes"
    ).fetchall()
    directory = strangers = 0
    for table, column, size in DIRECTORY:
        row: Any = connection.execute(
            f"SELECT ifnull(sum({size}), 0), ifnull(sum(iif(o.stranger, {size}, 0)), 0)"  # noqa: S608
            f" FROM {table} t LEFT JOIN directory_owners o ON o.owner = t.{column}"
        ).get
        directory += row[0]
        strangers += row[1]
    [blobs] = connection.execute(
        "SELECT count(*), ifnull(sum(received), 0), ifnull(sum(iif(stranger, received, 0)), 0)"
        " FROM blobs"
    ).fetchall()
    counted: list[Any] = [*mailboxes, directory, strangers, *blobs]
    return Usage(*counted)


def mailboxes_near_quota(connection: apsw.Connection, quotas: Quotas, share: float) -> int:
    """How many have this share of what one may have, in parcels or in bytes."""
    return int(
        connection.execute(
            "SELECT count(*) FROM mailboxes WHERE parcels >= ? OR bytes >= ?",
            (quotas.mailbox_parcels * share, quotas.mailbox_bytes * share),
        ).get
    )
