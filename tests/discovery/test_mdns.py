"""Real mDNS, on loopback only. Other processes may be on the same group: look for own keys."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from zeroconf._protocol.outgoing import DNSOutgoing  # the only way to send half a service
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from discovery import mdns_announcer, mdns_zeroconf
from discovery.lan_events import PeerChange, PeerEvent, Watch
from discovery.lan_peers import LanPeers
from discovery.lan_tags import Acquaintance
from discovery.mdns import Mdns
from discovery.mdns_service import SERVICE_TYPE, Advert
from discovery.mdns_txt import TxtRecord
from discovery.resolver import Resolver
from discovery.sources import MdnsSource
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.errors import Blame, Fault
from schemas.ids import DeviceKey

LOOPBACK = ["127.0.0.1"]
DEADLINE_S = 20.0
GOODBYE_S = 2.0  # measured: 2 ms; what matters is that it is not zeroconf's 19 minutes


def no_multicast() -> str:
    """Why this machine cannot run these tests, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            membership = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        except OSError as error:
            return f"no multicast on loopback: {error}"
    return ""


needs_multicast = pytest.mark.skipif(bool(no_multicast()), reason=no_multicast())


def new_device() -> DeviceKey:
    return DeviceKey(os.urandom(32))


def advert(device: DeviceKey, name: str = "Ada", port: int = 7000) -> Advert:
    return Advert(device, name, (Address("127.0.0.1", port),))


def visible(device: DeviceKey, name: str = "Ada", port: int = 7000) -> Mdns:
    return Mdns(device, advert=advert(device, name, port), interfaces=LOOPBACK)


async def until(watch: Watch, device: DeviceKey, change: PeerChange) -> PeerEvent:
    async with asyncio.timeout(DEADLINE_S):
        async for event in watch:
            if (event.peer.device, event.change) == (device, change):
                return event
    raise AssertionError(f"the watch ended before {change}")


@needs_multicast
async def test_two_nodes_find_each_other_and_a_goodbye_is_noticed_at_once() -> None:
    ada, bob = new_device(), new_device()
    async with visible(ada, "Ada", 7001) as at_ada, AsyncExitStack() as stack:
        at_bob = await stack.enter_async_context(visible(bob, "Bøb", 7002))
        with at_ada.watch() as from_ada, at_bob.watch() as from_bob:
            seen_bob = await until(from_ada, bob, PeerChange.APPEARED)
            seen_ada = await until(from_bob, ada, PeerChange.APPEARED)
            assert (seen_ada.peer.name, seen_bob.peer.name) == ("Ada", "Bøb")
            here = EndpointAddress(Address("127.0.0.1", 7002), AddressKind.LAN)
            assert seen_bob.peer.addresses == (here,)
            assert at_ada.find(ada) is None, "nobody meets himself"

            resolution = await Resolver([MdnsSource(at_ada)]).resolve(bob)
            assert [(f.address, f.source) for f in resolution.found] == [(here, "mdns")]

            await at_bob.wait_announced()
            async with asyncio.timeout(GOODBYE_S):
                await stack.aclose()
                gone = await until(from_ada, bob, PeerChange.DISAPPEARED)
            assert gone.peer.name == "Bøb"
            assert at_ada.find(bob) is None
            assert [event async for event in from_bob if event.peer.device == bob] == []


@needs_multicast
async def test_off_looks_and_is_not_seen_and_can_be_switched() -> None:
    ada, hidden = new_device(), new_device()
    async with visible(ada) as at_ada, Mdns(hidden, interfaces=LOOPBACK) as at_hidden:
        with at_ada.watch() as from_ada, at_hidden.watch() as from_hidden:
            await until(from_hidden, ada, PeerChange.APPEARED)
            async with asyncio.timeout(DEADLINE_S):
                await at_hidden.wait_announced()
            assert at_ada.find(hidden) is None
            assert at_hidden._zeroconf is not None
            assert at_hidden._zeroconf.zeroconf.registry.async_get_service_infos() == []

            at_hidden.advertise(advert(hidden, "shown"))
            assert (await until(from_ada, hidden, PeerChange.APPEARED)).peer.name == "shown"
            async with asyncio.timeout(DEADLINE_S):
                await at_hidden.wait_announced()
            at_hidden.advertise(advert(hidden, "renamed"))
            assert (await until(from_ada, hidden, PeerChange.CHANGED)).peer.name == "renamed"
            async with asyncio.timeout(DEADLINE_S):
                await at_hidden.wait_announced()
            at_hidden.advertise(None)
            await until(from_ada, hidden, PeerChange.DISAPPEARED)


