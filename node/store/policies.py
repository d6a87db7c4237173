"""By which paths people may be reached: one policy for all, and those of persons."""

from __future__ import annotations

from typing import Final

from node.store.database import Database
from schemas.ids import IdentityKey
from schemas.path_policy import PathPolicy

_ALL: Final = "path_policy"  # in meta


class PolicyStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def for_all(self) -> PathPolicy:
        value = self._db.value("SELECT value FROM meta WHERE name = ?", _ALL)
        return PathPolicy.AUTO if value is None else PathPolicy(value)

    def of(self, identity: IdentityKey | None) -> PathPolicy:
        """A person's own, else the one for all; if that one hides us, it counts for everybody."""
        for_all = self.for_all
        if identity is None or for_all.hides_address:
            return for_all
        value = self._db.value("SELECT policy FROM path_policies WHERE identity = ?", identity)
        return for_all if value is None else PathPolicy(value)

    @property
    def hides(self) -> bool:
        """Our address is hidden from somebody."""
        return self.for_all.hides_address or any(p.hides_address for _, p in self.own())

    def own(self) -> list[tuple[IdentityKey, PathPolicy]]:
        """Of everybody who has one of their own."""
        rows = self._db.rows("SELECT identity, policy FROM path_policies ORDER BY identity")
        return [(IdentityKey(identity), PathPolicy(policy)) for identity, policy in rows]

    def set_for_all(self, policy: PathPolicy) -> None:
        self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", _ALL, policy.value)

    def put(self, identity: IdentityKey, policy: PathPolicy | None) -> None:
        """None: as for all."""
        if policy is None:
            self._db.run("DELETE FROM path_policies WHERE identity = ?", identity)
        else:
            self._db.run(
                "INSERT OR REPLACE INTO path_policies VALUES (?, ?)", identity, policy.value
            )
