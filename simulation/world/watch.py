"""Looks over one engine's shoulder: epochs, keys and generations, after each batch that is on disk.

It reads the engine's insides, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.engine.core import epoch_id
from node.store.groups import GroupRow
from schemas.ids import GroupId, MessageId
from schemas.messages import AppMessage
from simulation.world.evidence import Machine


class Watch:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._core = machine.engine._core
        self._sealed: list[tuple[GroupRow, int, MessageId]] = []
        self._seen: dict[GroupId, tuple[object, int]] = {}
        encrypt = self._core.encrypt

        def watched(row: GroupRow, plaintext: bytes) -> bytes:
            generation = self._core.mls_group(row.id).next_generation
            sealed = encrypt(row, plaintext)
            self._sealed.append((row, generation, AppMessage.decode(plaintext).id))
            return sealed

        undoable = self._core.undoable

        @contextmanager
        def watched_undoable() -> Iterator[None]:
            before = len(self._sealed)
            try:
                with undoable():
                    yield
            except BaseException:
                del self._sealed[before:]  # nothing of it will ever leave
                raise

        self._core.encrypt = watched  # type: ignore[method-assign]
        self._core.undoable = watched_undoable  # type: ignore[method-assign]

    def after_batch(self) -> None:
        """What the batch did is on disk: hold it against what the others did."""
        evidence = self._machine.world.evidence
        for group, mls in self._core._mls_groups.items():
            here = (mls, mls.epoch)
            if self._seen.get(group) != here:
                self._seen[group] = here
                if mls.active:
                    members = frozenset(member.signature_key for member in mls.roster())
                    evidence.entered(
                        self._machine, group, epoch_id(mls), mls.epoch_authenticator, members
                    )
                    self._machine.world.note_epoch(self._machine, group, mls.epoch, epoch_id(mls))
        for row, generation, message in self._sealed:
            evidence.sealed(self._machine, row.id, row.epoch_id, generation, message)
        self._sealed.clear()

    def batch_undone(self) -> None:
        self._sealed.clear()
