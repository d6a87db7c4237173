"""Own candidate addresses: what peers are told when nothing was configured."""

from __future__ import annotations

import pytest

from discovery.interfaces import InterfaceAddress, candidates, own_addresses, read_interfaces
from schemas.addresses import Address, AddressKind
from schemas.errors import Refused
from schemas.limits import ENDPOINT_ADDRESSES

LOOPBACK = [InterfaceAddress("lo", "127.0.0.1"), InterfaceAddress("lo", "::1")]
LAPTOP = [
    *LOOPBACK,
    InterfaceAddress("docker0", "172.17.0.1"),
    InterfaceAddress("wlan0", "192.168.1.7"),
    InterfaceAddress("wlan0", "2a02:810d::7"),
    InterfaceAddress("wlan0", "fd12::7"),
    InterfaceAddress("wlan0", "fe80::1%3"),
]


def hosts(bound: str, interfaces: list[InterfaceAddress], *, link_local: bool = False) -> list[str]:
    found = candidates(Address(bound, 7000), interfaces, link_local=link_local)
    assert all(endpoint.address.port == 7000 for endpoint in found)
    return [endpoint.address.host for endpoint in found]


def test_any_ipv4_gives_every_ipv4_address_virtual_bridges_last() -> None:
    assert hosts("0.0.0.0", LAPTOP) == ["192.168.1.7", "172.17.0.1"]


def test_any_ipv6_gives_both_families() -> None:
    assert hosts("::", LAPTOP) == ["192.168.1.7", "2a02:810d::7", "fd12::7", "172.17.0.1"]


def test_link_local_is_for_mdns_only() -> None:
    assert "fe80::1%3" not in hosts("::", LAPTOP)
    assert "fe80::1%3" in hosts("::", LAPTOP, link_local=True)
    assert hosts("::", [InterfaceAddress("eth0", "fe80::1")], link_local=True) == []


def test_kinds() -> None:
    found = {
        endpoint.address.host: endpoint.kind
        for endpoint in candidates(
            Address("::", 7000), [*LAPTOP, InterfaceAddress("wg0", "100.64.0.9")]
        )
    }
    assert found == {
        "192.168.1.7": AddressKind.LAN,
        "100.64.0.9": AddressKind.LAN,  # carrier-grade NAT: not reachable from everywhere
        "172.17.0.1": AddressKind.LAN,
        "fd12::7": AddressKind.LAN,
        "2a02:810d::7": AddressKind.PUBLIC,
    }


@pytest.mark.parametrize("bound", ["192.168.1.9", "127.0.0.1", "::1", "2a02:810d::9"])
def test_a_specific_bind_gives_only_itself(bound: str) -> None:
    assert hosts(bound, LAPTOP) == [bound]


def test_loopback_only_when_there_is_nothing_else() -> None:
    assert hosts("0.0.0.0", LOOPBACK) == ["127.0.0.1"]
    assert hosts("::", LOOPBACK) == ["127.0.0.1", "::1"]


def test_many_addresses_of_one_adapter_do_not_push_another_adapter_out() -> None:
    privacy = [InterfaceAddress("wlan0", f"2a02:810d::{n:x}") for n in range(1, 30)]
    found = hosts("::", [*privacy, InterfaceAddress("eth0", "192.168.1.7")])
    assert len(found) == ENDPOINT_ADDRESSES
    assert found[:2] == ["2a02:810d::1", "192.168.1.7"]


@pytest.mark.parametrize("bound", [Address("home.example", 7000), Address("0.0.0.0", 0)])
def test_what_is_not_a_bound_address_is_refused(bound: Address) -> None:
    with pytest.raises(Refused) as caught:
        candidates(bound, LAPTOP)
    assert caught.value.code == "bad-address"


def test_this_machine_has_addresses() -> None:
    assert read_interfaces()
    assert 0 < len(own_addresses(Address("0.0.0.0", 7000))) <= ENDPOINT_ADDRESSES