@needs_multicast
async def test_a_forgotten_peer_comes_back_when_it_is_heard_again() -> None:
    """A peer whose network paused must not stay invisible for as long as zeroconf remembers it."""
    now = 1000.0
    ada, bob = new_device(), new_device()
    at_ada = Mdns(ada, interfaces=LOOPBACK, clock=lambda: now)
    async with at_ada, visible(bob) as at_bob:
        with at_ada.watch() as watch:
            await until(watch, bob, PeerChange.APPEARED)
            async with asyncio.timeout(DEADLINE_S):
                await at_bob.wait_announced()
            at_ada.forget(bob)
            await until(watch, bob, PeerChange.DISAPPEARED)
            now = 2000.0
            async with asyncio.timeout(DEADLINE_S):
                # The same again, no record changes. Not once: zeroconf skips packets that it had
                # in the last 800 ms.
                while at_ada.find(bob) is None:
                    at_bob.advertise(advert(bob))
                    await at_bob.wait_announced()
            event = await until(watch, bob, PeerChange.APPEARED)
            assert event.peer.last_seen == 2000.0


@asynccontextmanager
async def hostile() -> AsyncIterator[AsyncZeroconf]:
    raw = AsyncZeroconf(interfaces=LOOPBACK)
    try:
        yield raw
    finally:
        await raw.async_close()


async def offer(
    raw: AsyncZeroconf, txt: bytes, *, port: int = 7000, host: str = "127.0.0.1"
) -> None:
    """One announcement of a service with these fields, as a hostile neighbour would send it."""
    label = os.urandom(8).hex()
    info = AsyncServiceInfo(
        SERVICE_TYPE,
        f"{label}.{SERVICE_TYPE}",
        port=port,
        properties=txt,
        server=f"{label}.local.",
        addresses=[socket.inet_aton(host)],
    )
    await raw.zeroconf.async_wait_for_start()
    raw.zeroconf.async_send(raw.zeroconf.generate_service_broadcast(info, None))


async def counted(mdns: Mdns, expected: dict[str, int]) -> None:
    """Waits until everything expected was dropped; at most the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while any(mdns.dropped[reason] < count for reason, count in expected.items()):
            await asyncio.sleep(0)  # the counter has no event; the loop runs the sockets meanwhile


@needs_multicast
async def test_hostile_services_are_dropped_and_counted() -> None:
    ada, good = new_device(), new_device()
    fine = TxtRecord(good, "Good").encode()
    key = b"\x42d=" + new_device().hex().encode()
    async with Mdns(ada, interfaces=LOOPBACK) as at_ada, hostile() as raw:
        with at_ada.watch() as watch:
            await offer(raw, b"\x03v=9" + key)
            await offer(raw, b"\x03v=1\x04d=zz")
            await offer(raw, b"\x03v=1" + key + b"\x06n=\x1b[2J")
            await offer(raw, b"\x03v=1" + key + b"\x43n=" + b"x" * 65)
            await offer(raw, b"\x03v=1" + key + b"\xffn=")
            await offer(raw, fine * 7)
            await offer(raw, fine, port=0)
            await offer(raw, fine, host="0.0.0.0")
            await offer(raw, TxtRecord(ada, "Ada's double").encode())
            await offer(raw, fine)
            await until(watch, good, PeerChange.APPEARED)
        assert at_ada.find(ada) is None
        expected = {
            "unknown-version": 1,
            "bad-device-key": 1,
            "bad-name": 2,
            "malformed-txt": 1,
            "oversized-txt": 1,
            "bad-port": 1,
            "no-usable-address": 1,
            "own-device": 1,
        }
        await counted(at_ada, expected)
        assert [peer.name for peer in at_ada.peers() if peer.device == good] == ["Good"]


@needs_multicast
async def test_a_flood_of_peers_is_bounded() -> None:
    table = LanPeers(instances=3)
    async with Mdns(new_device(), interfaces=LOOPBACK, table=table) as mdns, hostile() as raw:
        for _ in range(8):
            await offer(raw, TxtRecord(new_device(), "flood").encode())
        await counted(mdns, {"table-full": 5})
        assert len(mdns.peers()) == 3


@needs_multicast
async def test_who_was_left_out_in_a_flood_is_found_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They do not say again by themselves that they are there."""
    monkeypatch.setattr("discovery.mdns._LOOK_AGAIN_S", 0.5)
    forged, bob, table = new_device(), new_device(), LanPeers(instances=1)
    async with (
        Mdns(new_device(), interfaces=LOOPBACK, table=table) as mdns,
        hostile() as raw,
        AsyncExitStack() as stack,
    ):
        with mdns.watch() as watch:
            await offer(raw, TxtRecord(forged, "flood").encode())
            await until(watch, forged, PeerChange.APPEARED)
            at_bob = await stack.enter_async_context(visible(bob))
            async with asyncio.timeout(DEADLINE_S):
                await at_bob.wait_announced()
            await counted(mdns, {"table-full": 1})
            assert mdns.find(bob) is None
            mdns.forget(forged)
            await until(watch, bob, PeerChange.APPEARED)


