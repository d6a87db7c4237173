"""The relay's soak lives, and finds parcels lost or repeated, and memory that grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.node_service import StoredParcel
from tests.soak.relay.growth import growth_of
from tests.soak.relay.ledger import (
    ACKNOWLEDGED,
    ACKNOWLEDGED_LATER,
    UNDER_WAY,
    Account,
    Marks,
    Parcel,
    Reading,
    settle,
)
from tests.soak.relay.run import Plan, run

READERS = 4
PARCELS = [Parcel(2, serial, 12.5) for serial in range(3)]


def stored(parcel: Parcel, sealed: bytes | None = None) -> StoredParcel:
    return StoredParcel(7, parcel.id, 99, parcel.sealed if sealed is None else sealed)


def read(reading: Reading, parcel: Parcel, *, done: bool) -> None:
    reading.arrived(parcel.reader(READERS), stored(parcel))
    if done:
        reading.done(stored(parcel))


def account(sent: list[int], reading: Reading) -> Account:
    marks = Marks()
    for parcel, mark in zip(PARCELS, sent, strict=True):
        marks[parcel] = mark
    figures = reading.to_json()
    return settle(marks.to_json(), **figures)  # type: ignore[arg-type]


def test_every_parcel_read_once_is_right() -> None:
    reading = Reading(READERS)
    for parcel in PARCELS:
        read(reading, parcel, done=True)
    found = account([ACKNOWLEDGED] * 3, reading)
    assert (found.acknowledged, found.complaints) == (3, [])


def test_an_acknowledged_parcel_that_nobody_got_is_found() -> None:
    """Also behind the last one that came; one that was never acknowledged may be lost."""
    reading = Reading(READERS)
    read(reading, PARCELS[1], done=True)
    assert account([UNDER_WAY, ACKNOWLEDGED, UNDER_WAY], reading).complaints == []
    assert account([ACKNOWLEDGED] * 3, reading).missing == 2
    assert account([ACKNOWLEDGED_LATER, ACKNOWLEDGED, UNDER_WAY], reading).complaints == [
        "1 parcels acknowledged and never delivered"
    ]


def test_a_parcel_that_comes_again_after_its_end_is_found() -> None:
    reading = Reading(READERS)
    for parcel in PARCELS:
        read(reading, parcel, done=True)
        read(reading, parcel, done=True)
    found = account([ACKNOWLEDGED, ACKNOWLEDGED_LATER, ACKNOWLEDGED], reading)
    assert (found.repeated, found.called_again) == (2, 1)
    assert found.complaints == ["2 parcels delivered again after their end was confirmed"]


def test_a_parcel_may_come_again_while_its_end_is_not_confirmed() -> None:
    reading = Reading(READERS)
    for parcel in PARCELS:
        read(reading, parcel, done=False)
        read(reading, parcel, done=parcel != PARCELS[2])
    found = account([ACKNOWLEDGED] * 3, reading)
    assert (found.before_done, found.unconfirmed, found.complaints) == (3, 1, [])


def test_a_parcel_that_was_changed_or_went_astray_is_found() -> None:
    reading = Reading(READERS)
    reading.arrived(PARCELS[0].reader(READERS), stored(PARCELS[0], PARCELS[1].sealed))
    reading.arrived(PARCELS[1].reader(READERS) + 1, stored(PARCELS[1]))
    read(reading, PARCELS[2], done=True)
    assert account([UNDER_WAY, UNDER_WAY, ACKNOWLEDGED], reading).strange == 2


@pytest.mark.parametrize(
    ("mib", "per_h", "flat"), [(60, 0, True), (60, 5, True), (60, 8, False), (400, 30, True)]
)
def test_growth_is_told_from_noise_and_from_what_fills_up_first(
    mib: int, per_h: float, flat: bool
) -> None:
    samples = [
        (at, 1024 * (mib - max(0, 300 - at) / 10 + per_h * at / 3600 + at % 3))
        for at in range(0, 1800, 5)
    ]
    growth = growth_of(samples)
    assert growth.mib_per_h == pytest.approx(per_h, abs=0.5)
    assert growth.flat is flat


@pytest.mark.timeout(240)  # four programs and a PostgreSQL: a busy machine starts them slowly
async def test_two_processes_one_of_them_killed(tmp_path: Path) -> None:
    """As `make soak SOAK=relay`, in seconds: real processes, a real PostgreSQL, kill -9."""
    told: list[str] = []
    plan = Plan(capacity_s=1.0, hold_s=2.0, after_kill_s=2.0, readers=16)
    report = await run(tmp_path, plan, told.append)
    assert report.complaints == []
    assert report.figures["acknowledged"] > 0
    assert report.figures["left"] == 0
    assert any("PostgreSQL" in line and "Pss" in line for line in told)
