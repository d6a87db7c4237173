"""What a node keeps for others: checked when it comes, bounded, nobody's pushes another's out."""

from __future__ import annotations

import dataclasses

import pytest

from discovery.dht.contact import node_id
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.store import ValueStore
from discovery.record import CLOCK_SKEW_S
from identity.signing import sign
from schemas.addresses import Address
from schemas.dht import DhtValue
from schemas.errors import Malformed, Refused
from schemas.ids import DhtId
from schemas.limits import DHT_VALUE
from schemas.records import Signed, SignedType
from tests.discovery.dht.net import KEY, START, record_of, signer, value_of

LIMITS = DEFAULT_DHT_LIMITS
HERE = Address("203.0.113.7", 7000)
OTHER_KEY = DhtId(b"k" * 32)


def place(number: int, host: int = 1) -> Address:
    """In a /24 of its own."""
    return Address(f"20.{number >> 8}.{number & 255}.{host}", 7000)


@pytest.fixture
def store() -> ValueStore:
    return ValueStore(LIMITS)


def refused(store: ValueStore, value: Signed, *, key: DhtId = KEY, at: Address = HERE) -> str:
    before = len(store)
    with pytest.raises((Malformed, Refused)) as caught:
        store.put(key, value, at, START)
    assert len(store) == before
    assert value not in store.get(key, START)
    return caught.value.code


def test_what_is_put_is_there_until_it_expires(store: ValueStore) -> None:
    value = value_of(signer(1), lives_s=100)
    store.put(KEY, value, HERE, START)
    assert store.get(KEY, START + 99) == [value]
    assert store.get(KEY, START + 100) == []
    assert len(store) == 0


def test_what_nobody_asks_for_goes_too(store: ValueStore) -> None:
    store.put(KEY, value_of(signer(1), lives_s=100), HERE, START)
    store.sweep(START + 99)
    assert len(store) == 1
    store.sweep(START + 100)
    assert len(store) == 0


def test_a_forged_value_is_refused(store: ValueStore) -> None:
    value = value_of(signer(1))
    assert refused(store, dataclasses.replace(value, signer=bytes(signer(2).public))) == (
        "bad-signature"
    )
    assert refused(store, dataclasses.replace(value, signature=bytes(64))) == "bad-signature"


def test_a_forged_public_record_is_refused(store: ValueStore) -> None:
    device = signer(1)
    forged = dataclasses.replace(record_of(device), signature=bytes(64))
    assert refused(store, forged, key=node_id(device.public)) == "bad-signature"


def test_another_kind_of_signature_is_none(store: ValueStore) -> None:
    """What somebody signed elsewhere is not made a DHT value."""
    payload = DhtValue(KEY, 1, int(START), int(START) + 60, b"sealed").encode()
    assert refused(store, sign(SignedType.STATEMENT, signer(1), payload)) == "bad-signature"


def test_an_oversized_value_is_refused(store: ValueStore) -> None:
    payload = value_of(signer(1)).payload.ljust(DHT_VALUE + 8, b"\0")
    value = sign(SignedType.DHT_VALUE, signer(1), payload)
    assert refused(store, value) == "oversized-dht-value"


def test_a_value_for_another_place_is_refused(store: ValueStore) -> None:
    """Else whoever keeps one could have it kept everywhere."""
    assert refused(store, value_of(signer(1), OTHER_KEY)) == "wrong-cell"


def test_an_expired_value_is_refused(store: ValueStore) -> None:
    assert refused(store, value_of(signer(1), now=START - 100, lives_s=100)) == "expired"


def test_a_far_future_value_is_refused(store: ValueStore) -> None:
    store.put(KEY, value_of(signer(1), now=START + CLOCK_SKEW_S), HERE, START)
    late = value_of(signer(2), now=START + CLOCK_SKEW_S + 1)
    assert refused(store, late) == "issued-in-future"


def test_an_endless_value_is_refused(store: ValueStore) -> None:
    store.put(KEY, value_of(signer(1), lives_s=48 * 3600), HERE, START)
    assert refused(store, value_of(signer(2), lives_s=48 * 3600 + 1)) == "bad-lifetime"
    assert refused(store, value_of(signer(2), lives_s=0)) == "bad-lifetime"


def test_the_same_rules_hold_for_public_records(store: ValueStore) -> None:
    device = signer(1)
    key = node_id(device.public)
    assert refused(store, record_of(device, now=START - 7200), key=key) == "expired"
    assert refused(store, record_of(device, now=START + 7200), key=key) == "issued-in-future"
    assert refused(store, record_of(device, lives_s=49 * 3600), key=key) == "bad-lifetime"
    store.put(key, record_of(device), HERE, START)
    assert store.get(key, START) == [record_of(device)]


