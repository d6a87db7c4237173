"""Endpoint records: only the device's own, fresh and dialable word counts."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.hosts import usable_host
from discovery.record import (
    CLOCK_SKEW_S,
    newest,
    open_endpoint_record_untrusted,
    sign_endpoint_record,
)
from identity import keys, signing
from schemas import limits
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.errors import Malformed, Refused
from schemas.ids import DeviceKey
from schemas.records import EndpointRecord, Signed, SignedType

DEVICE = keys.device_from_seed(b"\x02" * 32)
OTHER = keys.device_from_seed(b"\x03" * 32)
NOW = 1_800_000_000
HOME = EndpointAddress(Address("192.168.1.7", 7000), AddressKind.LAN)
RELAY = RelayAddress(Address("relay.example", 7000), OTHER.public)


def make(**changes: object) -> EndpointRecord:
    record = EndpointRecord(DEVICE.public, 5, (HOME,), (RELAY,), NOW, NOW + 3600)
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def signed_by(key: keys.KeyPair[DeviceKey], record: EndpointRecord) -> Signed:
    """Signed as a liar would: without the checks of sign_endpoint_record."""
    return signing.sign(SignedType.ENDPOINT_RECORD, key, record.encode())


def refusal(signed: Signed, now: float = NOW) -> str:
    with pytest.raises(Malformed) as caught:
        open_endpoint_record_untrusted(signed, now=now)
    return caught.value.code


def test_a_record_comes_back_as_it_was_signed() -> None:
    signed = sign_endpoint_record(DEVICE, make())
    assert open_endpoint_record_untrusted(signed, now=NOW) == make()
    assert len(signed.payload) <= limits.ENDPOINT_RECORD


def test_the_largest_record_an_honest_node_makes_fits() -> None:
    host = "2001:db8:1111:2222:3333:4444:5555:{:x}"
    addresses = tuple(
        EndpointAddress(Address(host.format(0x6660 + n), 65535), AddressKind.PUBLIC)
        for n in range(limits.ENDPOINT_ADDRESSES)
    )
    relays = tuple(
        RelayAddress(Address(f"relay{n}.example.org", 7000), OTHER.public)
        for n in range(limits.ENDPOINT_RELAYS)
    )
    record = make(addresses=addresses, relays=relays)
    opened = open_endpoint_record_untrusted(sign_endpoint_record(DEVICE, record), now=NOW)
    assert opened == record


def test_a_record_without_addresses_says_only_through_my_relays() -> None:
    signed = sign_endpoint_record(DEVICE, make(addresses=()))
    assert open_endpoint_record_untrusted(signed, now=NOW).relays == (RELAY,)


def test_a_changed_payload_or_signature_is_refused() -> None:
    signed = sign_endpoint_record(DEVICE, make())
    payload = bytearray(signed.payload)
    payload[-1] ^= 1
    assert refusal(dataclasses.replace(signed, payload=bytes(payload))) == "bad-signature"
    assert refusal(dataclasses.replace(signed, signature=bytes(64))) == "bad-signature"


def test_a_signature_of_another_purpose_is_refused() -> None:
    assert refusal(signing.sign(SignedType.STATEMENT, DEVICE, make().encode())) == "bad-signature"


def test_nobody_writes_a_record_for_another_device() -> None:
    assert refusal(signed_by(OTHER, make())) == "wrong-signer"
    with pytest.raises(Refused) as caught:
        sign_endpoint_record(OTHER, make())
    assert caught.value.code == "wrong-signer"


def test_time_bounds() -> None:
    record = signed_by(DEVICE, make())
    assert refusal(record, NOW + 3600) == "expired"
    assert open_endpoint_record_untrusted(record, now=NOW + 3599.9) == make()
    ahead = signed_by(DEVICE, make(issued=NOW + CLOCK_SKEW_S, expires=NOW + 7200))
    assert open_endpoint_record_untrusted(ahead, now=NOW).sequence == 5, (
        "clocks of honest peers differ"
    )
    assert refusal(ahead, NOW - 1) == "issued-in-future"


@pytest.mark.parametrize("lifetime", [limits.ENDPOINT_LIFETIME_S + 1, 0, -1])
def test_impossible_lifetimes(lifetime: int) -> None:
    record = make(expires=NOW + lifetime)
    assert refusal(signed_by(DEVICE, record)) == "bad-lifetime"
    with pytest.raises(Refused):
        sign_endpoint_record(DEVICE, record)


def test_too_many_addresses_are_refused_on_both_sides() -> None:
    many = make(addresses=(HOME,) * (limits.ENDPOINT_ADDRESSES + 1), relays=())
    assert refusal(signed_by(DEVICE, many)) == "malformed-endpoint-record"
    with pytest.raises(Refused):
        sign_endpoint_record(DEVICE, many)


def test_too_large_a_record_is_refused_before_parsing() -> None:
    payload = bytes(limits.ENDPOINT_RECORD + 1)
    signed = signing.sign(SignedType.ENDPOINT_RECORD, DEVICE, payload)
    assert refusal(signed) == "oversized-endpoint-record"


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.251",
        "ff02::fb",
        "255.255.255.255",
        "240.0.0.1",
        "::ffff:192.168.1.1",
        "fe80::1",
        "fe80::1%2",
        "2001:db8::1%2",
        "peer.example",
        "",
        "192.168.1",
        "1.2.3.4\n",
    ],
)
def test_an_undialable_address_is_left_out_and_the_good_one_stays(host: str) -> None:
    bad = EndpointAddress(Address(host, 7000), AddressKind.PUBLIC)
    if "\n" in host:
        assert usable_host(host, on_link=False) is None
        return
    opened = open_endpoint_record_untrusted(signed_by(DEVICE, make(addresses=(bad, HOME))), now=NOW)
    assert opened.addresses == (HOME,)


def test_port_zero_and_repeats_are_left_out_and_hosts_are_canonical() -> None:
    addresses = (
        EndpointAddress(Address("192.168.1.8", 0), AddressKind.LAN),
        EndpointAddress(Address("2001:DB8:0::1", 7000), AddressKind.PUBLIC),
        EndpointAddress(Address("2001:db8::1", 7000), AddressKind.PUBLIC),
    )
    opened = open_endpoint_record_untrusted(
        sign_endpoint_record(DEVICE, make(addresses=addresses)), now=NOW
    )
    assert [str(kept.address) for kept in opened.addresses] == ["[2001:db8::1]:7000"]


def test_relays_may_have_names_but_not_impossible_addresses() -> None:
    relays = (
        RELAY,
        RelayAddress(Address("0.0.0.0", 7000), OTHER.public),
        RelayAddress(Address("relay.example", 0), OTHER.public),
        RelayAddress(Address("", 7000), OTHER.public),
    )
    opened = open_endpoint_record_untrusted(
        sign_endpoint_record(DEVICE, make(relays=relays)), now=NOW
    )
    assert opened.relays == (RELAY,)


def test_newest_number_wins_and_readers_agree_on_a_repeated_one() -> None:
    old, new = make(sequence=1), make(sequence=2, issued=NOW - 10)
    assert newest(old, new) == newest(new, old) == new
    clone = make(relays=())
    assert newest(make(), clone) == newest(clone, make())
    with pytest.raises(ValueError, match="two devices"):
        newest(old, make(device=OTHER.public))


def test_an_address_of_an_unknown_kind_is_malformed_and_no_crash() -> None:
    payload = make().encode()
    other = make(addresses=(dataclasses.replace(HOME, kind=AddressKind.PUNCHED),)).encode()
    (at,) = (n for n, (a, b) in enumerate(zip(payload, other, strict=True)) if a != b)
    unknown = payload[:at] + b"\x09" + payload[at + 1 :]
    signed = signing.sign(SignedType.ENDPOINT_RECORD, DEVICE, unknown)
    assert refusal(signed) == "malformed-endpoint-record"


@given(payload=st.binary(max_size=1100), signature=st.binary(min_size=64, max_size=64))
def test_garbage_raises_only_malformed(payload: bytes, signature: bytes) -> None:
    with pytest.raises(Malformed):
        open_endpoint_record_untrusted(Signed(payload, DEVICE.public, signature), now=NOW)


@given(payload=st.binary(max_size=1100))
def test_garbage_with_a_true_signature_raises_only_malformed(payload: bytes) -> None:
    signed = signing.sign(SignedType.ENDPOINT_RECORD, DEVICE, payload)
    with pytest.raises(Malformed):
        open_endpoint_record_untrusted(signed, now=NOW)


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=6))
def test_a_signed_record_with_flipped_bytes_opens_or_is_malformed(
    flips: list[tuple[int, int]],
) -> None:
    payload = bytearray(make().encode())
    for at, mask in flips:
        payload[at % len(payload)] ^= mask
    signed = signing.sign(SignedType.ENDPOINT_RECORD, DEVICE, bytes(payload))
    try:
        opened = open_endpoint_record_untrusted(signed, now=NOW)
    except Malformed:
        return
    for kept in opened.addresses:
        assert usable_host(kept.address.host, on_link=False) == kept.address.host
        assert kept.address.port


@given(st.text(max_size=80))
def test_usable_host_takes_any_text(host: str) -> None:
    usable_host(host, on_link=True)
