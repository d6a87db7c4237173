"""Tags on the LAN: contacts know who it is, strangers can link nothing, and floods cost little."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery import lan_tags
from discovery.lan_tags import DAY_S, TAG_BYTES, Acquaintance, Recogniser, Tag, day_of, tag_for
from discovery.mdns_service import Advert, describe
from discovery.mdns_txt import encode_tag, parse_txt_untrusted
from schemas.addresses import Address
from schemas.errors import Malformed
from schemas.ids import DeviceKey

NOW = 1_800_000_000.0
TODAY = day_of(NOW)
ADA = Acquaintance(DeviceKey(b"\xad" * 32), "Ada", b"a" * 16)
BOB = Acquaintance(DeviceKey(b"\xb0" * 32), "Bob", b"b" * 16)

VECTOR = (
    "03763d3207653d323030303022743d3736623665373232646164353766383266613061666331326237383336346133"
)


def recogniser(
    *known: Acquaintance, tags_per_s: float = 1e9, monotonic: Callable[[], float] = lambda: 0.0
) -> Recogniser:
    found = Recogniser(Counter(), tags_per_s=tags_per_s, monotonic=monotonic)
    found.know(known)
    return found


def test_holders_of_the_card_recognise_the_device_and_others_do_not() -> None:
    tag = tag_for(ADA.secret, ADA.device, "0011", TODAY)
    assert recogniser(BOB, ADA).recognise("0011", tag, NOW) is ADA
    assert recogniser(BOB).recognise("0011", tag, NOW) is None
    knows_the_key = Acquaintance(ADA.device, "Ada", b"x" * 16)
    assert recogniser(knows_the_key).recognise("0011", tag, NOW) is None, "the key is public"


def test_a_tag_is_of_no_use_under_another_label_or_on_another_day() -> None:
    """Whoever heard it could else find out elsewhere who has Ada's card."""
    tag = tag_for(ADA.secret, ADA.device, "0011", TODAY)
    there = recogniser(ADA)
    assert there.recognise("0012", tag, NOW) is None
    assert there.recognise("0011", Tag(TODAY + 1, tag.tag), NOW) is None
    assert there.recognise("0011", tag, NOW + DAY_S) is ADA, "clocks may be a day apart"
    assert there.recognise("0011", tag, NOW + 2 * DAY_S) is None


def test_two_announcements_have_nothing_in_common() -> None:
    advert = Advert(ADA.device, "Ada", (Address("10.0.0.1", 7000),), ADA.secret)
    infos = [describe(label, advert, TODAY) for label in ("0011", "0022")]
    said = [info.text + str(info.server).encode() for info in infos]
    for secret in (ADA.device, ADA.device.hex().encode(), b"Ada", ADA.secret):
        assert not any(secret in each for each in said)
    tags = [parse_txt_untrusted(info.text) for info in infos]
    assert isinstance(tags[0], Tag)
    assert isinstance(tags[1], Tag)
    assert tags[0].tag != tags[1].tag
    assert infos[0].server != infos[1].server


def test_strangers_cost_a_bounded_number_of_tags() -> None:
    """A thousand contacts and a flood of labels: a rate, not a product."""
    many = [Acquaintance(DeviceKey(os.urandom(32)), "", os.urandom(16)) for _ in range(100)]
    elapsed = 0.0
    there = recogniser(*many, tags_per_s=1000.0, monotonic=lambda: elapsed)
    for n in range(200):
        there.recognise(f"{n}", Tag(TODAY, os.urandom(TAG_BYTES)), NOW)
    tried = 200 - there.dropped["tags-not-tried"]
    assert tried <= 1 + 4 * lan_tags.ACQUAINTANCES // 100
    tag = tag_for(many[7].secret, many[7].device, "7", TODAY)
    assert there.recognise("7", tag, NOW + 60) is None, "the clock was set: no time has passed"
    elapsed = 60.0
    assert there.recognise("7", tag, NOW + 60) is many[7], "the flood is over"


def test_a_clock_that_is_set_back_hides_no_contact() -> None:
    """The rate would wait until the clock is where it was."""
    elapsed = 0.0
    there = recogniser(ADA, tags_per_s=1000.0, monotonic=lambda: elapsed)
    for n in range(10_000):
        there.recognise(f"{n}", Tag(TODAY, os.urandom(TAG_BYTES)), NOW)
    elapsed = 10.0
    tag = tag_for(ADA.secret, ADA.device, "0011", TODAY)
    assert there.recognise("0011", tag, NOW - 7200) is ADA


def test_what_was_tried_costs_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    there = recogniser(BOB, tags_per_s=1.0)
    stranger = tag_for(ADA.secret, ADA.device, "0011", TODAY)
    assert there.recognise("0011", stranger, NOW) is None
    monkeypatch.setattr(lan_tags, "_tag", None)
    assert there.recognise("0011", stranger, NOW) is None
    monkeypatch.undo()
    there.know([ADA])
    assert there.recognise("0011", stranger, NOW) is ADA, "a new contact is looked at again"


def test_more_acquaintances_than_we_try_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_tags, "ACQUAINTANCES", 1)
    there = recogniser(ADA, BOB)
    assert there.dropped["acquaintances-full"] == 1


def test_the_vector() -> None:
    """Other programs compute the same."""
    tag = tag_for(bytes(range(16)), DeviceKey(bytes(range(32))), "00112233aabbccdd", 20_000)
    assert encode_tag(tag).hex() == VECTOR


@given(st.integers(0, 3_000_000), st.binary(min_size=TAG_BYTES, max_size=TAG_BYTES))
def test_tags_round_trip(day: int, tag: bytes) -> None:
    assert parse_txt_untrusted(encode_tag(Tag(day, tag))) == Tag(day, tag)


@pytest.mark.parametrize(
    "fields",
    [
        (b"v=2",),
        (b"v=2", b"e=1"),
        (b"v=2", b"t=" + b"0" * 32),
        (b"v=2", b"e=-1", b"t=" + b"0" * 32),
        (b"v=2", b"e=+1", b"t=" + b"0" * 32),
        (b"v=2", b"e= 1", b"t=" + b"0" * 32),
        (b"v=2", b"e=01", b"t=" + b"0" * 32),
        (b"v=2", b"e=1_0", b"t=" + b"0" * 32),
        (b"v=2", b"e=" + b"9" * 200, b"t=" + b"0" * 32),
        (b"v=2", b"e=1", b"t=" + b"0" * 30),
        (b"v=2", b"e=1", b"t=" + b"A" * 32),
        (b"v=2", b"e=1", b"t=" + b"0 " * 16),
        (b"v=2", b"e=\xff", b"t=" + b"0" * 32),
    ],
)
def test_odd_tags_are_refused(fields: tuple[bytes, ...]) -> None:
    data = b"".join(bytes([len(field)]) + field for field in fields)
    with pytest.raises(Malformed) as caught:
        parse_txt_untrusted(data)
    assert caught.value.code == "bad-tag"
