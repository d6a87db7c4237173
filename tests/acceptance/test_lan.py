"""Neighbours on a LAN, each with a real node on a machine of its own: namespaces on one bridge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import shapes as s
from simulation.processes.namespace import reason_against_namespaces
from simulation.processes.talk import Talk, wait_until
from tests.acceptance.lan import GONE_S, Bridge

APPEARED_S = 20.0  # measured: 0.3 s after the node is ready; these machines are busy
GROUP = "harbour"

MakeBridge = Callable[..., Bridge]


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[MakeBridge]:
    """`bridge(ipv4=True)`: a LAN that ends with the test."""
    if reason := reason_against_namespaces():
        pytest.skip(reason)
    with ExitStack() as ends:
        yield lambda **how: ends.enter_context(Bridge(tmp_path, **how))


@pytest.mark.parametrize("ipv4", [True, False], ids=["IPv4 and IPv6", "IPv6 link-local alone"])
def test_five_neighbours_need_no_configuration_at_all(bridge: MakeBridge, ipv4: bool) -> None:
    lan = bridge(ipv4=ipv4)
    names = ("Ada", "Bob", "Cy", "Dee", "Eli")
    people = [lan.person(name) for name in names]
    for person in people:
        person.run()
    for person in people:
        person.wait_to_see(*(name for name in names if name != person.name), within_s=APPEARED_S)
    ada, *others = people
    for person in people:
        assert person.call(op.WHOAMI, s.Nothing()).relays == []
        person.knows(*(other for other in people if other is not person))

    group = ada.call(op.CREATE_GROUP, s.CreateGroup(GROUP)).group
    ada.call(op.INVITE, s.Invite(group, [other.identity for other in others]))
    for other in others:
        other.join(group)
    talk = Talk(group, people)
    talk.check()  # everybody says something, and everybody has it

    *_, eli = others
    assert eli.node is not None
    assert ada.node is not None
    eli.node.kill()
    gone = ada.node.wait_for("peer-gone", GONE_S)
    assert (gone["name"], gone["device"]) == ("Eli", eli.device)
    ada.wait_to_see("Bob", "Cy", "Dee", within_s=GONE_S)
    eli.run()
    ada.wait_to_see(*names[1:], within_s=APPEARED_S)


def test_who_shows_itself_to_contacts_is_seen_by_them_alone(bridge: MakeBridge) -> None:
    lan = bridge()
    ada, bob, cy, dee = (lan.person(name) for name in ("Ada", "Bob", "Cy", "Dee"))
    ada.run()
    cy.run()
    dee.run("--lan-visibility", "off")
    bob.run("--lan-visibility", "contacts")
    ada.knows(bob)
    ada.wait_to_see("Bob", "Cy", within_s=APPEARED_S)
    # Ada, who is in everyone's sight, is no contact of Bob's yet.
    bob.wait_to_see("Ada", "Cy", within_s=APPEARED_S)
    assert set(cy.sees()) == {"Ada"}, "a stranger sees whom Bob hides from"
    assert dee.sees() == {}
    assert ada.call(op.PING, ns.Ping("Bob")).path == "direct"

    cy.knows(bob)
    cy.wait_to_see("Ada", "Bob", within_s=APPEARED_S)


def test_adapters_that_come_and_go_are_followed(bridge: MakeBridge) -> None:
    lan = bridge()
    ada, bob = (lan.person(name) for name in ("Ada", "Bob"))
    ada.run()
    bob.run()
    for one, other in ((ada, bob), (bob, ada)):
        one.wait_to_see(other.name, within_s=APPEARED_S)

    bob.unplug()
    ada.wait_to_see(within_s=GONE_S)
    bob.wait_to_see(within_s=GONE_S)
    lan.plug(bob, "wlan0")
    for one, other in ((ada, bob), (bob, ada)):
        one.wait_to_see(other.name, within_s=APPEARED_S)
        addresses = one.sees()[other.name].addresses
        assert any(address.startswith("10.0.0.") for address in addresses)
    wait_until(
        lambda: "10.0.0.2:7000" not in ada.sees()["Bob"].addresses,
        "the address of the old adapter is forgotten",
        APPEARED_S,
    )


def test_a_network_that_comes_after_the_start_is_taken_up(bridge: MakeBridge) -> None:
    """With link-local addresses alone, which stand in no record."""
    lan = bridge(ipv4=False)
    ada, bob = (lan.person(name) for name in ("Ada", "Bob"))
    bob.unplug()
    ada.run()
    bob.run()
    lan.plug(bob)
    for one, other in ((ada, bob), (bob, ada)):
        one.wait_to_see(other.name, within_s=APPEARED_S)


def test_a_pulled_cable_is_noticed_and_put_back_it_is_as_before(bridge: MakeBridge) -> None:
    """Neither machine sees anything but silence: the switch between them is off."""
    lan = bridge()
    ada, bob = (lan.person(name) for name in ("Ada", "Bob"))
    ada.run()
    bob.run()
    for one, other in ((ada, bob), (bob, ada)):
        one.wait_to_see(other.name, within_s=APPEARED_S)
    with lan.off():
        started = time.monotonic()
        ada.wait_to_see(within_s=GONE_S)
        bob.wait_to_see(within_s=GONE_S)
        assert time.monotonic() - started < GONE_S
    for one, other in ((ada, bob), (bob, ada)):
        one.wait_to_see(other.name, within_s=2 * APPEARED_S)
