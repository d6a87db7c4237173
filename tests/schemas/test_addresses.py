"""A user types addresses, records carry them: both must come back as they went."""

from __future__ import annotations

import pytest

from schemas.addresses import Address
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
