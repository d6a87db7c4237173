"""Cells: found and read by who has the card, nothing to anybody else."""

from __future__ import annotations

import pytest

from identity.cell import Cell, cell_of, cell_signer, open_cell_untrusted, seal_into_cell
from identity.keys import device_from_seed
from schemas.errors import Malformed
from schemas.ids import DhtId
from schemas.limits import DHT_RECORD, DHT_SEALED

ADA, BOB = device_from_seed(b"a" * 32), device_from_seed(b"b" * 32)
SECRET = b"s" * 32
CELL = cell_of(SECRET, ADA.public, 20_000)


def test_each_day_device_and_secret_has_a_cell_of_its_own() -> None:
    cells = [
        CELL,
        cell_of(SECRET, ADA.public, 20_001),
        cell_of(SECRET, BOB.public, 20_000),
        cell_of(b"t" * 32, ADA.public, 20_000),
    ]
    assert cell_of(SECRET, ADA.public, 20_000) == CELL
    assert len({cell.id for cell in cells}) == len({cell.key for cell in cells}) == 4
    assert len({cell_signer(ADA, cell).public for cell in cells}) == 4


def test_the_derivation_does_not_change() -> None:
    """Else cards that are out would lead nowhere. (By an HKDF of hmac alone, they are these.)"""
    assert CELL.id.hex() == "04f475ef73d19acef455664a7d1a3adddf5ddc08d87835c574c84d7a21c5a2d4"
    assert CELL.key.hex() == "18fca283b59e3b473452265120d31a7ad858149fa2b2f2850ae02d70016011fb"
    assert (
        cell_signer(ADA, CELL).public.hex()
        == "8b5876ea99e4c7552ab9d1aa70858acf0c9c492074d03d3d9d2534120c6e8bfd"
    )


def test_only_the_device_makes_the_signer() -> None:
    assert cell_signer(ADA, CELL).public != cell_signer(BOB, CELL).public
    assert cell_signer(ADA, CELL).public != ADA.public


@pytest.mark.parametrize("length", [0, 1, DHT_RECORD])
def test_all_records_look_alike(length: int) -> None:
    sealed = seal_into_cell(CELL, b"r" * length)
    assert len(sealed) == DHT_SEALED
    assert open_cell_untrusted(CELL, sealed) == b"r" * length
    assert sealed != seal_into_cell(CELL, b"r" * length)


def test_too_long_a_record_is_not_cut() -> None:
    with pytest.raises(ValueError, match="fit into a cell"):
        seal_into_cell(CELL, b"r" * (DHT_RECORD + 1))


def test_nobody_else_opens_it_and_it_opens_nowhere_else() -> None:
    sealed = seal_into_cell(CELL, b"record")
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    elsewhere = Cell(DhtId(bytes(32)), CELL.key)
    other = cell_of(b"t" * 32, ADA.public, 20_000)
    for cell, data in [
        (CELL, damaged),
        (CELL, sealed[:-1]),
        (CELL, b""),
        (CELL, sealed + b"\0"),
        (elsewhere, sealed),
        (other, sealed),
    ]:
        with pytest.raises(Malformed) as caught:
            open_cell_untrusted(cell, data)
        assert caught.value.code == "cannot-open"


def test_secrets_are_not_shown() -> None:
    assert CELL.key.hex() not in repr(CELL)
    assert repr(CELL.key) not in repr(CELL)
