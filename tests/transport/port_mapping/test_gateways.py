"""Which routers are asked: those on a private network that our packets leave through."""

from __future__ import annotations

import sys

import pytest

from schemas.addresses import Address
from transport.port_mapping import gateways
from transport.port_mapping.values import Gateway

LINUX = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0107A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
tun0\t00000000\t0100080A\t0003\t0\t0\t50\t00000080\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""
BSD = """\
Routing tables

Internet:
Destination        Gateway            Flags        Netif Expire
default            192.168.7.1        UGScg          en0
default            link#14            UCSIg          utun3
127                127.0.0.1          UCS            lo0
0.0.0.0/0          10.0.0.1           UG             en1
"""


@pytest.mark.skipif(
    sys.byteorder != "little", reason="the table above is a little-endian machine's"
)
def test_linux_shows_default_routes_with_a_next_hop_in_the_order_of_their_metric() -> None:
    assert gateways.linux_default_routes(LINUX) == ["192.168.0.1", "192.168.7.1"]


def test_so_do_the_bsds() -> None:
    assert gateways.bsd_default_routes(BSD) == ["192.168.7.1", "10.0.0.1"]


@pytest.mark.parametrize(
    ("hop", "own", "bound", "asked"),
    [
        ("192.168.7.1", "192.168.7.2", "0.0.0.0", True),
        ("192.168.7.1", "192.168.7.2", "::", True),
        ("192.168.7.1", "192.168.7.2", "192.168.7.2", True),
        ("192.168.7.1", "192.168.7.2", "192.168.9.2", False),  # does not receive there
        ("192.168.7.1", "192.168.7.2", "127.0.0.1", False),
        ("11.0.0.1", "11.0.0.2", "0.0.0.0", False),  # a server on the Internet
        ("100.64.0.1", "100.64.0.2", "0.0.0.0", True),  # a carrier's NAT may speak PCP
        ("192.168.7.1", None, "0.0.0.0", False),
        ("127.0.0.1", "127.0.0.1", "0.0.0.0", False),
    ],
)
def test_which_are_asked(
    monkeypatch: pytest.MonkeyPatch, hop: str, own: str | None, bound: str, asked: bool
) -> None:
    monkeypatch.setattr(gateways, "_default_routes", lambda: [hop])
    monkeypatch.setattr(gateways, "_own_towards", lambda host: own)
    found = gateways.private_gateways(Address(bound, 7000))
    assert found == ((Gateway(hop, own),) if asked and own else ())


def test_this_machines_own_table_can_be_read() -> None:
    assert all(isinstance(each, Gateway) for each in gateways.private_gateways(Address("::", 7000)))