def test_a_newer_value_replaces_and_an_older_one_does_not(store: ValueStore) -> None:
    first, second = value_of(signer(1), sequence=1), value_of(signer(1), sequence=2)
    store.put(KEY, first, HERE, START)
    store.put(KEY, second, HERE, START)
    store.put(KEY, second, HERE, START)
    with pytest.raises(Refused) as caught:
        store.put(KEY, first, HERE, START)
    assert caught.value.code == "rolled-back"
    assert store.get(KEY, START) == [second]
    device = signer(2)
    key = node_id(device.public)
    store.put(key, record_of(device, sequence=2), HERE, START)
    assert refused(store, record_of(device, sequence=1), key=key) == "rolled-back"


def test_a_full_cell_refuses_newcomers_and_keeps_the_owners(store: ValueStore) -> None:
    """A contact who knows the cell cannot push the owner's value out of it."""
    owners = value_of(signer(1))
    store.put(KEY, owners, place(1), START)
    for number in range(2, LIMITS.cell_values + 1):
        store.put(KEY, value_of(signer(number)), place(number), START)
    for number in range(100, 120):
        assert refused(store, value_of(signer(number)), at=place(number)) == "cell-full"
    assert store.get(KEY, START)[0] == owners
    newer = value_of(signer(1), sequence=2)
    store.put(KEY, newer, place(50), START)  # the owner moved
    assert newer in store.get(KEY, START)
    assert len(store) == LIMITS.cell_values


def test_one_network_does_not_fill_a_cell(store: ValueStore) -> None:
    for number in range(LIMITS.per_prefix):
        store.put(KEY, value_of(signer(number)), place(1, number + 1), START)
    assert refused(store, value_of(signer(99)), at=place(1, 99)) == "prefix-full"
    store.put(KEY, value_of(signer(98)), place(2), START)
    sixth = Address("2001:db8:1:200::1", 7000)
    store.put(KEY, value_of(signer(97)), sixth, START)
    assert len(store) == LIMITS.cell_values


def test_nodes_of_one_machine_are_not_one_network(store: ValueStore) -> None:
    for number in range(LIMITS.cell_values):
        store.put(KEY, value_of(signer(number)), Address("127.0.0.1", 7000 + number), START)
    assert len(store) == LIMITS.cell_values


def test_strangers_cannot_fill_the_place_of_a_public_record(store: ValueStore) -> None:
    device = signer(1)
    key = node_id(device.public)
    for number in range(2, 2 + LIMITS.cell_values):
        store.put(key, value_of(signer(number), key), place(number), START)
    store.put(key, record_of(device), HERE, START)
    assert record_of(device) in store.get(key, START)


def test_one_network_does_not_fill_the_store() -> None:
    store = ValueStore(dataclasses.replace(LIMITS, values_per_prefix=3))
    keys = [DhtId(bytes([number]) * 32) for number in range(5)]
    for key in keys[:3]:
        store.put(key, value_of(signer(1), key), HERE, START)
    assert refused(store, value_of(signer(1), keys[3]), key=keys[3]) == "prefix-full"
    store.put(keys[3], value_of(signer(1), keys[3]), place(1), START)
    store.sweep(START + 7200)
    store.put(keys[4], value_of(signer(1), keys[4], now=START + 7200), HERE, START + 7200)


@pytest.mark.parametrize("prefix", ["20.7.{}.1", "2001:db8:0:{}00::1"])
def test_the_owner_of_many_prefixes_does_not_fill_the_store(prefix: str) -> None:
    store = ValueStore(dataclasses.replace(LIMITS, values_per_region=3))
    places = [Address(prefix.format(number), 7000) for number in range(4)]
    keys = [DhtId(bytes([number]) * 32) for number in range(5)]
    for key, where in zip(keys[:3], places[:3], strict=True):
        store.put(key, value_of(signer(1), key), where, START)
    late = value_of(signer(1), keys[3])
    assert refused(store, late, key=keys[3], at=places[3]) == "prefix-full"
    store.put(keys[3], late, HERE, START)
    store.sweep(START + 7200)
    store.put(keys[4], value_of(signer(1), keys[4], now=START + 7200), places[3], START + 7200)


def test_a_full_store_refuses_and_keeps() -> None:
    store = ValueStore(dataclasses.replace(LIMITS, values=3))
    keys = [DhtId(bytes([number]) * 32) for number in range(4)]
    for number, key in enumerate(keys[:3]):
        store.put(key, value_of(signer(1), key), place(number), START)
    assert refused(store, value_of(signer(1), keys[3]), key=keys[3], at=place(9)) == "store-full"
    newer = value_of(signer(1), keys[0], sequence=2)
    store.put(keys[0], newer, place(0), START)
    assert store.get(keys[0], START) == [newer]
