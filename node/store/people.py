"""Rows about people: contacts, bundles, endpoint records; and our own secrets and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from node.store.database import Database, Remembered
from schemas.card import Card
from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.records import BundleCore, BundlePrivate, EndpointRecord, Signed


@dataclass(frozen=True, slots=True)
class ContactRow:
    identity: IdentityKey
    card: Card
    verified: bool


class PeopleStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._blocked = Remembered(
            database, lambda: frozenset(identity for identity, _ in self.blocked())
        )

    # --- settings and secrets

    def setting(self, name: str, default: Any = None) -> Any:
        return self._db.value("SELECT value FROM meta WHERE name = ?", name, default=default)

    def set_setting(self, name: str, value: Any) -> None:
        self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def secret(self, name: str) -> bytes | None:
        value = self._db.value("SELECT value FROM secrets WHERE name = ?", name)
        return None if value is None else bytes(value)

    def set_secret(self, name: str, value: bytes) -> None:
        self._db.run("INSERT OR REPLACE INTO secrets VALUES (?, ?)", name, value)
        self._db.bringers_changed += 1

    def hybrid_keys(self) -> list[tuple[bytes, bytes]]:
        """(public, private), newest first."""
        return self._db.rows("SELECT public, private FROM hybrid_keys ORDER BY created DESC")

    def hybrid_key_times(self) -> list[tuple[bytes, float]]:
        """(public, when it was made), newest first."""
        return self._db.rows("SELECT public, created FROM hybrid_keys ORDER BY created DESC")

    def add_hybrid_key(self, public: bytes, private: bytes, now: float) -> None:
        self._db.run("INSERT INTO hybrid_keys VALUES (?, ?, ?)", public, private, now)

    def redate_hybrid_key(self, public: bytes, now: float) -> None:
        self._db.run("UPDATE hybrid_keys SET created = ? WHERE public = ?", now, public)

    def delete_hybrid_key(self, public: bytes) -> None:
        self._db.run("DELETE FROM hybrid_keys WHERE public = ?", public)

    # --- contacts

    def contact(self, identity: IdentityKey) -> ContactRow | None:
        row = self._db.row(
            "SELECT identity, card, verified FROM contacts WHERE identity = ?", identity
        )
        return None if row is None else _contact(row)

    def contacts(self) -> list[ContactRow]:
        rows = self._db.rows("SELECT identity, card, verified FROM contacts ORDER BY added")
        return [_contact(row) for row in rows]

    def put_contact(self, card: Card, now: float) -> None:
        self._db.run(
            "INSERT INTO contacts (identity, card, added) VALUES (?, ?, ?)"
            " ON CONFLICT (identity) DO UPDATE SET card = excluded.card",
            card.identity,
            card.encode(),
            now,
        )
        self._db.bringers_changed += 1

    def set_verified(self, identity: IdentityKey) -> None:
        self._db.run("UPDATE contacts SET verified = 1 WHERE identity = ?", identity)

    def set_told(self, identity: IdentityKey) -> None:
        """The private part of our bundle is on its way to this contact."""
        self._db.run("UPDATE contacts SET told = 1 WHERE identity = ?", identity)

    # --- blocked people

    def block(self, identity: IdentityKey, now: float) -> None:
        self._db.run("INSERT OR IGNORE INTO blocked VALUES (?, ?)", identity, now)
        self._blocked_changed()

    def unblock(self, identity: IdentityKey) -> None:
        self._db.run("DELETE FROM blocked WHERE identity = ?", identity)
        self._blocked_changed()

    def _blocked_changed(self) -> None:
        self._blocked.forget()
        self._db.bringers_changed += 1

    def is_blocked(self, identity: IdentityKey) -> bool:
        return identity in self._blocked.value

    def is_blocked_device(self, device: DeviceKey) -> bool:
        """Of somebody blocked, by bundle or membership."""
        if not self._blocked.value:
            return False
        owner = self.owner(device)
        return owner is not None and self.is_blocked(owner)

    def has_blocked(self, group: GroupId) -> bool:
        """Somebody blocked is a member."""
        if not self._blocked.value:
            return False
        return (
            self._db.row(
                "SELECT 1 FROM members JOIN blocked USING (identity) WHERE group_id = ? LIMIT 1",
                group,
            )
            is not None
        )

    def blocked(self) -> list[tuple[IdentityKey, float]]:
        """(who, since when), oldest first."""
        rows = self._db.rows("SELECT identity, since FROM blocked ORDER BY since")
        return [(IdentityKey(row[0]), row[1]) for row in rows]

    # --- bundles

    def bundle(self, identity: IdentityKey) -> tuple[Signed, BundleCore] | None:
        """A bundle that was verified when it was stored."""
        data = self._db.value("SELECT signed FROM bundles WHERE identity = ?", identity)
        if data is None:
            return None
        signed = Signed.decode(data)
        return signed, BundleCore.decode(signed.payload)

    def bundle_number(self, identity: IdentityKey) -> int:
        number = self._db.value("SELECT number FROM bundles WHERE identity = ?", identity)
        return 0 if number is None else int(number)

    def put_bundle(self, signed: Signed, core: BundleCore) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO bundles VALUES (?, ?, ?, ?)",
            core.identity,
            core.number,
            signed.encode(),
            core.brings_tokens,
        )
        self._db.bringers_changed += 1
        self._db.run("DELETE FROM bundle_devices WHERE identity = ?", core.identity)
        self._db.many(
            "INSERT OR REPLACE INTO bundle_devices VALUES (?, ?, ?)",
            [(device.key, core.identity, device.hybrid_key) for device in core.devices],
        )

    def put_private(self, private: BundlePrivate) -> None:
        """What a contact told us alone; the newest stays."""
        self._db.run(
            "INSERT INTO bundle_privates VALUES (?1, ?2, ?3, ?4) ON CONFLICT (identity)"
            " DO UPDATE SET number = ?2, discovery_secret = ?3, delivery_token = ?4"
            " WHERE number < ?2",
            private.identity,
            private.number,
            private.discovery_secret,
            private.delivery_token,
        )

    def discovery_secret(self, identity: IdentityKey) -> bytes | None:
        """The newest that a contact gave us, on their card or later."""
        value = self._db.value(
            "SELECT discovery_secret FROM bundle_privates WHERE identity = ?", identity
        )
        if value is not None:
            return bytes(value)
        contact = self.contact(identity)
        return None if contact is None else contact.card.discovery_secret

    def delivery_token(self, identity: IdentityKey) -> bytes:
        """The newest that a contact gave us; empty if it gave none."""
        value = self._db.value(
            "SELECT delivery_token FROM bundle_privates WHERE identity = ?", identity, default=b""
        )
        return bytes(value)

    def hybrid_key(self, device: DeviceKey) -> bytes | None:
        value = self._db.value("SELECT hybrid_key FROM bundle_devices WHERE device = ?", device)
        return None if value is None else bytes(value)

    def owner(self, device: DeviceKey) -> IdentityKey | None:
        """Whose device this is, by bundle, card or membership."""
        for sql in (
            "SELECT identity FROM bundle_devices WHERE device = ?",
            "SELECT identity FROM members WHERE device = ?",
        ):
            if (value := self._db.value(sql, device)) is not None:
                return IdentityKey(value)
        for contact in self.contacts():
            if contact.card.device == device:
                return contact.identity
        return None

    def devices(self, identity: IdentityKey) -> tuple[DeviceKey, ...]:
        """A person's devices by their bundle, or the one on their card."""
        rows = self._db.rows(
            "SELECT device FROM bundle_devices WHERE identity = ? ORDER BY device", identity
        )
        if rows:
            return tuple(DeviceKey(row[0]) for row in rows)
        contact = self.contact(identity)
        return () if contact is None else (contact.card.device,)

    def shares_group(self, identity: IdentityKey) -> bool:
        return (
            self._db.row("SELECT 1 FROM members WHERE identity = ? LIMIT 1", identity) is not None
        )

    def shares_entered_group(self, identity: IdentityKey) -> bool:
        """A member of a group that we accepted: its convergence needs both of us."""
        return (
            self._db.row(
                "SELECT 1 FROM members m JOIN groups g ON g.id = m.group_id"
                " WHERE m.identity = ? AND g.accepted = 1 AND g.kind <> 'direct' LIMIT 1",
                identity,
            )
            is not None
        )

    def shares_accepted_group(self, identity: IdentityKey) -> bool:
        """A member of a group that we accepted, of two or of many."""
        return (
            self._db.row(
                "SELECT 1 FROM members m JOIN groups g ON g.id = m.group_id"
                " WHERE m.identity = ? AND g.accepted = 1 LIMIT 1",
                identity,
            )
            is not None
        )

    def fellow_members(self, device: DeviceKey) -> list[DeviceKey]:
        """Who is with this device in a group that we accepted, itself and us among them."""
        rows = self._db.rows(
            "SELECT DISTINCT o.device FROM members m JOIN groups g ON g.id = m.group_id"
            " JOIN members o ON o.group_id = g.id WHERE m.device = ? AND g.accepted = 1",
            device,
        )
        return [DeviceKey(row[0]) for row in rows]

    def strangers_requests(self) -> int:
        """How many invitations wait for an answer whose inviter is neither contact nor blocked."""
        return int(
            self._db.value(
                "SELECT count(*) FROM groups WHERE accepted = 0 AND status IN ('active', 'split')"
                " AND inviter NOT IN (SELECT identity FROM contacts)"
                " AND inviter NOT IN (SELECT identity FROM blocked)"
            )
        )

    def acquaintances(self, me: DeviceKey) -> list[DeviceKey]:
        """Devices of contacts and of fellow members in accepted groups.

        Of blocked people only those who share such a group with us.
        """
        rows = self._db.rows(
            "SELECT b.device FROM bundle_devices b JOIN contacts USING (identity)"
            " WHERE identity NOT IN (SELECT identity FROM blocked)"
            " UNION SELECT m.device FROM members m JOIN groups g ON g.id = m.group_id"
            " WHERE g.accepted = 1 AND (g.kind <> 'direct'"
            "  OR m.identity NOT IN (SELECT identity FROM blocked))",
        )
        return [DeviceKey(row[0]) for row in rows if row[0] != me]

    # --- endpoint records

    def endpoint(self, device: DeviceKey) -> tuple[Signed, EndpointRecord] | None:
        data = self._db.value("SELECT signed FROM endpoints WHERE device = ?", device)
        if data is None:
            return None
        signed = Signed.decode(data)
        return signed, EndpointRecord.decode(signed.payload)

    def endpoint_sequence(self, device: DeviceKey) -> int:
        value = self._db.value("SELECT sequence FROM endpoints WHERE device = ?", device)
        return 0 if value is None else int(value)

    def put_endpoint(self, signed: Signed, record: EndpointRecord, now: float) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?, ?)",
            record.device,
            record.sequence,
            signed.encode(),
            now,
        )

    def greetable(self, me: DeviceKey, limit: int) -> list[DeviceKey]:
        """Devices of contacts and members, those whose endpoint we learnt last first."""
        rows = self._db.rows(
            "SELECT d.device, coalesce(e.learnt, 0) AS learnt FROM ("
            "  SELECT device FROM members"
            "  UNION SELECT b.device FROM bundle_devices b JOIN contacts USING (identity)"
            ") d LEFT JOIN endpoints e USING (device) WHERE d.device <> ?"
            " AND d.device NOT IN (SELECT device FROM bundle_devices JOIN blocked USING (identity))"
            " ORDER BY learnt DESC LIMIT ?",
            me,
            limit,
        )
        found = [DeviceKey(row[0]) for row in rows]
        cards = [c.card.device for c in self.contacts() if not self.is_blocked(c.identity)]
        return list(dict.fromkeys([*found, *cards]))[:limit]


def _contact(row: Any) -> ContactRow:
    return ContactRow(IdentityKey(row[0]), Card.decode(row[1]), bool(row[2]))
