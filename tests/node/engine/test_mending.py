"""Looking for damage walks over the whole database: once for a fault that comes again and again."""

from __future__ import annotations

from collections import Counter

import apsw
import pytest

from node.engine import commands as c
from node.engine import engine
from node.engine.engine import MEND_AGAIN_S
from node.store.damage import mend
from node.store.database import Database
from schemas.errors import Fault, Malformed
from tests.node.engine.world import Person, World


@pytest.fixture
def ada() -> Person:
    world = World(None)
    [person] = world.friends("Ada")
    return person


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> list[Database]:
    """The times that the database was walked over."""
    found: list[Database] = []

    def counted(database: Database) -> Counter[str]:
        found.append(database)
        return mend(database)

    monkeypatch.setattr(engine, "mend", counted)
    return found


def fails(person: Person, error: Exception) -> None:
    """From now on a command of this engine has a bug."""

    def bug(command: object) -> object:
        raise error

    person.engine._handlers[c.FindGroup] = bug


def test_a_bug_that_others_can_set_off_does_not_set_off_a_walk_each_time(
    ada: Person, mended: list[Database]
) -> None:
    fails(ada, OverflowError("too large for the database"))
    for _ in range(20):
        with pytest.raises(OverflowError):
            ada.run(c.WhoAmI(), c.FindGroup("any"))
    assert len(mended) == 1
    ada.world.now += MEND_AGAIN_S
    with pytest.raises(OverflowError):
        ada.run(c.FindGroup("any"))
    assert len(mended) == 2, "what has been damaged since then is never looked for"


def test_what_looks_like_a_bad_row_and_is_not_is_refused_alone(
    ada: Person, mended: list[Database]
) -> None:
    fails(ada, Malformed("malformed-row", "not a row"))
    for _ in range(20):
        account, refused = ada.run(c.WhoAmI(), c.FindGroup("any"))
        assert isinstance(refused, Malformed)
        assert not isinstance(account, Fault), "a command beside it is refused with it"
    assert len(mended) == 1


def test_a_clock_that_goes_back_does_not_put_it_off(ada: Person, mended: list[Database]) -> None:
    fails(ada, OverflowError("too large for the database"))
    for _ in range(2):
        with pytest.raises(OverflowError):
            ada.run(c.FindGroup("any"))
        ada.world.now -= 10 * 365 * 86400
    assert len(mended) == 2


def test_a_row_that_rots_after_a_walk_in_vain_is_mended_an_hour_later(
    ada: Person, mended: list[Database]
) -> None:
    group = ada.create("harbour", 1)
    handler = ada.engine._handlers[c.FindGroup]
    fails(ada, OverflowError("too large for the database"))
    with pytest.raises(OverflowError):
        ada.run(c.FindGroup("any"))
    ada.engine._handlers[c.FindGroup] = handler
    ada.database.execute("UPDATE groups SET name = CAST(x'fffe' AS TEXT)")
    ada.engine._forget_batch()
    with pytest.raises((apsw.Error, UnicodeDecodeError)):
        ada.run(c.ListGroups())
    ada.world.now += MEND_AGAIN_S
    [view] = ada.ask(c.ListGroups())
    assert (view.group, len(mended)) == (group, 2)
