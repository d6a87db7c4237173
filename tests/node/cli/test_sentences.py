"""What people read while a node runs: words for every event the engine can emit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mls_rs
import pytest

from node.cli.sentences import sentence
from node.engine import commands as c
from tests.node.cli.fake_session import ROUTE
from tests.node.engine.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_event_of_a_lively_group_reads_as_a_sentence(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", mls_rs.CLASSIC, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    message = ada.send(group, "hello")
    world.settle(2)
    bob.read()
    world.settle(65)  # receipts without a link: one a minute
    bob.ask(c.UpdateKey(group))
    world.settle(2)
    cy.ask(c.Leave(group))
    world.settle(10)
    ada.ask(c.UpdateKey(group))
    bob.ask(c.UpdateKey(group))
    world.settle(2)
    said = {
        person.name: [sentence({"event": e.kind, **e.fields}) or "" for e in person.events]
        for person in (ada, bob, cy)
    }
    short = message.hex()[:12]
    assert f"message {short}: delivered to bob, directly" in said["ada"]
    assert f"message {short}: read by bob" in said["ada"]
    assert "bob renewed their key in tea (epoch 2)" in said["ada"]
    assert f"ada invites you to tea: quicnprotochat join {group.hex()[:8]}" in said["bob"]
    assert "ada wrote in tea" in said["bob"]
    assert "joined tea" in said["bob"]
    assert "left tea" in said["cy"]
    assert any("tea is split" in line for line in said["ada"])
    everything = [line for lines in said.values() for line in lines]
    assert not any("{" in line or "None" in line for line in everything), everything


def test_a_fork_that_healed_is_told_with_what_became_of_both_sides() -> None:
    event: dict[str, Any] = {
        "event": "group-healed",
        "name": "tea",
        "by": ["ada", "bob"],
        "proposed_again": ["invite of carol"],
        "resent": 2,
        "readmitted": ["dan"],
        "lost": ["rename to coffee"],
        "detail": "ada's change counts",
    }
    assert sentence(event) == (
        "tea is one group again: ada's change counts; proposed again: invite of carol; "
        "2 messages of yours sent again; taken in again: dan; lost: rename to coffee"
    )
    nothing = {"by": [], "proposed_again": [], "resent": 0, "readmitted": [], "lost": []}
    assert sentence({**event, **nothing}) == "tea is one group again: ada's change counts"
    bare = {**event, **nothing, "by": ["ada", "bob"], "name": "", "resent": 1, "detail": ""}
    assert sentence(bare) == (
        "a conversation is one group again: changes by ada and bob met; "
        "1 message of yours sent again"
    )


def test_what_waits_and_who_contradicts_themselves_are_told() -> None:
    waits = {"event": "group-waits", "name": "tea", "reason": "readmission", "detail": "asked"}
    assert sentence(waits) == "tea waits: asked"
    lies = {"event": "equivocation", "name": "tea", "member": "bob", "detail": "bob told two heads"}
    assert sentence(lies) == "WARNING in tea: bob told two heads"


@pytest.mark.parametrize(("group", "what"), [("tea", "tea"), ("", "talk")])
def test_a_refused_invitation_is_told(group: str, what: str) -> None:
    event = {"event": "refused", "name": group, "member": "bob", "reason": "too-many-requests"}
    assert sentence(event) == f"bob's device refused the invitation to {what}: too-many-requests"


def test_a_full_mailbox_is_told_without_the_relays_key() -> None:
    told = sentence({"event": "mailbox-full", "relay": ROUTE, "since": 1})

    assert told == (
        "your mailbox at relay.example:7000 was full, and messages for you were refused there: "
        "their senders try again"
    )
