"""Nodes that lie, all in league, and stay for ever: they do their worst to whoever looks up."""

from __future__ import annotations

import bisect
import dataclasses
import random
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from discovery.dht.contact import DhtContact
from discovery.dht.rpc import Asker
from schemas.dht import Contacts, DhtResponse, FindNode, FindValue, Store, Stored, Values
from schemas.ids import DhtId
from schemas.records import Signed
from simulation.dht.network import Answer, Request

TOLD: Final = 16  # contacts in an answer: as many as anybody would tell, all of the league
LOOKED_AT: Final = 2 * TOLD  # on each side of a key
SIGNATURE_LENGTH: Final = 64

Forge = Callable[[DhtId], Signed | None]
"""A value for a key that its readers can open; None where the league has no card."""


class Lie(Enum):
    """What a liar says when it is asked for a value; each has one of them."""

    NOTHING = "nothing"
    FORGED = "forged"  # a record that its author never signed; and one with a broken signature
    OLD = "old"  # the first that it was ever given to keep, rightly signed by its author


class League:
    """What all liars know of each other."""

    def __init__(self) -> None:
        self._members: list[tuple[int, DhtContact]] = []  # by place

    def join(self, contact: DhtContact) -> None:
        bisect.insort(self._members, (contact.long_id, contact), key=_place)

    def near(self, target: DhtId) -> Sequence[DhtContact]:
        """The nearest members to `target`: those with whom it shares most bits are side by side."""
        place = int.from_bytes(target, "big")
        at = bisect.bisect_left(self._members, place, key=_place)
        around = self._members[max(0, at - LOOKED_AT) : at + LOOKED_AT]
        around.sort(key=lambda member: member[0] ^ place)
        return [contact for _, contact in around[:TOLD]]


def _place(member: tuple[int, DhtContact]) -> int:
    return member[0]


class Liar:
    """Answers in place of a node. It is in tables because it answers, and always does."""

    def __init__(self, league: League, forge: Forge, rng: random.Random) -> None:
        self._league = league
        self._forge = forge
        self._lie = rng.choice(list(Lie))
        self._kept: dict[DhtId, Signed] = {}

    def answer(self, honest: Answer) -> Answer:
        """`honest` is what the node would say: it learns of askers, and nobody hears it."""

        def lie(asker: Asker, request: Request) -> DhtResponse:
            if isinstance(request, FindNode):
                honest(asker, request)
                return Contacts(self._league.near(request.target))
            if isinstance(request, Store):
                self._kept.setdefault(request.key, request.value)
                return Stored()
            return Values(self._values(request), self._league.near(request.key))

        return lie

    def _values(self, request: FindValue) -> Sequence[Signed]:
        if self._lie is Lie.FORGED:
            forged = self._forge(request.key)
            if forged is None:
                return ()
            broken = dataclasses.replace(forged, signature=bytes(SIGNATURE_LENGTH))
            return (forged, broken)
        if self._lie is Lie.OLD and request.key in self._kept:
            return (self._kept[request.key],)
        return ()
