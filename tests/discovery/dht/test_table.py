"""The routing table: bounded, few of each owner, those who live keep their place."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dht.contact import (
    DhtContact,
    Reach,
    believed_untrusted,
    node_id,
    place_of,
    worth_telling,
)
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.table import Table
from schemas.addresses import Address
from schemas.dht import ReadContact
from schemas.ids import DeviceKey, DhtId
from tests.discovery.dht.net import START

LIMITS = DEFAULT_DHT_LIMITS
OWN = DhtId(b"\x55" * 32)
PLACE = int.from_bytes(OWN, "big")
rng = random.Random(5)
networks = iter(rng.sample(range(11 << 16, 100 << 16), 50_000))


def contact(prefix: str | None = None, *, far: bool | None = None) -> DhtContact:
    """`far`: in the half of all ids that we are not in (or the other)."""
    if prefix is None:
        network = next(networks)
        prefix = f"{network >> 16}.{network >> 8 & 255}.{network & 255}"
    while True:
        made = DhtContact(
            DeviceKey(rng.randbytes(32)),
            Address(f"{prefix}.{rng.randrange(1, 255)}", rng.randrange(1, 65536)),
        )
        if far is None or (made.long_id >> 255 != PLACE >> 255) is far:
            return made


def filled(*contacts: DhtContact, proven: bool = True) -> Table:
    table = Table(OWN, LIMITS)
    for each in contacts:
        table.answered(each, START - LIMITS.proven_s)
        if proven:
            table.answered(each, START)
    return table


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=400), st.integers(0, 2**256 - 1))
def test_whatever_comes_the_table_keeps_its_shape(steps: list[int], target: int) -> None:
    people = [contact(f"20.0.{number % 40}") for number in range(200)]
    table = Table(OWN, LIMITS)
    for step in steps:
        person = people[step % 200]
        (table.answered if step < 300 else table.failed)(person, START + step)
    ranges = [bucket.range for bucket in table.buckets]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 2**256 - 1
    assert all(low == high + 1 for (_, high), (low, _) in itertools.pairwise(ranges))
    for bucket in table.buckets:
        low, high = bucket.range
        assert all(low <= each.long_id <= high for each in bucket.nodes.values())
        assert len(bucket.nodes) <= LIMITS.bucket
        assert len(bucket.replacement_nodes) <= LIMITS.replacements
        for kept in (bucket.nodes, bucket.replacement_nodes):
            assert max(Counter(e.prefix for e in kept.values()).values(), default=0) <= 2
        assert not bucket.nodes.keys() & bucket.replacement_nodes.keys()
    everybody = list(table)
    assert set(table._seen) == {each.id for each in everybody}
    assert all(table.get(each.id) == each for each in everybody)
    near = table.nearest(target, 1_000)
    assert sorted(near, key=lambda e: e.id) == sorted(everybody, key=lambda e: e.id)


def test_the_nearest_are_the_nearest() -> None:
    table = filled(*(contact() for _ in range(500)))
    assert len(table) > 3 * LIMITS.bucket
    for _ in range(50):
        target = rng.getrandbits(256)
        everybody = sorted(table, key=lambda each: each.long_id ^ target)
        assert table.nearest(target, 8) == everybody[:8]


def test_a_thousand_of_one_network_have_two_places() -> None:
    table = filled(*(contact("203.0.113", far=True) for _ in range(1_000)))
    assert len(table) == LIMITS.per_prefix
    (bucket,) = [each for each in table.buckets if each.nodes]
    assert len(bucket.replacement_nodes) <= LIMITS.per_prefix


def test_those_who_live_keep_their_places() -> None:
    """A flood of newcomers does not push out whom we have known for long."""
    first = [contact(far=True) for _ in range(LIMITS.bucket)]
    table = filled(*first, *(contact(far=True) for _ in range(1_000)))
    assert set(first) <= set(table)


def test_who_does_not_answer_goes_and_one_who_waits_comes() -> None:
    first = [contact(far=True) for _ in range(LIMITS.bucket)]
    waiting = contact(far=True)
    table = filled(*first, waiting)
    for failure in range(LIMITS.failures):
        assert first[3] in set(table)
        table.failed(first[3], START + failure)
        table.answered(first[0], START + failure)
    table.failed(first[3], START + 9)
    assert first[3] not in set(table)
    assert waiting in set(table)
    assert waiting in table.stale(START + 10, 100), "nobody knows whether it still lives"


def test_who_gets_a_place_by_a_split_is_asked_and_goes_when_silent() -> None:
    """A moved contact leaves room for its old neighbours, who waited; the split lets them in."""
    near = [contact("203.0.113", far=False) for _ in range(LIMITS.per_prefix)]
    waiting = contact("203.0.113", far=False)
    others = [contact(far=True) for _ in range(LIMITS.bucket - len(near))]
    table = filled(*near, waiting, *others)
    assert waiting not in set(table)
    table.answered(DhtContact(near[0].device, Address("198.51.100.1", 7000)), START)
    table.answered(contact(far=True), START)
    assert waiting in set(table)
    assert waiting in table.stale(START, 1)
    for later in range(1, LIMITS.failures + 1):
        table.failed(waiting, START + later)
        table.answered(others[0], START + later)
    table.failed(waiting, START + 9)
    assert waiting not in set(table)


def test_one_lost_packet_is_forgiven() -> None:
    table = filled(*(contact() for _ in range(5)))
    victim = next(iter(table))
    for _ in range(10):
        table.failed(victim, START)
        assert table.nearest(victim.long_id, 5)[-1] == victim, "others first, meanwhile"
        table.answered(victim, START)
    assert table.nearest(victim.long_id, 5)[0] == victim


def test_without_a_network_nobody_is_forgotten() -> None:
    """When nobody answers at all it is us, and the table is what we come back with."""
    everybody = [contact() for _ in range(10)]
    table = filled(*everybody)
    for later in range(1, 100):
        for each in everybody:
            table.failed(each, START + later)
    assert set(table) == set(everybody)
    table.answered(everybody[0], START + 101)
    for each in everybody[1:]:
        table.failed(each, START + 102)
    assert list(table) == everybody[:1]


def test_a_failure_at_another_address_is_not_theirs() -> None:
    table = filled(contact(), contact())
    victim, other = table
    for later in range(10):
        table.failed(DhtContact(victim.device, Address("198.51.100.1", 1)), START + later)
        table.answered(other, START + later)
    assert victim in set(table)


def test_who_moved_is_known_at_the_new_address() -> None:
    table = filled(contact(), contact())
    one, _ = table
    moved = DhtContact(one.device, Address("198.51.100.1", 7000))
    table.answered(moved, START)
    assert table.get(one.id) == moved
    assert len(table) == 2


def test_only_who_answers_after_its_nat_forgot_is_told_first() -> None:
    """Behind a NAT, whoever has just dialled us answers, and nobody else."""
    proven = [contact() for _ in range(8)]
    table = filled(*proven)
    fresh = contact()
    table.answered(fresh, START)
    assert fresh not in table.nearest(fresh.long_id, 8)
    assert fresh in table.stale(START + LIMITS.proven_s, 1)
    table.answered(fresh, START + LIMITS.proven_s)
    assert table.nearest(fresh.long_id, 8)[0] == fresh


def test_we_are_not_in_our_own_table() -> None:
    device = DeviceKey(b"d" * 32)
    table = Table(node_id(device), LIMITS)
    own = DhtContact(device, Address("198.51.100.1", 7000))
    assert not table.wants(own)
    table.answered(own, START)
    assert not len(table)


# --- addresses


def nowhere(_: Address) -> bool:
    return False


@pytest.mark.parametrize(
    "host, reach",
    [
        ("8.8.8.8", Reach.ANYWHERE),
        ("2001:4860::8888", Reach.ANYWHERE),
        ("10.1.2.3", Reach.NETWORK),
        ("192.168.1.1", Reach.NETWORK),
        ("172.16.0.1", Reach.NETWORK),
        ("100.64.0.1", Reach.NETWORK),
        ("169.254.1.1", Reach.NETWORK),
        ("fd00::1", Reach.NETWORK),
        ("fe80::1%eth0", Reach.NETWORK),
        ("127.0.0.1", Reach.MACHINE),
        ("127.255.255.254", Reach.MACHINE),
        ("::1", Reach.MACHINE),
        ("0.0.0.0", Reach.NOWHERE),
        ("0.1.2.3", Reach.NOWHERE),
        ("224.0.0.1", Reach.NOWHERE),
        ("255.255.255.255", Reach.NOWHERE),
        ("240.0.0.1", Reach.NOWHERE),
        ("::", Reach.NOWHERE),
        ("ff02::1", Reach.NOWHERE),
        ("::ffff:8.8.8.8", Reach.NOWHERE),
        ("example.org", Reach.NOWHERE),
        ("localhost", Reach.NOWHERE),
        ("", Reach.NOWHERE),
    ],
)
def test_how_far_addresses_reach(host: str, reach: Reach) -> None:
    assert place_of(host)[0] is reach


@pytest.mark.parametrize(
    "told, teller, on_our_network, believed",
    [
        ("8.8.8.8", "9.9.9.9", False, True),
        ("10.0.0.1", "9.9.9.9", False, False),
        ("169.254.169.254", "9.9.9.9", False, False),
        ("100.64.0.1", "9.9.9.9", False, False),
        ("fd00::1", "9.9.9.9", False, False),
        ("10.0.0.1", "10.0.0.2", False, False),
        ("10.0.0.1", "9.9.9.9", True, True),
        ("127.0.0.1", "9.9.9.9", True, False),
        ("127.0.0.1", "10.0.0.2", True, False),
        ("127.0.0.1", "127.0.0.1", False, True),
        ("::1", "127.0.0.1", False, True),
        ("224.0.0.1", "9.9.9.9", True, False),
        ("240.0.0.1", "9.9.9.9", True, False),
        ("0.0.0.0", "127.0.0.1", True, False),
        ("example.org", "9.9.9.9", True, False),
    ],
)
def test_which_addresses_of_others_are_dialled(
    told: str, teller: str, on_our_network: bool, believed: bool
) -> None:
    """Nobody has us dial into our own network, or ask a name server."""
    device = DeviceKey(b"d" * 32)
    read = ReadContact(device, Address(told, 7000))
    found = believed_untrusted(read, Address(teller, 7000), lambda _: on_our_network)
    assert (found is not None) is believed
    for port in (0, 65536, -1):
        worse = ReadContact(device, Address(told, port))
        assert believed_untrusted(worse, Address(teller, 7000), lambda _: True) is None


@pytest.mark.parametrize(
    "host, asker, told",
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("8.8.8.8", "127.0.0.1", True),
        ("10.0.0.1", "9.9.9.9", False),
        ("10.0.0.1", "10.0.0.2", True),
        ("127.0.0.1", "9.9.9.9", False),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_whom_our_neighbours_are_told_to(host: str, asker: str, told: bool) -> None:
    contact = DhtContact(DeviceKey(b"d" * 32), Address(host, 7000))
    assert worth_telling(contact, Address(asker, 7000)) is told


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("203.0.113.1", "203.0.113.254", True),
        ("203.0.113.1", "203.0.114.1", False),
        ("2001:db8:0:100::1", "2001:db8:0:1ff::1", True),
        ("2001:db8:0:100::1", "2001:db8:0:200::1", False),
        ("192.168.1.1", "192.168.1.2", True),
    ],
)
def test_what_counts_as_one_owner(one: str, other: str, same: bool) -> None:
    assert (place_of(one)[1] == place_of(other)[1]) is same
    assert place_of("127.0.0.1")[1] is None
