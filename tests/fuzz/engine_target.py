"""The engine, given any opened parcel: whatever somebody who seals to it may send."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import mls_rs

from identity.envelope import open_untrusted, seal
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.errors import Malformed
from schemas.ids import ParcelId
from schemas.parcels import Parcel, ParcelBody, pad, unpad
from tests.node.engine.world import Person, World

LOOK_EVERY = 500  # inputs between two looks at whether the group still talks


class Victim:
    """Bob, in a group with Ada, who gets whatever the fuzzer makes of Ada's real parcels."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-engine-")
        self.world = World(Path(self._folder.name))
        self.ada, self.bob = self.world.friends("Ada", "Bob")
        self.seeds: list[bytes] = []
        group = self.ada.create("friends", mls_rs.CLASSIC, self.bob)
        self._exchange()
        self.bob.ask(c.Join(group))
        self.group = group
        self.ada.send(group, "hello")
        self._exchange()
        self.ada.ask(c.UpdateKey(group))
        self._exchange()
        self._key = _hybrid(self.bob)
        self._count = 0

    def _exchange(self) -> None:
        while True:
            parcels = self.world.take(self.ada, self.bob)
            if not parcels:
                self.world.settle()
                return
            self.seeds += [_opened(self.bob, parcel) for parcel in parcels]
            self.world.hand(self.ada, self.bob, parcels)

    def give(self, body: bytes) -> None:
        """Raises AssertionError, or what no engine may raise."""
        try:
            parcel_id = ParcelBody.decode(body).parcel
        except Malformed:
            parcel_id = ParcelId(bytes(16))
        expires = int(self.world.now) + 3600
        parcel = Parcel(parcel_id, self.bob.device, expires, seal(self._key, pad(body)))
        verdict = self.bob.ask(d.Arrived(parcel, "direct"))
        assert isinstance(verdict, v.Accepted | v.Deferred | v.Rejected)
        self._count += 1
        if self._count % LOOK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """The two still understand each other."""
        text = f"still here after {self._count}"
        self.ada.send(self.group, text)
        self.world.settle(1.0)
        assert text in self.bob.read(self.group)


def _hybrid(person: Person) -> bytes:
    return person.engine._core.hybrid_keys[0].public


def _opened(person: Person, parcel: Parcel) -> bytes:
    return unpad(open_untrusted(person.engine._core.hybrid_keys[0], parcel.sealed))


@functools.cache
def victim() -> Victim:
    """One for the life of the process."""
    return Victim()
