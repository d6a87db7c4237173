"""Codecs: what goes in comes out, and no bytes whatever raise anything but Malformed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import frames, limits, messages, parcels, records
from schemas.addresses import RelayAddress
from schemas.card import Card
from schemas.errors import Malformed, Refused
from schemas.ids import ParcelId
from tests.schemas.samples import BODIES, FRAMES, PERSON, RECORDS, RELAY, E


@pytest.mark.parametrize("value", [*RECORDS, *BODIES], ids=lambda v: type(v).__name__)
def test_value_survives_the_wire(value: Any) -> None:
    assert type(value).decode(value.encode()) == value


@pytest.mark.parametrize("frame", FRAMES, ids=lambda v: type(v).__name__)
def test_frame_survives_the_wire(frame: frames.Frame) -> None:
    assert frames.decode_frame(frames.encode_frame(frame)) == frame


DECODERS: list[Callable[[bytes], object]] = [
    frames.decode_frame,
    *{type(value).decode for value in [*RECORDS, *BODIES]},
]
SAMPLES = [value.encode() for value in [*RECORDS, *BODIES]] + [
    frames.encode_frame(frame) for frame in FRAMES
]


@given(st.binary(max_size=400), st.sampled_from(DECODERS))
def test_garbage_raises_only_malformed(data: bytes, decode: Callable[[bytes], object]) -> None:
    with contextlib.suppress(Malformed):
        decode(data)


@given(st.data())
def test_damaged_values_raise_only_malformed(data: st.DataObject) -> None:
    sample = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        sample[data.draw(st.integers(0, len(sample) - 1))] = data.draw(st.integers(0, 255))
    sample = sample[: data.draw(st.integers(0, len(sample)))]
    for decode in DECODERS:
        with contextlib.suppress(Malformed):
            decode(bytes(sample))


@pytest.mark.parametrize("body", BODIES)
def test_a_body_under_another_parcel_id_is_what_encoding_it_anew_would_be(
    body: parcels.ParcelBody,
) -> None:
    """A payload is stored once, and goes to each recipient under an id of its own."""
    other = ParcelId(b"o" * 16)
    stored = replace(body, parcel=ParcelId(bytes(16))).encode()
    moved = parcels.readdress(stored, other)
    assert parcels.ParcelBody.decode(moved) == replace(body, parcel=other)
    assert len(moved) == len(stored)


@given(st.binary(max_size=400))
def test_a_damaged_stored_body_is_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        parcels.readdress(data, ParcelId(bytes(16)))


def test_unknown_union_member_is_named_as_such() -> None:
    data = bytearray(frames.encode_frame(frames.Ping(5)))
    at = 16  # segment table, root pointer, then the discriminant
    assert data[at : at + 2] == (1).to_bytes(2, "little")
    data[at : at + 2] = (999).to_bytes(2, "little")
    with pytest.raises(Malformed) as caught:
        frames.decode_frame(bytes(data))
    assert caught.value.code == "unknown-kind"


def test_unknown_enum_value_is_malformed() -> None:
    info = messages.GroupInfo("x", messages.GroupKind.DIRECT, (), messages.InvitePolicy.MEMBERS)
    data = bytearray(info.encode())
    at = data.index((1).to_bytes(2, "little"), 18)  # after the version: the kind
    data[at : at + 2] = (77).to_bytes(2, "little")
    with pytest.raises(Malformed):
        messages.GroupInfo.decode(bytes(data))


def test_capnp_bomb_is_refused_before_it_costs_memory() -> None:
    """A few words that claim millions of list elements (hazards.md: 61 MiB from 32 bytes)."""
    root = (0 << 2 | 0) | (1 << 32) | (1 << 48)  # struct: one data word, one pointer
    bomb = (1 | (0 << 2)) | (6 << 32) | (2**29 - 1 << 35)  # list of empty pointers
    words = [root, 0, bomb]
    data = (len(words) << 32).to_bytes(8, "little") + b"".join(
        w.to_bytes(8, "little") for w in words
    )
    for decode in DECODERS:
        with pytest.raises(Malformed):
            decode(data)


def test_text_with_control_characters_is_refused_in_names() -> None:
    core = records.BundleCore(PERSON, 1, "evil\x1b[2J", (), ())
    with pytest.raises(Malformed):
        records.BundleCore.decode(core.encode())


@pytest.mark.parametrize("length", [0, 1, 508, 509, 70_000, 500_000])
def test_padding_hides_the_length_and_comes_off(length: int) -> None:
    body = b"x" * length
    padded = parcels.pad(body)
    assert parcels.unpad(padded) == body
    assert len(padded) in limits.PARCEL_SIZE_CLASSES or len(padded) % (64 * 1024) == 0


@given(st.binary(max_size=600))
def test_bad_padding_raises_only_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        parcels.unpad(data)


def test_damaged_card_is_told_from_a_foreign_text() -> None:
    text = str(RECORDS[-1])
    assert Card.parse(f"  {text[:40]}\n{text[40:]} ") == RECORDS[-1]
    for bad, code in [
        (text[:-3], "damaged-card"),
        (text.replace(text[60], "A" if text[60] != "A" else "B", 1), "damaged-card"),
        ("hello", "not-a-card"),
    ]:
        with pytest.raises(Malformed) as caught:
            Card.parse(bad)
        assert caught.value.code in (code, "not-a-card")


def test_relay_address_round_trips_and_takes_the_default_port() -> None:
    assert RelayAddress.parse(str(RELAY)) == RELAY
    assert RelayAddress.parse(f"relay.example#{E}").address.port == 7000
    with pytest.raises(Refused):
        RelayAddress.parse("relay.example:7000")
