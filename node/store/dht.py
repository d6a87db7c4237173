"""What is remembered of the DHT: where to begin."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from node.store.database import Database
from schemas.addresses import Address
from schemas.ids import DeviceKey

_BOOTSTRAP: Final = "bootstrap"  # in meta


class DhtStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def bootstrap(self) -> tuple[str, ...]:
        """As the user typed them."""
        value = self._db.value("SELECT value FROM meta WHERE name = ?", _BOOTSTRAP, default="[]")
        return tuple(json.loads(value))

    def set_bootstrap(self, addresses: Iterable[str]) -> None:
        value = json.dumps(list(addresses))
        self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", _BOOTSTRAP, value)

    def contacts(self) -> list[tuple[DeviceKey, Address]]:
        rows = self._db.rows("SELECT device, address FROM dht_contacts")
        return [(DeviceKey(device), Address.parse(address)) for device, address in rows]

    def set_contacts(self, contacts: Iterable[tuple[DeviceKey, Address]]) -> None:
        """In place of those before."""
        self._db.run("DELETE FROM dht_contacts")
        self._db.many(
            "INSERT OR REPLACE INTO dht_contacts VALUES (?, ?)",
            [(device, str(address)) for device, address in contacts],
        )
