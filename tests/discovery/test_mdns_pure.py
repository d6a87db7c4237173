"""mDNS without a network: TXT records, the table of peers, the events its readers get."""

from __future__ import annotations

import asyncio
import ipaddress
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.interfaces import InterfaceAddress
from discovery.lan_events import Peer, PeerChange, PeerEvent, Watch
from discovery.lan_peers import LanPeers
from discovery.mdns_service import Advert, describe, peer_untrusted
from discovery.mdns_txt import TXT_BYTES, TxtRecord, fit_name, parse_txt_untrusted
from discovery.scope import OwnNetworks
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.errors import Malformed
from schemas.ids import DeviceKey
from schemas.limits import DISPLAY_NAME, ENDPOINT_ADDRESSES

ADA = DeviceKey(b"\xad" * 32)
BOB = DeviceKey(b"\xb0" * 32)


def txt(*fields: bytes) -> bytes:
    return b"".join(bytes([len(field)]) + field for field in fields)


def lan(host: str, port: int = 7000) -> EndpointAddress:
    return EndpointAddress(Address(host, port), AddressKind.LAN)


def peer(device: DeviceKey = ADA, *hosts: str, name: str = "Ada", seen: float = 1.0) -> Peer:
    return Peer(device, name, tuple(map(lan, hosts or ("192.168.1.7",))), seen)


# --- TXT


@pytest.mark.parametrize("name", ["Ada", "", "Zoë", "علی‌رضا", "👩‍🚀", "x" * DISPLAY_NAME])
def test_txt_round_trip(name: str) -> None:
    assert parse_txt_untrusted(TxtRecord(ADA, name).encode()) == TxtRecord(ADA, name)


def test_unknown_keys_are_for_later_versions() -> None:
    data = txt(b"new=1", b"v=1", b"d=" + ADA.hex().encode(), b"flag", b"n=Ada")
    assert parse_txt_untrusted(data) == TxtRecord(ADA, "Ada")


KEY = b"d=" + ADA.hex().encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "unknown-version"),
        (txt(KEY, b"n=Ada"), "unknown-version"),
        (txt(b"v=3", KEY), "unknown-version"),
        (txt(b"v=3", b"v=1", KEY), "unknown-version"),
        (txt(b"v=1", b"n=Ada"), "bad-device-key"),
        (txt(b"v=1", b"d=" + b"a" * 63), "bad-device-key"),
        (txt(b"v=1", b"d=" + b"zz" * 32), "bad-device-key"),
        (txt(b"v=1", b"d=\xff" * 10), "bad-device-key"),
        (txt(b"v=1", KEY.upper().replace(b"D=", b"d=")), "bad-device-key"),
        (txt(b"v=1", KEY, b"n=\xff\xfe"), "bad-name"),
        (txt(b"v=1", KEY, b"n=\x1b[2J"), "bad-name"),
        (txt(b"v=1", KEY, b"n=a\nb"), "bad-name"),
        (txt(b"v=1", KEY, "n=a\x9bb".encode()), "bad-name"),
        (txt(b"v=1", KEY, "n=\u202egnp.exe".encode()), "bad-name"),
        (txt(b"v=1", KEY, b"n=" + b"x" * (DISPLAY_NAME + 1)), "bad-name"),
        (txt(b"v=1", KEY)[:-1], "malformed-txt"),
        (bytes(TXT_BYTES + 1), "oversized-txt"),
    ],
)
def test_hostile_txt(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_txt_untrusted(data)
    assert caught.value.code == code


@given(st.binary(max_size=600))
def test_garbage_txt_raises_only_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_txt_untrusted(data)


@given(st.binary(max_size=200))
def test_garbage_names_raise_only_malformed(name: bytes) -> None:
    try:
        said = parse_txt_untrusted(txt(b"v=1", KEY, b"n=" + name))
    except Malformed:
        return
    assert isinstance(said, TxtRecord)
    assert len(said.name.encode()) <= DISPLAY_NAME
    kinds = {unicodedata.category(c) for c in said.name if c not in "\u200c\u200d\u200e\u200f"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}, "a terminal could be forged"


@given(st.text(max_size=100))
def test_whatever_the_user_is_called_others_accept_our_advert(name: str) -> None:
    """Otherwise a user with an odd name would be invisible and not know why."""
    assert parse_txt_untrusted(TxtRecord(ADA, name).encode()) == TxtRecord(ADA, fit_name(name))


# --- services


ANYWHERE = OwnNetworks((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))


def described(
    hosts: list[str], networks: OwnNetworks = ANYWHERE, *, port: int = 7000, loopback: bool = False
) -> Peer:
    return peer_untrusted(
        TxtRecord(ADA, "Ada"), port, hosts, on_link=networks.on_link, loopback=loopback, now=5.0
    )


def test_addresses_on_the_lan_are_filtered_and_bounded() -> None:
    hosts = ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "fe80::1", "fe80::2%3", "192.168.1.7"]
    strict = described(hosts)
    assert strict == Peer(ADA, "Ada", (lan("fe80::2%3"), lan("192.168.1.7")), 5.0)
    on_loopback = described(hosts, loopback=True)
    assert lan("127.0.0.1") in on_loopback.addresses
    many = described([f"10.0.0.{n}" for n in range(200)])
    assert len(many.addresses) == ENDPOINT_ADDRESSES


def test_a_neighbour_cannot_send_us_to_addresses_that_are_not_on_the_link() -> None:
    """A record that names somebody on the Internet would have us knock there."""
    networks = OwnNetworks.of([InterfaceAddress("eth0", "192.168.1.9", 24)])
    hosts = ["8.8.8.8", "10.0.0.1", "192.168.1.7"]
    assert described(hosts, networks).addresses == (lan("192.168.1.7"),)
    with pytest.raises(Malformed) as caught:
        described(hosts[:2], networks)
    assert caught.value.code == "no-usable-address"


