"""A user types addresses, records carry them: both must come back as they went."""

from __future__ import annotations

import pytest

from schemas.addresses import Address, read_addresses
from schemas.errors import Refused


@pytest.mark.parametrize(
    "text", ["192.0.2.7:7000", "[2001:db8::7]:7000", "relay.example:7000", "[fe80::1%2]:1", "a-b:0"]
)
def test_round_trip(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":7000",
        "host:port",
        "host:65536",
        "host:-1",
        "host:٣",
        "2001:db8::7:7000",
        "[192.0.2.7]:7000",
        "[::1:7000",
        "a b:7000",
        "-a:7000",
        "a..b:7000",
        "300.1.2.3:7000",
        "a" * 300 + ":1",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        Address.parse(text)
    assert caught.value.code == "bad-address"
    assert caught.value.hint


def test_addresses_from_others_are_few_numeric_and_each_once() -> None:
    """A name would have us ask any DNS server anything; a scope means nothing on our machine."""
    one, two = "192.0.2.7:7000", "[2001:db8::7]:7000"
    assert read_addresses([one, two, one]) == (Address.parse(one), Address.parse(two))
    for bad in ("relay.example:7000", "192.0.2.7:0", "[fe80::1%2]:7000", "192.0.2.7", ""):
        with pytest.raises(ValueError):
            read_addresses([one, bad])
    with pytest.raises(ValueError, match="too many"):
        read_addresses([one] * 9)