@needs_multicast
async def test_a_service_with_missing_parts_costs_a_bounded_look_up() -> None:
    """A PTR record alone makes us ask; nobody answers; honest peers do not wait for that."""
    good, bob = new_device(), new_device()
    async with (
        Mdns(new_device(), interfaces=LOOPBACK) as mdns,
        hostile() as raw,
        AsyncExitStack() as stack,
    ):
        await raw.zeroconf.async_wait_for_start()
        with mdns.watch() as watch:
            at_bob = await stack.enter_async_context(visible(bob))
            await until(watch, bob, PeerChange.APPEARED)
            for n in range(100):
                empty = AsyncServiceInfo(SERVICE_TYPE, f"empty{n}.{SERVICE_TYPE}", port=1)
                out = DNSOutgoing(0x8400)  # an authoritative answer
                out.add_answer_at_time(empty.dns_pointer(), 0)
                raw.zeroconf.async_send(out)
            await offer(raw, TxtRecord(good, "Good").encode())
            await until(watch, good, PeerChange.APPEARED)
            await counted(mdns, {"lookups-full": 1})
            mdns.forget(bob)
            async with asyncio.timeout(DEADLINE_S / 4):
                while mdns.find(bob) is None:
                    at_bob.advertise(advert(bob))
                    await at_bob.wait_announced()


# --- contacts alone


def hidden(device: DeviceKey, secret: bytes, port: int = 7000) -> Mdns:
    shown = dataclasses.replace(advert(device, "Nobody's business", port), secret=secret)
    return Mdns(device, advert=shown, interfaces=LOOPBACK)


@needs_multicast
async def test_contacts_see_who_hides_from_strangers() -> None:
    ada, secret = new_device(), os.urandom(16)
    async with (
        hidden(ada, secret, 7009),
        Mdns(new_device(), interfaces=LOOPBACK) as stranger,
        Mdns(new_device(), interfaces=LOOPBACK) as contact,
    ):
        contact.know([Acquaintance(ada, "Ada", secret)])
        with contact.watch() as watch:
            seen = (await until(watch, ada, PeerChange.APPEARED)).peer
        assert (seen.name, str(seen.addresses[0].address)) == ("Ada", "127.0.0.1:7009")
        assert not any(each.addresses == seen.addresses for each in stranger.peers())
        stranger.know([Acquaintance(ada, "Ada of later", secret)])
        with stranger.watch() as watch:
            late = await until(watch, ada, PeerChange.APPEARED)
        assert late.peer.name == "Ada of later", "whose card came after the announcement"


