"""A commit that was made and did not take effect yet."""

from __future__ import annotations

import msgspec

from simulation.model_mls.stored import Sealer, What


class Base(msgspec.Struct, frozen=True, array_like=True):
    """The state that a detached commit was made from, and by whom."""

    group_id: bytes
    epoch: int
    epoch_authenticator: bytes
    own_index: int
    signature_key: bytes


class Detached(msgspec.Struct, frozen=True, array_like=True):
    base: Base
    message: bytes
    welcome: bytes | None
    tree: bytes | None


class PendingCommit:
    def __init__(self, sealer: Sealer, detached: Detached) -> None:
        self._sealer = sealer
        self.detached = detached
        self.message = detached.message
        self.welcome = detached.welcome
        self.tree = detached.tree

    def seal(self) -> bytes:
        return self._sealer.seal(What.PENDING_COMMIT, b"", b"", self.detached)
