"""Rows about who may bring parcels to our mailbox at a relay: contacts, and members of groups."""
# ruff: noqa: S608 - the conditions are our own text

from __future__ import annotations

from node.store.database import Database
from schemas.ids import DeviceKey, GroupId, IdentityKey

_LIVE = "status <> 'left'"  # who was removed, or restored, may be invited again
_NOT_BLOCKED = "identity NOT IN (SELECT identity FROM blocked)"


class BringerStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def changed(self) -> tuple[int, int]:
        """Another value whenever one of the answers below may be another."""
        return self._db.bringers_changed, self._db.undone

    def contacts(self) -> list[IdentityKey]:
        """Those who are not blocked, the newest first."""
        rows = self._db.rows(
            f"SELECT identity FROM contacts WHERE {_NOT_BLOCKED} ORDER BY added DESC"
        )
        return [IdentityKey(row[0]) for row in rows]

    def contacts_to_tell(self) -> list[IdentityKey]:
        """Those in an accepted group with us who did not get the private part of our bundle."""
        rows = self._db.rows(
            f"SELECT identity FROM contacts c WHERE told = 0 AND {_NOT_BLOCKED}"
            " AND EXISTS (SELECT 1 FROM members m JOIN groups g ON g.id = m.group_id"
            "  WHERE m.identity = c.identity AND g.accepted = 1)"
            " AND EXISTS (SELECT 1 FROM bundle_devices b WHERE b.identity = c.identity)"
        )
        return [IdentityKey(row[0]) for row in rows]

    def groups(self) -> list[GroupId]:
        """Whose members may write to us, the newest first; not a talk with somebody blocked."""
        rows = self._db.rows(
            f"SELECT id FROM groups g WHERE {_LIVE} AND (kind <> 'direct' OR NOT EXISTS ("
            "  SELECT 1 FROM members JOIN blocked USING (identity) WHERE group_id = g.id))"
            " ORDER BY joined DESC"
        )
        return [GroupId(row[0]) for row in rows]

    def groups_with(self, device: DeviceKey, limit: int) -> list[GroupId]:
        """Groups that this device is in with us, the newest first."""
        rows = self._db.rows(
            "SELECT g.id FROM members m JOIN groups g ON g.id = m.group_id"
            f" WHERE m.device = ? AND {_LIVE} ORDER BY g.joined DESC LIMIT ?",
            device,
            limit,
        )
        return [GroupId(row[0]) for row in rows]

    def all_bring_tokens(self, me: IdentityKey) -> bool:
        """Every contact and member has a bundle that says so."""
        return (
            self._db.row(
                "SELECT 1 FROM ("
                f" SELECT identity FROM contacts WHERE {_NOT_BLOCKED}"
                " UNION SELECT m.identity FROM members m JOIN groups g ON g.id = m.group_id"
                f" WHERE {_LIVE})"
                " LEFT JOIN bundles USING (identity)"
                " WHERE identity <> ? AND ifnull(brings_tokens, 0) = 0 LIMIT 1",
                me,
            )
            is None
        )
