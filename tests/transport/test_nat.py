"""What stands before us is told from what others saw, and no single one of them decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import Address
from tests.transport.support import ALPN, Inbox, Open, within
from transport.nat import DialBack, Nat, NatFiltering, NatMapping, Sighting, infer
from transport.strangers import Strangers

OWN = ("192.168.1.100",)
HOME = Address("11.9.0.1", 7000)


def at(place: int, host: int = 1) -> Address:
    return Address(f"11.0.{place}.{host}", 7000)


def seen(*addresses: Address) -> list[Sighting]:
    """By one observer each, in different networks."""
    return [Sighting(at(place), address) for place, address in enumerate(addresses)]


def port(number: int) -> Address:
    return Address(HOME.host, number)


@pytest.mark.parametrize(
    ("addresses", "mapping", "agree"),
    [
        ([], NatMapping.UNKNOWN, 0),
        ([HOME], NatMapping.UNKNOWN, 1),  # one sees one port, whatever the router does
        ([HOME, HOME], NatMapping.ENDPOINT_INDEPENDENT, 2),
        ([port(1), port(2)], NatMapping.ADDRESS_DEPENDENT, 1),
        ([port(1), port(2), port(3)], NatMapping.ADDRESS_DEPENDENT, 1),
        ([HOME, HOME, port(9)], NatMapping.ENDPOINT_INDEPENDENT, 2),  # one lies
        ([HOME, HOME, port(9), port(9)], NatMapping.UNKNOWN, 2),
        ([HOME, Address("11.9.0.2", 7000)], NatMapping.ADDRESS_DEPENDENT, 1),  # a pool of hosts
    ],
)
def test_mapping(addresses: list[Address], mapping: NatMapping, agree: int) -> None:
    nat = infer(OWN, seen(*addresses))
    assert (nat.mapping, nat.agree, nat.observers) == (mapping, agree, len(addresses))


def test_who_has_the_address_that_others_see_is_behind_no_nat() -> None:
    assert infer((HOME.host, *OWN), seen(HOME)).mapping == NatMapping.NONE


def test_a_single_liar_does_not_make_a_nat_vanish() -> None:
    lie = Address("11.66.6.6", 7000)
    assert infer((HOME.host,), seen(HOME, HOME, lie)).mapping == NatMapping.NONE
    assert infer(OWN, seen(HOME, HOME, Address(OWN[0], 7000))).seen == HOME


@pytest.mark.parametrize(
    ("reached", "filtering"),
    [
        ([], NatFiltering.UNKNOWN),
        ([True], NatFiltering.ADDRESS_DEPENDENT),
        ([False], NatFiltering.ADDRESS_AND_PORT_DEPENDENT),
        ([False, True], NatFiltering.UNKNOWN),
        ([True, True, False], NatFiltering.ADDRESS_DEPENDENT),
        ([True, False, False], NatFiltering.ADDRESS_AND_PORT_DEPENDENT),
    ],
)
def test_filtering(reached: list[bool], filtering: NatFiltering) -> None:
    backs = [DialBack(at(place), each) for place, each in enumerate(reached)]
    nat = infer(OWN, [], backs)
    assert (nat.filtering, nat.tested) == (filtering, len(reached))
    assert infer(OWN, [], backs, strangers=True).filtering == NatFiltering.ENDPOINT_INDEPENDENT


def test_a_network_is_heard_once_and_its_last_word_counts() -> None:
    crowd = [Sighting(at(1, host), port(host)) for host in range(1, 200)]
    nat = infer(OWN, [*crowd, Sighting(at(2), HOME)])
    assert (nat.observers, nat.agree) == (2, 1)
    assert infer(OWN, [*crowd, Sighting(at(1), HOME), Sighting(at(2), HOME)]).agree == 2


@pytest.mark.parametrize("observer", ["192.168.1.7", "127.0.0.1", "100.64.0.9", "fe80::1%eth0"])
def test_neighbours_have_no_say(observer: str) -> None:
    """They see us before any translation."""
    own = Address(OWN[0], 7000)
    near = Address(observer, 7000)
    assert infer(OWN, [Sighting(near, own), Sighting(near, HOME)]) == infer(OWN, [])
    assert infer(OWN, [Sighting(at(1), own)]) == infer(OWN, [])
    assert infer(OWN, [], [DialBack(near, True)]) == infer(OWN, [])


@given(
    honest=st.integers(2, 12),
    lies=st.lists(st.integers(1, 65_535), max_size=11),
    symmetric=st.booleans(),
)
def test_less_than_half_cannot_change_what_is_found(
    honest: int, lies: list[int], symmetric: bool
) -> None:
    """Where each of the honest sees the same port (or each another), fewer liars say nothing."""
    lies = [10_000 + each for each in lies if not symmetric or 10_000 + each > 40_000][: honest - 1]
    true = [port(2_000 + number) if symmetric else HOME for number in range(honest)]
    nat = infer(OWN, seen(*true, *(Address(HOME.host, each % 65_536) for each in lies)))
    if not symmetric:
        assert nat.mapping == NatMapping.ENDPOINT_INDEPENDENT
        assert nat.seen == HOME
    else:
        assert nat.mapping in (NatMapping.ADDRESS_DEPENDENT, NatMapping.UNKNOWN)


@given(
    st.lists(st.tuples(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65_535)), max_size=30),
    st.booleans(),
)
def test_whatever_is_said_there_is_an_answer(
    said: list[tuple[object, object, int]], strangers: bool
) -> None:
    sightings = [
        Sighting(Address(str(observer), 7000), Address(str(host), number))
        for observer, host, number in said
    ]
    nat = infer(OWN, sightings, strangers=strangers)
    assert isinstance(nat, Nat)
    assert 0 <= nat.agree <= nat.observers <= len(said)
    assert (nat.seen is None) == (nat.observers == 0)


# --- strangers


def test_whom_we_dialled_is_no_stranger() -> None:
    strangers = Strangers()
    strangers.dialled("11.0.0.1")
    strangers.accepted("11.0.0.1")
    assert strangers.hosts == ()
    for number in range(100):
        strangers.accepted(f"11.1.0.{number}")
    assert len(strangers.hosts) == 16
    assert list(strangers.hosts)[-1] == "11.1.0.99"
    strangers.forget()
    assert strangers.hosts == ()


async def test_an_endpoint_knows_who_came_first(open_endpoint: Open) -> None:
    here, there = Inbox(), Inbox()
    one, other = await open_endpoint(here), await open_endpoint(there)
    await within(one.dial([other.address], expected=other.device, alpn=ALPN))
    await there.next()
    await within(other.dial([one.address], expected=one.device, alpn=ALPN))
    await here.next()
    assert (one.strangers.hosts, other.strangers.hosts) == ((), ("127.0.0.1",))
