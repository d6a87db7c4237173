"""The resolver: every source has its say, none can hurt the others, the newest record counts."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from collections.abc import Sequence

from discovery.record import sign_endpoint_record
from discovery.resolver import CANDIDATES, LEADS_PER_SOURCE, PER_HOST, Found, Resolver
from discovery.scope import OwnNetworks
from discovery.sources import Hint, HintSource, Lead, RecordSource
from identity import keys, signing
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.errors import Blame, Fault, Unreachable
from schemas.ids import DeviceKey
from schemas.records import EndpointRecord, Signed, SignedType

DEVICE = keys.device_from_seed(b"\x02" * 32)
OTHER = keys.device_from_seed(b"\x03" * 32)
NOW = 1_800_000_000.0
EVERYWHERE = OwnNetworks((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
RELAY = RelayAddress(Address("relay.example", 7000), OTHER.public)


@dataclasses.dataclass
class Fixed:
    """A source that says what it was told to, or fails as it was told to."""

    name: str
    leads: Sequence[Lead] = ()
    failure: BaseException | None = None

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        if self.failure is not None:
            raise self.failure
        return self.leads


class Silent:
    """A source that never answers, and notices when it is given up."""

    name = "silent"
    cancelled = False

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled = True
        return ()


def lan(host: str) -> EndpointAddress:
    return EndpointAddress(Address(host, 7000), AddressKind.LAN)


def public(host: str) -> EndpointAddress:
    return EndpointAddress(Address(host, 7000), AddressKind.PUBLIC)


def record(
    sequence: int, *addresses: EndpointAddress, relays: tuple[RelayAddress, ...] = ()
) -> Signed:
    issued = int(NOW) - 1000 + sequence
    return sign_endpoint_record(
        DEVICE,
        EndpointRecord(DEVICE.public, sequence, addresses, relays, issued, int(NOW) + 3600),
    )


def resolver(*sources: Fixed | Silent, deadline_s: float = 5.0) -> Resolver:
    return Resolver(sources, clock=lambda: NOW, deadline_s=deadline_s, networks=lambda: EVERYWHERE)


def shown(found: Sequence[Found]) -> list[tuple[str, tuple[str, ...]]]:
    return [(entry.address.address.host, entry.sources) for entry in found]


async def test_no_sources_no_addresses() -> None:
    nothing = await resolver().resolve(DEVICE.public)
    assert (nothing.found, nothing.record, nothing.signed, nothing.relays) == ((), None, None, ())


async def test_lan_comes_first_and_every_address_says_where_it_is_from() -> None:
    answer = await resolver(
        Fixed("card", [Hint(public("203.0.113.5"), 10.0)]),
        Fixed("record", [record(1, public("198.51.100.7"), lan("192.168.1.7"))]),
        Fixed("mdns", [Hint(lan("192.168.1.7"), NOW - 3), Hint(lan("192.168.1.8"), NOW - 3)]),
    ).resolve(DEVICE.public)
    assert shown(answer.found) == [
        ("192.168.1.7", ("mdns", "record")),
        ("192.168.1.8", ("mdns",)),
        ("203.0.113.5", ("card",)),
        ("198.51.100.7", ("record",)),
    ]
    assert [entry.learnt_at for entry in answer.found] == [NOW - 3, NOW - 3, 10.0, NOW - 999]
    assert answer.found[0].source == "mdns"


async def test_the_newest_record_counts_wherever_it_is_from() -> None:
    old = record(1, lan("192.168.1.1"), relays=(RELAY,))
    new = record(2, lan("192.168.1.2"))
    for first, second in ((old, new), (new, old)):
        answer = await resolver(Fixed("record", [first]), Fixed("relay", [second])).resolve(
            DEVICE.public
        )
        assert [host for host, _ in shown(answer.found)] == ["192.168.1.2"]
        assert answer.signed == new
        assert answer.record is not None
        assert answer.record.sequence == 2
        assert answer.relays == ()


async def test_an_address_that_its_owner_calls_punched_is_that_though_the_card_looks_open() -> None:
    punched = EndpointAddress(Address("11.0.0.1", 7000), AddressKind.PUNCHED)
    for sources in (
        (Fixed("card", [Hint(public("11.0.0.1"), NOW)]), Fixed("relay", [record(1, punched)])),
        (Fixed("relay", [record(1, punched)]), Fixed("card", [Hint(public("11.0.0.1"), NOW)])),
    ):
        answer = await resolver(*sources).resolve(DEVICE.public)
        assert [found.address for found in answer.found] == [punched]


async def test_one_record_from_two_sources_names_both() -> None:
    signed = record(1, lan("192.168.1.1"), relays=(RELAY,))
    answer = await resolver(Fixed("record", [signed]), Fixed("relay", [signed])).resolve(
        DEVICE.public
    )
    assert shown(answer.found) == [("192.168.1.1", ("record", "relay"))]
    assert answer.relays == (RELAY,)


async def test_a_forged_newer_record_changes_nothing_and_is_counted() -> None:
    good = record(1, lan("192.168.1.1"))
    forged = dataclasses.replace(record(9, lan("10.6.6.6")), signature=bytes(64))
    others = sign_endpoint_record(
        OTHER,
        EndpointRecord(OTHER.public, 9, (lan("10.6.6.6"),), (), int(NOW), int(NOW) + 10),
    )
    impostor = signing.sign(SignedType.ENDPOINT_RECORD, OTHER, record(9).payload)
    asked = resolver(Fixed("record", [good]), Fixed("relay", [forged, others, impostor]))
    answer = await asked.resolve(DEVICE.public)
    assert shown(answer.found) == [("192.168.1.1", ("record",))]
    assert asked.counts == {
        ("relay", "bad-signature"): 1,
        ("relay", "wrong-device"): 1,
        ("relay", "wrong-signer"): 1,
    }


async def test_a_record_is_checked_again_at_every_get() -> None:
    now = NOW
    asked = Resolver(
        [Fixed("record", [record(1, lan("192.168.1.1"))])],
        clock=lambda: now,
        networks=lambda: EVERYWHERE,
    )
    assert (await asked.resolve(DEVICE.public)).found
    now += 4000
    assert not (await asked.resolve(DEVICE.public)).found
    assert asked.counts["record", "expired"] == 1


async def test_failing_sources_cost_only_their_own_answer() -> None:
    asked = resolver(
        Fixed("relay", failure=Unreachable("no-route", "gone")),
        Fixed("odd", failure=Fault("odd-code", "odd", blame=Blame.PEER)),
        Fixed("system", failure=ConnectionRefusedError()),
        Fixed("broken", failure=ZeroDivisionError()),
        Fixed("mdns", [Hint(lan("192.168.1.7"), NOW)]),
    )
    answer = await asked.resolve(DEVICE.public)
    assert shown(answer.found) == [("192.168.1.7", ("mdns",))]
    assert answer.failures == {
        "relay": "no-route",
        "odd": "odd-code",
        "system": "os-error",
        "broken": "bug",
    }
    assert sum(asked.counts.values()) == 4


async def test_a_late_source_is_given_up_at_the_deadline() -> None:
    silent = Silent()
    asked = resolver(silent, Fixed("mdns", [Hint(lan("192.168.1.7"), NOW)]), deadline_s=60)
    answer = await asked.resolve(DEVICE.public, deadline_s=0.01)
    assert answer.failures == {"silent": "deadline"}
    assert silent.cancelled
    assert len(answer.found) == 1
    assert asked.counts["silent", "deadline"] == 1


async def test_who_is_in_a_hurry_does_not_wait_for_others_elsewhere() -> None:
    """A dial to a known address would wait for a relay, and the DHT be asked for nothing."""
    asked = Resolver(
        [Silent(), Fixed("mdns", [Hint(lan("192.168.1.7"), NOW)])],
        clock=lambda: NOW,
        elsewhere=["silent"],
    )
    async with asyncio.timeout(5):
        answer = await asked.resolve(DEVICE.public, deadline_s=60)
    assert len(answer.found) == 1
    assert not answer.failures


async def test_giving_up_resolving_gives_up_the_sources() -> None:
    silent = Silent()
    async with asyncio.timeout(5):
        task = asyncio.create_task(resolver(silent).resolve(DEVICE.public))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert silent.cancelled


async def test_outputs_are_bounded_and_a_flooding_source_leaves_room_for_others() -> None:
    flood = [Hint(lan(f"10.6.6.{n}"), NOW) for n in range(1, 200)]
    more = [Hint(lan(f"10.7.7.{n}"), NOW) for n in range(1, 200)]
    asked = resolver(
        Fixed("mdns", flood), Fixed("card", more), Fixed("record", [record(1, public("9.9.9.9"))])
    )
    answer = await asked.resolve(DEVICE.public)
    assert len(answer.found) == CANDIDATES
    assert "9.9.9.9" in [host for host, _ in shown(answer.found)]
    assert asked.counts["mdns", "too-many"] == 199 - LEADS_PER_SOURCE


async def test_undialable_hints_are_left_out_and_counted() -> None:
    hints = [Hint(lan(host), NOW) for host in ("0.0.0.0", "peer.example", "fe80::1")]
    asked = resolver(Fixed("card", [*hints, Hint(lan("FE80::1%eth0"), NOW)]))
    answer = await asked.resolve(DEVICE.public)
    assert [host for host, _ in shown(answer.found)] == ["fe80::1%eth0"]
    assert asked.counts["card", "unusable"] == 3


async def test_no_address_is_from_the_future() -> None:
    answer = await resolver(Fixed("card", [Hint(lan("10.0.0.1"), NOW + 500)])).resolve(
        DEVICE.public
    )
    assert answer.found[0].learnt_at == NOW


async def test_sources_over_callables() -> None:
    async def hints(device: DeviceKey) -> Sequence[tuple[Address, float]]:
        return [(Address("192.168.1.9", 7000), 5.0)]

    async def held(device: DeviceKey) -> Sequence[Signed]:
        return [record(2, public("198.51.100.2"))]

    async def ask(device: DeviceKey) -> Sequence[Signed]:
        return [record(3, public("198.51.100.3"))]

    asked = Resolver(
        [HintSource(hints), RecordSource(held, "record"), RecordSource(ask, "relay")],
        clock=lambda: NOW,
        networks=lambda: EVERYWHERE,
    )
    answer = await asked.resolve(DEVICE.public)
    assert shown(answer.found) == [("192.168.1.9", ("card",)), ("198.51.100.3", ("relay",))]
    assert answer.found[0].address.kind is AddressKind.LAN


async def test_a_records_private_address_is_of_use_on_its_own_network_only() -> None:
    said = record(1, lan("192.168.1.7"), public("11.0.0.7"), lan("10.9.9.9"))
    home = OwnNetworks((ipaddress.ip_network("192.168.1.0/24"),))
    asked = Resolver(
        [Fixed("record", [said]), Fixed("card", [Hint(lan("10.1.2.3"), 0.0)])],
        clock=lambda: NOW,
        networks=lambda: home,
    )
    answer = await asked.resolve(DEVICE.public)
    hosts = {host for host, _ in shown(answer.found)}
    assert hosts == {"192.168.1.7", "11.0.0.7", "10.1.2.3"}  # a card's hint is the user's own word
    assert asked.counts["record", "other-network"] == 1


async def test_a_record_makes_us_dial_few_ports_of_one_host() -> None:
    """Eight ports of a victim would get eight handshakes of everybody who looks for its author."""
    ports = [EndpointAddress(Address("11.0.0.7", port), AddressKind.PUBLIC) for port in range(1, 8)]
    said = record(1, *ports, public("11.0.0.8"))
    asked = resolver(Fixed("record", [said]), Fixed("relay", [said]))
    answer = await asked.resolve(DEVICE.public)
    hosts = [host for host, _ in shown(answer.found)]
    assert sorted(hosts) == ["11.0.0.7"] * PER_HOST + ["11.0.0.8"]
    assert asked.counts["record", "same-host"] == len(ports) - PER_HOST
