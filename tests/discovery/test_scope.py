"""Addresses of others: where each may be dialled from."""

from __future__ import annotations

import pytest

from discovery.interfaces import InterfaceAddress
from discovery.scope import OwnNetworks, networks_now

LAPTOP = OwnNetworks.of(
    [
        InterfaceAddress("lo", "127.0.0.1", 8),
        InterfaceAddress("wlan0", "192.168.1.7", 24),
        InterfaceAddress("wlan0", "fd12::7", 64),
        InterfaceAddress("wlan0", "fe80::1%3", 64),
    ],
    seen_at=["11.0.0.1"],
)


@pytest.mark.parametrize(
    "host", ["11.2.3.4", "2a02:810d::9", "192.168.1.200", "fd12::9", "127.0.0.1", "127.8.8.8"]
)
def test_admitted(host: str) -> None:
    assert LAPTOP.admits(host)


@pytest.mark.parametrize(
    "host",
    [
        "192.168.2.7",  # the same addresses stand in every other home
        "10.0.0.1",
        "100.64.0.9",
        "169.254.1.1",
        "203.0.113.5",
        "198.18.0.1",
        "fd13::7",
        "::1",  # no adapter of ours
        "printer.local",
    ],
)
def test_not_admitted(host: str) -> None:
    assert not LAPTOP.admits(host)


def test_behind_the_same_nat_a_private_address_may_be_the_right_one() -> None:
    assert LAPTOP.admits("192.168.2.7", beside=["192.168.2.7", "11.0.0.1"])
    assert not LAPTOP.admits("192.168.2.7", beside=["192.168.2.7", "11.0.0.2"])
    assert not LAPTOP.admits("::1", beside=["11.0.0.1"])


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("192.168.1.200", True),
        ("192.168.2.7", True),  # not on our segment, and still behind our NAT
        ("127.0.0.1", True),
        ("::1", False),  # no adapter of ours
        ("11.2.3.4", False),
    ],
)
def test_what_stays_on_the_local_network(host: str, near: bool) -> None:
    assert LAPTOP.near(host) is near


def test_who_is_open_to_others() -> None:
    assert not LAPTOP.public
    assert OwnNetworks.of([InterfaceAddress("eth0", "11.2.3.4", 24)]).public


def test_this_machine_has_networks() -> None:
    assert networks_now().admits("127.0.0.1")
