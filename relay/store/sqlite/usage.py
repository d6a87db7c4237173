"""How much the whole store holds, and whether there is room for more.

The numbers live in memory, changed by the writer's thread together with the rows, and are counted
anew when a transaction was undone. Room is reserved: mailboxes that nobody is known to own share a
part of it, so whoever makes up recipients cannot shut out those who have one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import apsw

from relay.refusals import relay_full
from relay.store.contract import Quotas, Usage


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

    def add_directory(self, size: int) -> None:
        """Key packages, hybrid keys, bundles, endpoints. Raises TryLater `relay-full`."""
        if size > 0 and self.usage.directory_bytes + size > self.quotas.directory_bytes:
            raise relay_full()
        self.usage.directory_bytes += size

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
        quotas, usage = self.quotas, self.usage
        share = int(quotas.total_blob_bytes * quotas.strangers_share)
        return usage.blob_bytes + size <= quotas.total_blob_bytes and (
            not stranger or usage.strangers_blob_bytes + size <= share
        )


def total(rows: Iterable[tuple[Any, ...]]) -> int:
    """The sum of a column of numbers, as RETURNING gave it."""
    return sum(int(row[0]) for row in rows)


def count(connection: apsw.Connection) -> Usage:
    [mailboxes] = connection.execute(
        "SELECT count(*), ifnull(sum(parcels), 0), ifnull(sum(bytes), 0),"
        " ifnull(sum(NOT known), 0), ifnull(sum(iif(known, 0, bytes)), 0) FROM mailboxes"
    ).fetchall()
    directory = sum(
        connection.execute(f"SELECT ifnull(sum({what}), 0) FROM {table}").get  # noqa: S608
        for what, table in (
            ("length(package)", "key_packages"),
            ("length(answer)", "kp_requests"),
            ("length(hybrid_key) + length(signature)", "hybrid_keys"),
            ("length(signed)", "bundles"),
            ("length(signed)", "endpoints"),
            ("length(signed)", "relay_statements"),
        )
    )
    [blobs] = connection.execute(
        "SELECT count(*), ifnull(sum(received), 0), ifnull(sum(iif(stranger, received, 0)), 0)"
        " FROM blobs"
    ).fetchall()
    held: list[Any] = [*mailboxes, directory, *blobs]
    return Usage(*held)


def mailboxes_near_quota(connection: apsw.Connection, quotas: Quotas, share: float) -> int:
    """How many have this share of what one may have, in parcels or in bytes."""
    return int(
        connection.execute(
            "SELECT count(*) FROM mailboxes WHERE parcels >= ? OR bytes >= ?",
            (quotas.mailbox_parcels * share, quotas.mailbox_bytes * share),
        ).get
    )
