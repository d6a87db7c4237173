"""What users are told of the path in use: on their network, open, or through NATs."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from discovery.interfaces import InterfaceAddress
from discovery.resolver import Found
from discovery.scope import OwnNetworks
from node.delivery.candidates import Candidates
from node.delivery.paths import Paths
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.ids import DeviceKey

PEER = DeviceKey(bytes(range(32)))
HOME = OwnNetworks.of([InterfaceAddress("eth0", "192.168.1.2", 24)])
OPEN = OwnNetworks.of([InterfaceAddress("eth0", "11.0.1.2", 24)])


def kind(networks: OwnNetworks, remote: str, *, dialed: bool, public: bool) -> AddressKind:
    """Of a link to `remote`; `public`: the peer's record says that it listens there."""
    address = Address(remote, 7000)
    candidates = Candidates(lambda: 0.0, 10)
    if public:
        endpoint = EndpointAddress(address, AddressKind.PUBLIC)
        candidates.found(PEER, [Found(endpoint, ("dht",), 0.0)], all_there_is=True)
    paths = Paths(Mock(), Mock(), candidates, Mock(), lambda: networks, lambda: 0.0)
    link = Mock(peer=PEER, dialed=dialed)
    link.connection.remote = address
    return paths.kind(link)


@pytest.mark.parametrize("dialed", [True, False])
def test_on_our_network_or_behind_our_nat_it_is_local(dialed: bool) -> None:
    assert kind(HOME, "192.168.1.3", dialed=dialed, public=False) is AddressKind.LAN
    assert kind(HOME, "192.168.2.3", dialed=dialed, public=False) is AddressKind.LAN


def test_where_they_listen_for_everybody_it_is_public() -> None:
    assert kind(HOME, "11.0.2.2", dialed=True, public=True) is AddressKind.PUBLIC


def test_where_we_do_it_is_public_for_whoever_dials_us() -> None:
    assert kind(OPEN, "11.0.2.2", dialed=False, public=False) is AddressKind.PUBLIC


@pytest.mark.parametrize("dialed", [True, False])
def test_between_two_homes_it_is_punched(dialed: bool) -> None:
    assert kind(HOME, "11.0.2.2", dialed=dialed, public=False) is AddressKind.PUNCHED


def test_from_where_we_are_open_to_where_they_are_only_seen_it_is_punched() -> None:
    assert kind(OPEN, "11.0.2.2", dialed=True, public=False) is AddressKind.PUNCHED
