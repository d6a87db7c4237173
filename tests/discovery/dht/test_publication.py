"""Where a device leaves its record and where its readers look: the same place, midnight or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.dht.contact import node_id
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.publication import (
    Publication,
    cells_to_read,
    open_private_untrusted,
    open_public_untrusted,
    private_publications,
    public_publication,
)
from discovery.dht.store import ValueStore
from identity.cell import DAY_S, Cell, cell_of, cell_signer, seal_into_cell
from identity.signing import sign
from schemas.addresses import Address
from schemas.dht import DhtValue
from schemas.errors import Malformed
from schemas.records import Signed, SignedType
from tests.discovery.dht.net import START, record_of, signer

LIMITS = DEFAULT_DHT_LIMITS
ADA, BOB = signer(1), signer(2)
SECRET = b"s" * 32
MIDNIGHT = START // DAY_S * DAY_S + DAY_S


def published(now: float, record: Signed | None = None) -> list[Publication]:
    record = record or record_of(ADA, now=now, lives_s=48 * 3600)
    return private_publications(ADA, SECRET, record, now=now, limits=LIMITS)


def cell_at(now: float) -> Cell:
    return cell_of(SECRET, ADA.public, int(now // DAY_S))


@given(
    since=st.floats(0, 2 * DAY_S),
    age=st.floats(0, LIMITS.republish_s),
    skew=st.floats(-LIMITS.around_midnight_s, LIMITS.around_midnight_s),
)
def test_readers_look_where_the_author_put_it(since: float, age: float, skew: float) -> None:
    """Whatever the time, the age of the last publication, and the difference of clocks."""
    now = START + since
    places = {each.key for each in published(now - age)}
    cells = cells_to_read(ADA.public, SECRET, now=now + skew, limits=LIMITS)
    assert places & {cell.id for cell in cells}
    assert len(cells) <= 2


def test_tomorrows_cell_is_filled_in_the_evening_only() -> None:
    noon, evening = MIDNIGHT - DAY_S / 2, MIDNIGHT - LIMITS.before_midnight_s
    assert [each.key for each in published(noon)] == [cell_at(noon).id]
    assert [each.key for each in published(evening)] == [
        cell_at(evening).id,
        cell_at(MIDNIGHT).id,
    ]


def test_what_is_published_is_kept_and_read() -> None:
    now = MIDNIGHT - 60
    record = record_of(ADA, now=now)
    store = ValueStore(LIMITS)
    for each in published(now, record):
        store.put(each.key, each.value, Address("203.0.113.7", 7000), now)
        (value,) = store.get(each.key, now)
        cell = next(cell for cell in (cell_at(now), cell_at(MIDNIGHT)) if cell.id == each.key)
        assert open_private_untrusted(cell, ADA.public, value, now=now) == record


def test_publishing_again_replaces_even_within_a_second() -> None:
    store = ValueStore(LIMITS)
    putter = Address("203.0.113.7", 7000)
    for now in (START, START + 0.01, START + 1200):
        (each,) = published(now)
        store.put(each.key, each.value, putter, now)
    assert store.get(each.key, START + 1200) == [each.value]


def test_nothing_of_the_record_shows_outside() -> None:
    """Neither whose it is, nor its number, nor its size, nor that two days' are one device's."""
    now = MIDNIGHT - 60
    one, two = published(now, record_of(ADA, now=now, sequence=4242))
    assert len(one.value.payload) == len(two.value.payload)
    assert one.value.signer != two.value.signer
    for each in (one, two):
        value = DhtValue.decode(each.value.payload)
        assert value.sequence == int(now * 1000)
        assert bytes(ADA.public) not in each.value.encode()


def test_an_expired_record_is_not_published() -> None:
    assert published(START, record_of(ADA, now=START - 7200)) == []


def put_by(who: int, inner: bytes, **times: int) -> Signed:
    """What somebody who knows the cell can put there."""
    cell = cell_at(START)
    issued = times.get("issued", int(START))
    expires = times.get("expires", int(START) + 3600)
    value = DhtValue(cell.id, 9, issued, expires, seal_into_cell(cell, inner))
    return sign(SignedType.DHT_VALUE, cell_signer(signer(who), cell), value.encode())


@pytest.mark.parametrize(
    "value, code",
    [
        (put_by(3, record_of(BOB).encode()), "wrong-device"),
        (put_by(3, b"garbage"), "malformed-record"),
        (put_by(3, record_of(ADA, now=START - 7200).encode()), "expired"),
        (put_by(3, record_of(ADA, now=START + 7200).encode()), "issued-in-future"),
        (put_by(3, record_of(ADA).encode(), issued=int(START) - 60, expires=int(START)), "expired"),
        (put_by(3, record_of(ADA).encode(), issued=int(START) + 601), "issued-in-future"),
        (
            put_by(
                3,
                Signed(
                    record_of(BOB).payload, bytes(ADA.public), record_of(BOB).signature
                ).encode(),
            ),
            "bad-signature",
        ),
    ],
)
def test_what_a_contact_puts_into_the_cell_is_not_believed(value: Signed, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        open_private_untrusted(cell_at(START), ADA.public, value, now=START)
    assert caught.value.code == code


def test_the_record_inside_counts_whoever_put_it() -> None:
    """The signature inside is the device's: an old one that a contact puts again is what it is."""
    record = record_of(ADA)
    value = put_by(3, record.encode())
    assert open_private_untrusted(cell_at(START), ADA.public, value, now=START) == record


def test_public_records_lie_under_the_device_key() -> None:
    record = record_of(ADA)
    each = public_publication(record)
    assert each.key == node_id(ADA.public)
    assert open_public_untrusted(ADA.public, each.value, now=START) == record
    with pytest.raises(Malformed, match="another device"):
        open_public_untrusted(ADA.public, record_of(BOB), now=START)
