"""The shortlist of a path: the nearest, few of one owner, not all from one word."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from discovery.dht.contact import DhtContact
from discovery.dht.shortlist import Asked, Origin, Shortlist
from schemas.addresses import Address
from schemas.ids import DeviceKey

CAPACITY, WIDTH = 16, 4
SEED = Origin(None, 0)
rng = random.Random(3)
people = [
    DhtContact(DeviceKey(rng.randbytes(32)), Address(f"20.0.{number}.1", 7000))
    for number in range(80)
]


def shortlist(target: int = 0) -> Shortlist:
    return Shortlist(target, WIDTH, CAPACITY, 2)


def told_by(root: DhtContact) -> Origin:
    return Origin(root, 1, root.id)


@given(st.integers(0, 2**256 - 1), st.lists(st.integers(0, 79), max_size=60))
def test_the_nearest_are_asked_first(target: int, offered: list[int]) -> None:
    path = shortlist(target)
    contacts = [people[number] for number in offered]
    new = path.offer(contacts, SEED)
    assert new == len({each.id for each in contacts}) or new > CAPACITY
    nearest = sorted(set(contacts), key=lambda each: each.long_id ^ target)[:CAPACITY]
    assert [each for _, each in path.heap] == nearest
    asked: Asked = set()
    order = []
    while (contact := path.next(asked)) is not None:
        order.append(contact)
        asked.add(contact.id)
        path.mark_contacted(contact)
    assert order == nearest[:WIDTH]


def test_a_flood_does_not_wash_the_others_away() -> None:
    """However many, and however near, one contact's friends are."""
    near = sorted(people, key=lambda each: each.long_id)
    path = shortlist()
    seeds = near[-5:]
    path.offer(seeds, SEED)
    path.offer(near[:70], told_by(seeds[0]))
    kept = [contact for _, contact in path.heap]
    assert len(kept) == CAPACITY
    assert set(seeds) <= set(kept)


def test_whom_two_tell_of_is_of_no_root() -> None:
    near = sorted(people, key=lambda each: each.long_id)
    path = shortlist()
    path.offer(near[-2:], SEED)
    for teller in near[-2:]:
        path.offer(near[:WIDTH], told_by(teller))
    asked: Asked = set()
    for expected in near[:WIDTH]:
        contact = path.next(asked)
        assert contact == expected
        asked.add(contact.id)
        path.mark_contacted(contact)
    assert path.next(asked) is None


def test_with_one_root_only_its_word_is_all_there_is() -> None:
    """A newcomer with one contact gets as far as others, and no farther."""
    near = sorted(people, key=lambda each: each.long_id)
    path = shortlist()
    path.offer(near[-1:], SEED)
    path.mark_contacted(near[-1])
    asked: Asked = {near[-1].id}
    path.offer(near[:8], told_by(near[-1]))
    count = 0
    while (contact := path.next(asked)) is not None:
        asked.add(contact.id)
        path.mark_contacted(contact)
        count += 1
    assert count == WIDTH - 1
