"""What people read while a node runs: words for every event the engine can emit."""

from __future__ import annotations

from pathlib import Path

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
    world.settle(12)
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
    for name in ("ada", "bob"):
        assert any(
            line.startswith("tea: ") and "it is one group again" in line for line in said[name]
        )
    everything = [line for lines in said.values() for line in lines]
    assert not any("{" in line or "None" in line for line in everything), everything


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("group-split", "tea is split: so it is"),
        ("group-healed", "tea: so it is"),
        ("group-waits", "tea waits: so it is"),
        ("equivocation", "WARNING in tea: so it is"),
    ],
)
def test_news_of_branches_are_told_with_their_detail(kind: str, said: str) -> None:
    event = {"event": kind, "name": "tea", "detail": "so it is"}

    assert sentence(event) == said
    assert sentence({**event, "name": ""}) == said.replace("tea", "a conversation")


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


def test_a_port_at_the_router_is_told() -> None:
    mapped = {"event": "port-mapping", "address": "11.0.0.2:7000", "protocol": "pcp"}

    assert sentence(mapped) == "your router forwards 11.0.0.2:7000 to this node (pcp)"
    gone = {"event": "port-mapping", "address": None, "protocol": None}
    assert sentence(gone) == "your router forwards no port to this node any more"


def test_which_path_is_in_use_is_told_of_people_that_we_know() -> None:
    event = {"event": "path-changed", "identity": "ab" * 32, "device": "cd" * 32, "name": "Bob"}
    linked = {**event, "path": "direct", "kind": "punched", "address": "11.0.0.1:7000"}

    assert sentence(linked) == "linked with Bob through a NAT (11.0.0.1:7000)"
    assert sentence({**event, "path": None}) == "no link with Bob any more"
    assert sentence({**linked, "identity": None}) is None
