"""A relay's address: what users paste, records carry, and every node orders in the same way."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import limits
from schemas.addresses import Address, RelayAddress, each_once
from schemas.card import Card
from schemas.errors import Malformed, Refused
from schemas.ids import DeviceKey
from schemas.records import BundleCore, EndpointRecord, _record
from tests.schemas.samples import PERSON, D, E

KEY = DeviceKey(bytes(range(32)))
OTHER = DeviceKey(bytes(range(1, 33)))
THREE = RelayAddress.parse(f"relay.example:7000,192.0.2.7:7001,[2001:db8::7]:7002#{KEY}")

_labels = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
_hosts = st.one_of(
    _labels,
    st.builds("{}.{}".format, _labels, _labels),
    st.ip_addresses().map(str),
)
_addresses = st.builds(Address, _hosts, st.integers(1, 65535))
_processes = st.lists(_addresses, min_size=1, max_size=limits.RELAY_PROCESSES, unique=True)
_devices = st.binary(min_size=32, max_size=32).map(DeviceKey)


def _relay(processes: list[Address], device: DeviceKey = KEY) -> RelayAddress:
    return RelayAddress(processes[0], device, tuple(processes[1:]))


@given(_processes, _devices)
def test_text_and_wire_bring_back_what_went(processes: list[Address], device: DeviceKey) -> None:
    relay = _relay(processes, device)
    assert RelayAddress.parse(str(relay)) == relay
    assert RelayAddress.from_wire(*relay.on_wire, device) == relay
    record = EndpointRecord(E, 1, (), (relay,), 1, 2)
    if len(record.encode()) <= limits.ENDPOINT_RECORD:
        assert EndpointRecord.decode(record.encode()) == record
    core = BundleCore(PERSON, 1, "Ann", (), (relay, _relay(processes[:1], OTHER)))
    assert BundleCore.decode(core.encode()) == core


@given(st.text(max_size=80), st.text(alphabet="abc.:,[]#0123456789 ", max_size=80))
def test_any_text_is_an_address_or_refused(where: str, more: str) -> None:
    for text in (where, more, f"{more}#{KEY}", f"a:1,{more}#{KEY}"):
        try:
            relay = RelayAddress.parse(text)
        except Refused:
            continue
        assert RelayAddress.parse(str(relay)) == relay


@given(st.text(max_size=80), st.integers(0, 65535))
def test_any_host_on_the_wire_is_a_relay_or_malformed(host: str, port: int) -> None:
    message = _record.EndpointRecord.new_message(device=bytes(E), sequence=1)
    [slot] = message.init("relays", 1)
    try:
        slot.host = host
    except (UnicodeEncodeError, ValueError):
        return
    slot.port, slot.device = port, bytes(KEY)
    try:
        record = EndpointRecord.decode(bytes(message.to_bytes()))
    except Malformed:
        return
    assert 1 <= len(record.relays[0].processes) <= limits.RELAY_PROCESSES


def test_one_process_is_written_as_it_always_was() -> None:
    """Bytes of a bundle are hashed into cards, and older nodes read them."""
    one = RelayAddress(Address("relay.example", 7000), KEY)
    assert one.on_wire == ("relay.example", 7000)
    assert str(one) == f"relay.example:7000#{KEY}"
    assert one.processes == (one.address,)


@pytest.mark.parametrize(
    "where",
    [
        "",
        ",",
        "a:1,",
        ",a:1",
        "a:1,,b:2",
        "a:1;b:2",
        "a:1,b:x",
        ",".join(f"h{n}:1" for n in range(limits.RELAY_PROCESSES + 1)),
        ",".join(f"{'n' * 63}.{'m' * 60}{n}.org:7000" for n in range(4)),
    ],
)
def test_lists_that_are_none_are_refused(where: str) -> None:
    with pytest.raises(Refused) as caught:
        RelayAddress.parse(f"{where}#{KEY}")
    assert caught.value.code == "bad-relay"
    assert caught.value.hint
    if "," in where:
        with pytest.raises(ValueError):
            RelayAddress.from_wire(where, 0, KEY)


def test_a_process_named_twice_counts_once() -> None:
    assert RelayAddress.parse(f"a:1,b:2,a:1#{KEY}").processes == (Address("a", 1), Address("b", 2))
    with pytest.raises(ValueError):
        RelayAddress(Address("a", 1), KEY, (Address("a", 1),))


def test_two_lists_of_one_key_are_one_relay() -> None:
    """A contact's bundle is older than their record: still one relay, not two to deliver to."""
    a, b, c = (Address(name, 1) for name in "abc")
    found = each_once([_relay([a, b]), _relay([a], OTHER), _relay([c, a])])
    assert found == [_relay([a, b, c]), _relay([a], OTHER)]


@given(st.lists(_addresses, min_size=1, max_size=20))
def test_too_many_processes_are_cut_not_refused(processes: list[Address]) -> None:
    [relay] = each_once(_relay([each]) for each in processes)
    assert RelayAddress.parse(str(relay)) == relay


# --- which process


@given(_processes, _devices, st.randoms())
def test_everybody_finds_the_same_order(
    processes: list[Address], owner: DeviceKey, by: random.Random
) -> None:
    """Sender and recipient hold the list in different orders, and meet at one process."""
    shuffled = list(processes)
    by.shuffle(shuffled)
    assert _relay(shuffled).order_for(owner) == _relay(processes).order_for(owner)


@given(_processes.filter(lambda each: len(each) > 1), _devices, st.data())
def test_a_process_that_goes_moves_only_its_own(
    processes: list[Address], owner: DeviceKey, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(processes))
    left = [each for each in processes if each != gone]
    before = _relay(processes).order_for(owner)
    assert _relay(left).order_for(owner) == tuple(each for each in before if each != gone)


def test_devices_spread_evenly() -> None:
    relay = _relay([Address("relay.example", 7000 + n) for n in range(4)])
    first = Counter(relay.order_for(DeviceKey(n.to_bytes(32, "big")))[0] for n in range(2000))
    assert len(first) == 4
    assert min(first.values()) > 400
    assert max(first.values()) < 600


# --- where it must be short


def test_a_card_names_the_process_nearest_to_its_owner() -> None:
    short = THREE.nearest(D, 1)
    assert short.processes == THREE.order_for(D)[:1]
    card = Card(PERSON, D, b"s" * 32, 1, b"h" * 32, 2**31, relay=short)
    assert Card.parse(str(card)) == card
    with pytest.raises(ValueError):
        dataclasses.replace(card, relay=THREE).encode()
