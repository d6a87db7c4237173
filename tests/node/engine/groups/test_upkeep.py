"""What is kept of past epochs is bounded by age, by bytes and by number."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import commands as c
from node.store.branches import COMMIT_S
from schemas import limits
from tests.node.engine.world import Person, World


def count(person: Person, sql: str) -> int:
    return int(person.engine._core.db.value(sql, default=0))


def test_secrets_of_past_epochs_go_though_nobody_commits_any_more(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    world.tea([ada, bob])
    assert count(bob, "SELECT count(*) FROM snapshots") or count(
        ada, "SELECT count(*) FROM snapshots"
    )
    world.later(limits.SNAPSHOT_AGE_S + 86_400)
    for person in (ada, bob):
        assert count(person, "SELECT count(*) FROM snapshots") == 0


def test_bytes_of_commits_go_and_headers_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.store.branches.HEADERS", 8)
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    for _ in range(12):
        ada.ask(c.UpdateKey(group))
        world.settle()
    assert count(bob, "SELECT count(*) FROM commits WHERE mls IS NOT NULL") == 12
    world.later(COMMIT_S + 86_400)
    world.settle(5)
    assert count(bob, "SELECT count(*) FROM commits WHERE mls IS NOT NULL") == 0
    assert count(bob, "SELECT count(*) FROM commits") == 9
    ada.send(group, "still here")
    world.settle(5)
    assert bob.read() == ["still here"]
    ada.ask(c.UpdateKey(group))
    bob.ask(c.UpdateKey(group))
    world.settle(5)
    assert ada.view(group).epoch_id == bob.view(group).epoch_id


def test_bytes_of_commits_have_a_budget(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.HYBRID, bob)
    world.settle()
    bob.ask(c.Join(group))
    for _ in range(12):
        ada.ask(c.UpdateKey(group))
        world.settle()
    size = count(bob, "SELECT max(length(mls)) FROM commits")
    monkeypatch.setattr("schemas.limits.SNAPSHOT_BYTES", 5 * size)
    world.later(7200)
    assert 0 < count(bob, "SELECT sum(length(mls)) FROM commits") <= 5 * size
    newest = "SELECT mls IS NOT NULL FROM commits ORDER BY epoch DESC LIMIT 1"
    assert count(bob, newest) == 1, "the oldest go first"
