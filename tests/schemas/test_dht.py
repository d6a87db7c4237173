"""The DHT's frames: what is written is read, what is too long or too many is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import limits
from schemas.addresses import Address
from schemas.dht import (
    Contacts,
    DhtError,
    DhtRequest,
    DhtResponse,
    DialBack,
    DialedBack,
    FindNode,
    FindValue,
    ReadContact,
    Store,
    Stored,
    Values,
    decode_dht_request,
    decode_dht_response,
    encode_dht_request,
    encode_dht_response,
)
from schemas.errors import Malformed
from schemas.ids import DeviceKey, DhtId
from schemas.records import Signed
from tests.schemas.samples import DHT_REQUESTS, DHT_RESPONSES

KEY = DhtId(b"k" * 32)
LONGEST = "2001:0db8:1111:2222:3333:4444:5555:6666"
FULL = Signed(b"p" * limits.DHT_VALUE, b"s" * 32, b"t" * 64)
contacts = st.builds(
    ReadContact,
    st.binary(min_size=32, max_size=32).map(DeviceKey),
    st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65535)),
)
signed = st.builds(
    Signed,
    st.binary(max_size=limits.DHT_VALUE),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
)
keys = st.binary(min_size=32, max_size=32).map(DhtId)
told = st.lists(contacts, max_size=limits.DHT_CONTACTS).map(tuple)
words = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f"), max_size=60)


@given(
    st.one_of(
        st.builds(FindNode, keys, st.booleans()),
        st.builds(FindValue, keys),
        st.builds(Store, keys, signed),
        st.builds(DialBack),
    )
)
def test_requests_come_as_they_went(request: DhtRequest) -> None:
    assert decode_dht_request(encode_dht_request(request)) == request


@given(
    st.one_of(
        st.builds(Contacts, told),
        st.builds(Values, st.lists(signed, max_size=3).map(tuple), told),
        st.builds(Stored),
        st.builds(DialedBack, st.booleans(), words),
        st.builds(DhtError, words, words),
    )
)
def test_responses_come_as_they_went(response: DhtResponse) -> None:
    encoded = encode_dht_response(response, "203.0.113.7:7000")
    assert decode_dht_response(encoded) == (response, "203.0.113.7:7000")


def test_the_largest_that_may_be_sent_fits() -> None:
    assert decode_dht_request(encode_dht_request(Store(KEY, FULL))) == Store(KEY, FULL)
    contact = ReadContact(DeviceKey(b"d" * 32), Address(LONGEST, 65535))
    values = Values((FULL,) * limits.DHT_VALUES, (contact,) * limits.DHT_CONTACTS)
    assert decode_dht_response(encode_dht_response(values, f"[{LONGEST}]:65535"))[0] == values


def test_too_many_and_too_long_are_refused() -> None:
    contact = ReadContact(DeviceKey(b"d" * 32), Address("203.0.113.7", 7000))
    small = Signed(b"p", b"s" * 32, b"t" * 64)
    long = Signed(b"p" * (limits.DHT_VALUE + 1), b"s" * 32, b"t" * 64)
    responses: list[DhtResponse] = [
        Contacts((contact,) * (limits.DHT_CONTACTS + 1)),
        Values((), (contact,) * (limits.DHT_CONTACTS + 1)),
        Values((small,) * (limits.DHT_VALUES + 1), ()),
        Values((long,), ()),
        Contacts((ReadContact(DeviceKey(b"d" * 32), Address("a" * 65, 1)),)),
        DhtError("c" * 256, ""),
    ]
    for response in responses:
        with pytest.raises(Malformed):
            decode_dht_response(encode_dht_response(response, ""))
    with pytest.raises(Malformed):
        decode_dht_response(encode_dht_response(Stored(), "h" * 256))
    with pytest.raises(Malformed):
        decode_dht_request(encode_dht_request(Store(KEY, long)))
    with pytest.raises(Malformed, match="limit"):
        decode_dht_request(bytes(limits.DHT_REQUEST + 8))
    with pytest.raises(Malformed, match="limit"):
        decode_dht_response(bytes(limits.DHT_RESPONSE + 8))


@given(st.binary(max_size=300), st.integers(0, 300))
def test_rubbish_is_malformed_and_nothing_else(data: bytes, cut: int) -> None:
    for read in (decode_dht_request, decode_dht_response):
        for bytes_ in (data, encode_dht_request(DHT_REQUESTS[0])[:cut] + data):
            try:
                read(bytes_)
            except Malformed:
                continue


def test_every_kind_has_a_sample() -> None:
    assert {type(each) for each in DHT_REQUESTS} == {FindNode, FindValue, Store, DialBack}
    assert {type(each) for each in DHT_RESPONSES} == {
        Contacts,
        Values,
        Stored,
        DialedBack,
        DhtError,
    }
