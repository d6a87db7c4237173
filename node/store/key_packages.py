"""Rows of KeyPackages: our own (sealed private parts, and what was handed out), and others'."""

from __future__ import annotations

from node.store.database import Database
from schemas import limits
from schemas.ids import DeviceKey

PEER_KEY_PACKAGES = 200  # handed out over links and not used yet; the oldest go first
CARRIED_KEY_PACKAGES = 64  # of one device of somebody else, used ones among them


class KeyPackageStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, reference: bytes, blob: bytes, now: float) -> None:
        """The private part, as the binding's log gives it; `describe` says the rest."""
        self._db.run(
            "INSERT INTO key_packages (reference, suite, last_resort, message, blob, created)"
            " VALUES (?, 0, 0, x'', ?, ?)",
            reference,
            blob,
            now,
        )

    def describe(
        self,
        reference: bytes,
        suite: int,
        message: bytes,
        *,
        last_resort: bool,
        request: bytes | None,
    ) -> None:
        self._db.run(
            "UPDATE key_packages SET suite = ?, message = ?, last_resort = ?, request = ?"
            " WHERE reference = ?",
            suite,
            message,
            last_resort,
            request,
            reference,
        )

    def remove(self, reference: bytes) -> None:
        self._db.run("DELETE FROM key_packages WHERE reference = ? AND last_resort = 0", reference)

    def mark_used(self, reference: bytes, now: float) -> None:
        """A Welcome was opened with it; one to another branch of that group may need it again."""
        self._db.run(
            "UPDATE key_packages SET used = ? WHERE reference = ? AND last_resort = 0",
            now,
            reference,
        )

    def blobs(self) -> list[tuple[bytes, bytes]]:
        """(KeyPackageRef, sealed private part) of all that were not used yet."""
        return self._db.rows("SELECT reference, blob FROM key_packages WHERE used IS NULL")

    def used_blob(self, reference: bytes) -> bytes | None:
        """The sealed private part of one that was used, while it is kept."""
        value = self._db.value(
            "SELECT blob FROM key_packages WHERE reference = ? AND used IS NOT NULL", reference
        )
        return None if value is None else bytes(value)

    def sweep(self, now: float) -> None:
        """Ours as long as snapshots, which tell the same secrets; others' while they are valid."""
        self._db.run("DELETE FROM key_packages WHERE used < ?", now - limits.SNAPSHOT_AGE_S)
        self._db.run("DELETE FROM carried_key_packages WHERE until < ?", now)

    def answered(self, request: bytes) -> bytes | None:
        """The KeyPackage that the same request was answered with."""
        value = self._db.value("SELECT message FROM key_packages WHERE request = ?", request)
        return None if value is None else bytes(value)

    # --- of others, out of a file

    def keep_carried(
        self, reference: bytes, device: DeviceKey, suite: int, message: bytes, until: float
    ) -> None:
        """Unless it was here before: one that was used invites nobody. The newest of each device
        stay."""
        self._db.run(
            "INSERT OR IGNORE INTO carried_key_packages VALUES (?, ?, ?, ?, ?, 0)",
            reference,
            device,
            suite,
            message,
            until,
        )
        self._db.run(
            "DELETE FROM carried_key_packages WHERE device = ?1 AND reference NOT IN ("
            " SELECT reference FROM carried_key_packages WHERE device = ?1"
            " ORDER BY until DESC LIMIT ?2)",
            device,
            CARRIED_KEY_PACKAGES,
        )

    def take_carried(self, device: DeviceKey, suite: int, now: float) -> bytes | None:
        """One that is valid at `now`, which is used with that."""
        row = self._db.row(
            "UPDATE carried_key_packages SET taken = 1 WHERE reference = ("
            " SELECT reference FROM carried_key_packages"
            " WHERE device = ? AND suite = ? AND taken = 0 AND until > ? ORDER BY until LIMIT 1)"
            " RETURNING message",
            device,
            suite,
            now,
        )
        return None if row is None else bytes(row[0])

    def trim(self) -> None:
        self._db.run(
            "DELETE FROM key_packages WHERE request IS NOT NULL AND reference NOT IN ("
            " SELECT reference FROM key_packages WHERE request IS NOT NULL"
            " ORDER BY created DESC LIMIT ?)",
            PEER_KEY_PACKAGES,
        )
