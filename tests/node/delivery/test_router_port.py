"""What the router forwards goes into our record, if anybody can dial it, and the user is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from node.delivery.router_port import RouterPort
from node.delivery.whereabouts import Whereabouts
from node.engine.values import Event
from schemas.addresses import Address, AddressKind, EndpointAddress
from transport.port_mapping import Mapped, MappingProtocol, NotMapped, Outcome

OUTSIDE = Address("11.0.0.2", 40_000)


class Learning:
    """As much of Whereabouts as is needed."""

    def __init__(self) -> None:
        self.said: list[tuple[EndpointAddress, ...]] = []

    def learnt(self, source: str, *addresses: EndpointAddress) -> None:
        assert source == "mapped"
        self.said.append(addresses)


@contextmanager
def port(bound: str = "0.0.0.0") -> Iterator[tuple[RouterPort, list[Event], Learning]]:
    told: list[Event] = []
    where = Learning()
    address = Address(bound, 7000)
    yield (
        RouterPort(address, cast(Whereabouts, where), Counter(), told.append),
        told,
        where,
    )


def mapped(address: Address = OUTSIDE, until: float = 1.0) -> Outcome:
    return Mapped(address, MappingProtocol.PCP, "192.168.7.1", until)


async def test_what_is_forwarded_is_published_and_told_once() -> None:
    with port() as (router, told, where):
        for until in (1.0, 2.0):  # a renewal is no news
            router._told(mapped(until=until))
        assert where.said == [(EndpointAddress(OUTSIDE, AddressKind.PUBLIC),)]
        assert told == [Event("port-mapping", {"address": str(OUTSIDE), "protocol": "pcp"})]


async def test_what_is_gone_is_taken_back() -> None:
    with port() as (router, told, where):
        router._told(NotMapped("no-answer", "nobody"))
        assert told == []  # it never was
        router._told(mapped())
        router._told(NotMapped("no-answer", "nobody"))
        assert where.said[-1] == ()
        assert told[-1].fields == {"address": None, "protocol": None}


@pytest.mark.parametrize("host", ["192.168.0.7", "100.64.0.9", "10.0.0.1"])
async def test_an_address_behind_a_second_nat_is_told_and_not_published(host: str) -> None:
    with port() as (router, told, where):
        router._told(mapped(Address(host, 7000)))
        assert where.said == [()]
        assert told[0].fields["address"] == f"{host}:7000"


async def test_on_loopback_no_router_is_asked() -> None:
    with port("127.0.0.1") as (router, _, _):
        router.start()
        assert (router.asks, router.outcome) == (False, None)
        router.network_changed()
        await router.close()
