"""Rows of tree chunks: parts of ratchet trees, by their SHA-256, that a Welcome waits for."""

from __future__ import annotations

from collections.abc import Sequence

from node.store.database import Database
from schemas.limits import MIB

CHUNK_S = 86_400.0  # how long one is kept that no known person's Welcome names
WANTED_CHUNK_S = 30 * 86_400.0

# Per class (not wanted, wanted): awaited chunks, and bytes that are here
_AWAITED = (64, 256)
_BYTES = (4 * MIB, 16 * MIB)


class TreeStore:
    """`wanted` chunks are of invitations by people we know: strangers cannot crowd them out."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def tree(self, digests: Sequence[bytes]) -> bytes | None:
        """All of it in order, or None while some is missing."""
        parts = [
            self._db.value("SELECT data FROM tree_chunks WHERE digest = ?", digest)
            for digest in digests
        ]
        return None if None in parts else b"".join(parts)

    def expect(self, digests: Sequence[bytes], *, wanted: bool, now: float) -> bool:
        """A Welcome names these; False when too many are awaited."""
        held = self._db.value(
            "SELECT count(*) FROM tree_chunks WHERE wanted = ? AND data IS NULL", wanted
        )
        if held + len(digests) > _AWAITED[wanted]:
            return False
        self._db.many(
            "INSERT INTO tree_chunks (digest, wanted, arrival) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (digest) DO UPDATE SET wanted = max(wanted, ?2)",
            [(digest, wanted, now) for digest in digests],
        )
        return True

    def add(self, digest: bytes, data: bytes, now: float) -> tuple[bool, bool]:
        """(there is room for it, a Welcome waited for it)."""
        row = self._db.row("SELECT wanted, data IS NULL FROM tree_chunks WHERE digest = ?", digest)
        if row is not None and not row[1]:
            return True, False
        wanted = row is not None and bool(row[0])
        size = self._db.value(
            "SELECT coalesce(sum(length(data)), 0) FROM tree_chunks WHERE wanted = ?", wanted
        )
        if size + len(data) > _BYTES[wanted]:
            return False, False
        self._db.run(
            "INSERT INTO tree_chunks (digest, wanted, arrival, data) VALUES (?1, 0, ?2, ?3)"
            " ON CONFLICT (digest) DO UPDATE SET data = ?3",
            digest,
            now,
            data,
        )
        return True, row is not None

    def forget(self, digests: Sequence[bytes]) -> None:
        self._db.many("DELETE FROM tree_chunks WHERE digest = ?", [(digest,) for digest in digests])

    def sweep(self, now: float) -> None:
        self._db.run(
            "DELETE FROM tree_chunks WHERE arrival < CASE wanted WHEN 1 THEN ? ELSE ? END",
            now - WANTED_CHUNK_S,
            now - CHUNK_S,
        )
