"""How long a command's own node stays, and what its end is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from node.api import operations as op
from node.api import shapes as s
from node.api.host import LINGER_S, Hosted, _linger, new_home, the_fault
from node.api.session import Session
from node.api.settings import NodeSettings
from schemas.errors import Fault, Refused


@dataclass
class Lingering:
    """A node and its server in one: `joins` are changes that come while it lingers."""

    changes: int
    joins: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def drained(self, deadline_s: float) -> bool:
        self.waits.append(deadline_s)
        self.changes += self.joins.pop(0) if self.joins else 0
        return False


async def lingered(changes: int, *joins: int) -> list[float]:
    both = Lingering(changes, list(joins))
    await _linger(Hosted(cast(Any, both), cast(Any, both)))
    return both.waits


async def test_a_command_that_changed_something_gives_deliveries_their_time() -> None:
    assert await lingered(1) == [LINGER_S]


async def test_a_command_that_only_looked_ends_at_once() -> None:
    assert await lingered(0) == []


async def test_a_command_that_joined_meanwhile_gets_its_time_too() -> None:
    assert await lingered(1, 2, 0) == [LINGER_S, LINGER_S]


def test_the_fault_is_found_inside_the_groups_of_task_groups() -> None:
    fault = Refused("port-busy", "taken")

    assert the_fault(ExceptionGroup("a", [ExceptionGroup("b", [fault])])) is fault
    assert the_fault(ExceptionGroup("a", [ValueError("x"), fault])) is fault
    bug = the_fault(ExceptionGroup("a", [ValueError("x")]))
    assert isinstance(bug, Fault)
    assert bug.code == "internal"


def test_a_session_is_the_node_when_nobody_else_is_and_is_joined_by_the_next(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    new_home(home, "Alice")
    settings = NodeSettings(home, mdns=False)
    with Session(settings) as first, Session(settings) as second:
        made = first.call(op.CREATE_GROUP, s.CreateGroup("friends"))
        assert second.call(op.GROUPS, s.Nothing()) == [made]
        assert not second.call(op.NODE, s.Nothing()).lasting
        assert second._own is None

    assert not (home / "control.sock").exists()


def test_a_session_goes_on_when_the_node_it_joined_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    new_home(home, "Alice")
    settings = NodeSettings(home, mdns=False)
    with Session(settings) as second:
        with Session(settings) as first:
            first.call(op.CREATE_GROUP, s.CreateGroup("friends"))
            events = second.events()
            assert next(events) == {"event": "subscribed"}
        assert next(event for event in events if event["event"] != "heartbeat") == {
            "event": "subscribed"
        }
        assert [each.name for each in second.call(op.GROUPS, s.Nothing())] == ["friends"]
        events.close()


def test_a_home_without_an_account_refuses_the_session(tmp_path: Path) -> None:
    settings = NodeSettings(tmp_path / "home", mdns=False)
    with Session(settings) as session, pytest.raises(Fault) as refused:
        session.call(op.WHOAMI, s.Nothing())

    assert refused.value.code == "no-account"
