"""Rows about relays: those that were ours, and where others said that they read their mail."""

from __future__ import annotations

from dataclasses import dataclass

from node.store.database import Database
from schemas.addresses import RelayAddress
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import RelayStatement, Signed


@dataclass(frozen=True, slots=True)
class FormerRelay:
    """`since`: Unix seconds when it ceased to be ours."""

    address: RelayAddress
    since: float


class RelayStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    # --- those that were ours

    def former(self) -> list[FormerRelay]:
        """The one that was left last first."""
        rows = self._db.rows("SELECT address, since FROM former_relays ORDER BY since DESC, device")
        return [FormerRelay(RelayAddress.parse(address), since) for address, since in rows]

    def put_former(self, relay: RelayAddress, since: float) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO former_relays VALUES (?, ?, ?)",
            relay.device,
            str(relay),
            since,
        )

    def drop_former(self, relay: RelayAddress) -> None:
        self._db.run("DELETE FROM former_relays WHERE device = ?", relay.device)

    # --- what others said

    def statement(self, identity: IdentityKey) -> RelayStatement | None:
        """One that was verified when it was stored."""
        data = self._db.value("SELECT signed FROM relay_statements WHERE identity = ?", identity)
        return None if data is None else RelayStatement.decode(Signed.decode(data).payload)

    def put_statement(self, signed: Signed, statement: RelayStatement) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO relay_statements VALUES (?, ?, ?)",
            statement.identity,
            statement.number,
            signed.encode(),
        )

    def drop_statement(self, identity: IdentityKey) -> None:
        self._db.run("DELETE FROM relay_statements WHERE identity = ?", identity)

    # --- what lets us in

    def sessions(self) -> list[tuple[DeviceKey, str, bytes, float]]:
        """(relay, name of our account, token, expiry)"""
        rows = self._db.rows("SELECT relay, name, token, expires FROM relay_accounts")
        return [(DeviceKey(row[0]), row[1], bytes(row[2]), row[3]) for row in rows]

    def put_session(self, relay: DeviceKey, name: str, token: bytes, expires: float) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO relay_accounts VALUES (?, ?, ?, ?)", relay, name, token, expires
        )

    def drop_session(self, relay: DeviceKey) -> None:
        self._db.run("DELETE FROM relay_accounts WHERE relay = ?", relay)

    def tokens(self) -> dict[DeviceKey, bytes]:
        rows = self._db.rows("SELECT relay, token FROM relay_tokens")
        return {DeviceKey(relay): bytes(token) for relay, token in rows}

    def put_token(self, relay: DeviceKey, token: bytes) -> None:
        """Empty: none any more."""
        if token:
            self._db.run("INSERT OR REPLACE INTO relay_tokens VALUES (?, ?)", relay, token)
        else:
            self._db.run("DELETE FROM relay_tokens WHERE relay = ?", relay)