@pytest.mark.parametrize(
    ("port", "hosts", "code"),
    [
        (0, ["192.168.1.7"], "bad-port"),
        (7000, [], "no-usable-address"),
        (7000, ["127.0.0.1"], "no-usable-address"),
    ],
)
def test_services_that_nobody_could_dial(port: int, hosts: list[str], code: str) -> None:
    with pytest.raises(Malformed) as caught:
        described(hosts, port=port)
    assert caught.value.code == code


def test_an_advert_tells_neither_the_machines_name_nor_scopes() -> None:
    info = describe(
        "0011", Advert(ADA, "Ada", (Address("fe80::2%3", 7000), Address("10.0.0.1", 7000))), 1
    )
    assert info.server == "0011.local."
    assert sorted(info.parsed_scoped_addresses()) == ["10.0.0.1", "fe80::2"]


@pytest.mark.parametrize("ports", [(), (1, 2)])
def test_an_advert_has_addresses_of_one_port(ports: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one port"):
        Advert(ADA, "Ada", tuple(Address("10.0.0.1", port) for port in ports))


# --- the table


def test_a_peer_comes_changes_and_goes() -> None:
    table = LanPeers()
    assert table.see("a", peer()) == [PeerEvent(PeerChange.APPEARED, peer())]
    assert table.see("a", peer(seen=2.0)) == [], "heard again is not news"
    assert table.see("a", peer(name="Ada L.")) == [
        PeerEvent(PeerChange.CHANGED, peer(name="Ada L."))
    ]
    table.touch("a", 9.0)
    assert table.peers() == (peer(name="Ada L.", seen=9.0),)
    assert [event.change for event in table.lose("a")] == [PeerChange.DISAPPEARED]
    assert table.lose("a") == []
    assert table.peers() == ()


def test_a_restarted_node_is_one_peer_and_stays_when_its_old_label_goes() -> None:
    table = LanPeers()
    table.see("old", peer())
    table.see("new", peer(seen=2.0))
    assert len(table.peers()) == 1
    assert table.lose("old") == []
    assert table.find(ADA) == peer(seen=2.0)


def test_a_forged_instance_cannot_push_the_true_addresses_out() -> None:
    table = LanPeers()
    table.see("true", peer(ADA, "192.168.1.7"))
    forged = peer(ADA, *(f"10.6.6.{n}" for n in range(1, 9)), seen=2.0)
    table.see("forged", forged)
    found = table.find(ADA)
    assert found is not None
    assert len(found.addresses) == ENDPOINT_ADDRESSES
    assert lan("192.168.1.7") in found.addresses


def test_a_flood_is_bounded_and_counted_and_keeps_those_who_came_first() -> None:
    table = LanPeers(instances=3, per_device=2)
    for n in range(5):
        table.see(f"ada{n}", peer(ADA))
    for n in range(5):
        table.see(f"bob{n}", peer(DeviceKey(bytes([n]) * 32)))
    assert len(table.peers()) == 2
    assert table.find(ADA) is not None
    assert table.dropped == {"instances-per-device": 3, "table-full": 4}


# --- events


async def drained(watch: Watch) -> list[PeerEvent]:
    watch.end()
    return [event async for event in watch]


async def test_a_slow_reader_hears_what_is_so_now_once() -> None:
    watch = Watch([peer(ADA)])
    watch.add(PeerEvent(PeerChange.CHANGED, peer(ADA, name="Ada L.")))
    watch.add(PeerEvent(PeerChange.APPEARED, peer(BOB)))
    watch.add(PeerEvent(PeerChange.DISAPPEARED, peer(BOB)))
    assert await drained(watch) == [PeerEvent(PeerChange.APPEARED, peer(ADA, name="Ada L."))]


async def test_a_waiting_reader_wakes() -> None:
    watch = Watch([])
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first = group.create_task(anext(watch))
        await asyncio.sleep(0)
        watch.add(PeerEvent(PeerChange.APPEARED, peer()))
    assert first.result().peer == peer()
    watch.add(PeerEvent(PeerChange.DISAPPEARED, peer()))
    watch.add(PeerEvent(PeerChange.APPEARED, peer(name="back")))
    assert await drained(watch) == [PeerEvent(PeerChange.CHANGED, peer(name="back"))]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 2)), max_size=40)
)
def test_events_lead_a_reader_of_any_speed_to_the_table(steps: list[tuple[str, int, int]]) -> None:
    """`step`: instance, what it claims (0: goodbye), and how many events the reader then takes."""
    from discovery.lan_events import PendingEvents

    table, pending, told = LanPeers(instances=3), PendingEvents(), dict[DeviceKey, Peer]()

    def take() -> None:
        event = pending.take()
        if event.change is PeerChange.DISAPPEARED:
            del told[event.peer.device]
        else:
            assert (event.change is PeerChange.APPEARED) == (event.peer.device not in told)
            told[event.peer.device] = event.peer

    for n, (instance, claim, reads) in enumerate(steps):
        claimed = peer((ADA, ADA, BOB)[claim - 1], name=f"name {claim}", seen=n)
        for event in table.lose(instance) if claim == 0 else table.see(instance, claimed):
            pending.add(event)
        for _ in range(min(reads, len(pending))):
            take()
    while pending:
        take()
    assert {p.device: p.name for p in told.values()} == {p.device: p.name for p in table.peers()}