@needs_multicast
async def test_labels_for_contacts_change_and_nobody_disappears_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mdns_announcer, "_SETTLE_TURNS", 0)
    monkeypatch.setattr(mdns_announcer, "ROTATE_S", 0.2)
    ada, secret = new_device(), os.urandom(16)
    labels = set[str]()
    async with hidden(ada, secret), Mdns(new_device(), interfaces=LOOPBACK) as contact:
        contact.know([Acquaintance(ada, "Ada", secret)])
        with contact.watch() as watch:
            await until(watch, ada, PeerChange.APPEARED)
            async with asyncio.timeout(DEADLINE_S):
                while len(labels) < 3:
                    labels.update(contact._table.instances_of(ada))
                    await asyncio.sleep(0.01)
            assert contact.find(ada) is not None
            told = [watch._pending.take() for _ in range(len(watch._pending))]
        assert all(event.change is not PeerChange.DISAPPEARED for event in told)
        assert len(contact._table.instances_of(ada)) <= 2, "old labels say goodbye"


@needs_multicast
async def test_a_label_for_everyone_stays_for_the_run() -> None:
    ada = new_device()
    async with visible(ada) as at_ada, Mdns(new_device(), interfaces=LOOPBACK) as other:
        with other.watch() as watch:
            await until(watch, ada, PeerChange.APPEARED)
            before = other._table.instances_of(ada)
            at_ada.advertise(advert(ada, "renamed"))
            await until(watch, ada, PeerChange.CHANGED)
        assert other._table.instances_of(ada) == before


# --- goodbyes that are not true


@needs_multicast
async def test_a_forged_goodbye_is_taken_back_and_the_next_one_not_believed() -> None:
    """Whoever is on the LAN can say goodbye for Ada; callers ask her, and she answers."""
    ada = new_device()
    async with (
        visible(ada) as at_ada,
        Mdns(new_device(), interfaces=LOOPBACK) as bob,
        hostile() as raw,
    ):
        with bob.watch() as watch:
            await until(watch, ada, PeerChange.APPEARED)
            async with asyncio.timeout(DEADLINE_S):
                await at_ada.wait_announced()
            (instance,) = bob._table.instances_of(ada)
            goodbye = AsyncServiceInfo(SERVICE_TYPE, instance, port=7000)
            await raw.zeroconf.async_wait_for_start()

            def forge() -> None:
                out = DNSOutgoing(0x8400)
                out.add_answer_at_time(goodbye.dns_pointer(override_ttl=0), 0)
                raw.zeroconf.async_send(out)

            forge()
            await until(watch, ada, PeerChange.DISAPPEARED)
            bob.revive(ada)
            await until(watch, ada, PeerChange.APPEARED)
            at_ada.advertise(advert(ada))  # as when somebody asks
            async with asyncio.timeout(DEADLINE_S):
                await at_ada.wait_announced()
                while not bob.dropped["goodbye-not-true"]:
                    forge()
                    await asyncio.sleep(0.05)
            assert bob.find(ada) is not None


# --- without multicast


def failing(error: Exception) -> Callable[..., AsyncZeroconf]:
    def fail(**_: object) -> AsyncZeroconf:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [OSError(19, "No such device"), RuntimeError("No interfaces to listen on")]
)
@pytest.mark.parametrize("interfaces", [None, LOOPBACK])
async def test_no_multicast_is_a_typed_fault_and_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch, error: Exception, interfaces: list[str] | None
) -> None:
    monkeypatch.setattr(mdns_zeroconf, "AsyncZeroconf", failing(error))
    mdns = Mdns(new_device(), interfaces=interfaces)
    with pytest.raises(Fault) as caught:
        await mdns.start()
    assert caught.value.code == "no-multicast"
    assert caught.value.blame is Blame.ENVIRONMENT
    assert caught.value.hint
    assert mdns.peers() == ()
    await mdns.close()


async def test_a_machine_without_any_network_opens_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mdns_zeroconf, "read_interfaces", list)
    monkeypatch.setattr(mdns_zeroconf, "AsyncZeroconf", failing(AssertionError("opened")))
    with pytest.raises(Fault) as caught:
        await Mdns(new_device()).start()
    assert caught.value.code == "no-multicast"


async def test_closing_twice_or_unstarted_is_fine() -> None:
    mdns = Mdns(new_device(), interfaces=LOOPBACK)
    with mdns.watch() as watch:
        await mdns.close()
        assert [event async for event in watch] == []
    await mdns.close()


@needs_multicast
async def test_closing_before_the_announcement_is_out_leaves_nothing_behind() -> None:
    mdns = visible(new_device())
    await mdns.start()
    await mdns.close()
    await mdns.close()
