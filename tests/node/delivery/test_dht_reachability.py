"""Whether a node may call itself a server: contacts of different networks have to reach it."""

from __future__ import annotations

from typing import cast

import pytest

from discovery.dht.contact import DhtContact
from discovery.dht.node import DhtNode
from discovery.dht.quic import QuicRpc
from node.delivery.dht_reachability import Reachability
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS
from schemas.addresses import Address
from schemas.dht import DialedBack
from schemas.errors import Unreachable
from tests.node.delivery.support import stranger


class Contacts:
    """Each contact's host and what it says of us; None: it does not answer. As node and as rpc."""

    def __init__(self, said: dict[str, bool | None]) -> None:
        self._said = said
        self.asked: list[str] = []

    def contacts(self) -> list[DhtContact]:
        return [DhtContact(stranger(), Address(host, 7000)) for host in self._said]

    async def dial_back(self, contact: DhtContact) -> DialedBack:
        self.asked.append(contact.address.host)
        reached = self._said[contact.address.host]
        if reached is None:
            raise Unreachable("no-answer", "gone")
        return DialedBack(reached, "203.0.113.9:7000")


async def asked(fake: Contacts) -> bool | None:
    reachability = Reachability(
        cast(DhtNode, fake),
        cast(QuicRpc, fake),
        DEFAULT_DELIVERY_LIMITS,
        lambda device, teller, seen: None,
    )
    return await reachability._reached(fake.contacts())


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({"127.0.0.1": True}, True),
        ({"192.168.1.7": True, "192.168.1.8": True}, True),
        ({"8.8.8.8": True}, True),
        ({"8.8.8.8": True, "9.9.9.9": True}, True),
        ({"8.8.8.8": False, "9.9.9.9": False}, False),
        ({"8.8.8.8": True, "9.9.9.9": False}, None),
        ({"8.8.8.8": True, "9.9.9.9": None}, None),
        ({"8.8.8.8": False, "9.9.9.9": False, "192.168.1.7": True}, False),
        ({"8.8.8.1": True, "8.8.8.2": True, "9.9.9.9": False}, None),
        ({"8.8.8.8": None, "9.9.9.9": None}, None),
    ],
    ids=str,
)
async def test_verdict(said: dict[str, bool | None], verdict: bool | None) -> None:
    """Two networks agree, or the one that there is; neighbours do not speak for the Internet."""
    fake = Contacts(said)
    assert await asked(fake) is verdict


async def test_few_are_asked() -> None:
    fake = Contacts({f"8.8.{n}.8": None for n in range(100)})
    assert await asked(fake) is None
    assert len(fake.asked) == DEFAULT_DELIVERY_LIMITS.dht_reach_asked
