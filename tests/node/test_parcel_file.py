"""Files of parcels: what was written is read, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import parcel_file
from node.parcel_file import (
    FILE_BYTES,
    Kind,
    ParcelFileWriter,
    Record,
    open_parcel_file,
    read_records_untrusted,
)
from schemas.errors import Fault, Malformed, Refused
from schemas.ids import DeviceKey, ParcelId
from schemas.introduction import Introduction
from schemas.limits import PARCEL
from schemas.parcels import Parcel
from tests.schemas.samples import PERSON, SIGNED

PARCELS = [
    Parcel(ParcelId(bytes([n]) * 16), DeviceKey(bytes([n]) * 32), 1_800_000_000, bytes(n * 100))
    for n in range(4)
]
INTRODUCTION = Introduction(PERSON, SIGNED, (b"package",))


def written(path: Path) -> bytes:
    with ParcelFileWriter(path) as writer:
        writer.introduction(INTRODUCTION)
        for parcel in PARCELS:
            writer.parcel(parcel)
    assert writer.bytes == path.stat().st_size
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("whole") / "stick.qpcp")


def read(data: bytes) -> list[Record]:
    return list(read_records_untrusted(io.BytesIO(data).read))


def read_until_fault(data: bytes) -> tuple[list[Record], Malformed | None]:
    found: list[Record] = []
    try:
        found.extend(read_records_untrusted(io.BytesIO(data).read))
    except Malformed as fault:
        return found, fault
    return found, None


def ended(body: bytes, records: int) -> bytes:
    """A body with the end that belongs to it."""
    whole = body + b"\0" + (36).to_bytes(4, "little") + records.to_bytes(4, "little")
    return whole + hashlib.sha256(whole).digest()


def test_what_was_written_is_read_in_its_order_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "stick.qpcp"
    old = os.umask(0)
    try:
        kind_and_content = read(written(path))
    finally:
        os.umask(old)
    first, *rest = kind_and_content
    assert (first[0], Introduction.decode(first[1])) == (Kind.INTRODUCTION, INTRODUCTION)
    assert [(kind, Parcel.decode(data)) for kind, data in rest] == [
        (Kind.PARCEL, parcel) for parcel in PARCELS
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["stick.qpcp"]


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "stick.qpcp"
    path.write_bytes(b"what was there before")
    with contextlib.suppress(ZeroDivisionError), ParcelFileWriter(path) as writer:
        writer.parcel(PARCELS[0])
        raise ZeroDivisionError
    assert path.read_bytes() == b"what was there before"
    assert [each.name for each in tmp_path.iterdir()] == ["stick.qpcp"]


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_full_stick_is_a_fault_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(Fault) as raised:
        written(tmp_path / "stick.qpcp")
    assert raised.value.code == "cannot-write-file"
    assert os.listdir(tmp_path) == []


def test_nothing_is_written_through_a_link_that_lay_there(tmp_path: Path) -> None:
    """Sticks pass through many hands."""
    diary = tmp_path / "diary"
    diary.write_text("mine")
    for name in ("stick.qpcp", ".stick.qpcp.part"):
        (tmp_path / name).symlink_to(diary)
    written(tmp_path / "stick.qpcp")
    assert diary.read_text() == "mine"
    assert not (tmp_path / "stick.qpcp").is_symlink()


@pytest.mark.parametrize("lost", [1, 32, 36, 41, 100, 1000])
def test_a_file_that_was_cut_says_so_after_what_it_still_has(whole: bytes, lost: int) -> None:
    found, fault = read_until_fault(whole[:-lost])
    assert fault is not None
    assert fault.code == ("parcel-file-damaged" if len(whole) > lost else "not-a-parcel-file")
    assert found == read(whole)[: len(found)]


@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = data.draw(st.integers(1, 255))
    found, fault = read_until_fault(whole[:at] + bytes([whole[at] ^ flipped]) + whole[at + 1 :])
    assert fault is not None
    assert len(found) <= len(PARCELS) + 1


@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_else(data: bytes) -> None:
    for candidate in (data, b"QPCP\x01" + data):
        _, fault = read_until_fault(candidate)
        assert fault is not None


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=20))
def test_any_records_come_out_as_they_went_in(records: list[tuple[int, bytes]]) -> None:
    body = b"QPCP\x01" + b"".join(
        bytes([kind]) + len(data).to_bytes(4, "little") + data for kind, data in records
    )
    assert read(ended(body, len(records))) == records
    for wrong in (
        ended(body, len(records) + 1),
        ended(body, len(records)) + b"\0",
        ended(body, len(records))[:-1] + b"\0\0",
    ):
        _, fault = read_until_fault(wrong)
        assert fault is not None


@pytest.mark.parametrize(
    "data, code",
    [
        (b"", "not-a-parcel-file"),
        (b"QPCP", "not-a-parcel-file"),
        (b"QPCE" + bytes(100), "not-a-parcel-file"),
        (b"QPCP\x02" + bytes(100), "parcel-file-newer"),
        (b"QPCP\x01", "parcel-file-damaged"),
        (b"QPCP\x01\x07\0\0\0\0", "parcel-file-damaged"),
        (b"QPCP\x01\x01\xff\xff\xff\xff" + bytes(100), "parcel-file-damaged"),
        (b"QPCP\x01\x01" + (PARCEL + 257).to_bytes(4, "little"), "parcel-file-damaged"),
        (b"QPCP\x01\0\0\0\0\0" + bytes(36), "parcel-file-damaged"),
    ],
)
def test_each_kind_of_nonsense_has_its_code(data: bytes, code: str) -> None:
    found, fault = read_until_fault(data)
    assert found == []
    assert fault is not None
    assert fault.code == code


def test_a_record_that_claims_four_gigabytes_costs_none() -> None:
    asked: list[int] = []
    stream = io.BytesIO(b"QPCP\x01\x01\xff\xff\xff\xff")

    def counted(length: int) -> bytes:
        asked.append(length)
        return stream.read(length)

    with pytest.raises(Malformed):
        list(read_records_untrusted(counted))
    assert max(asked) < 100


def test_records_without_end_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel_file, "FILE_RECORDS", 100)
    record = b"\x01\0\0\0\0"
    found, fault = read_until_fault(b"QPCP\x01" + record * 10_000)
    assert fault is not None
    assert fault.code == "parcel-file-damaged"
    assert len(found) <= 101


def test_writing_more_than_a_file_holds_is_refused_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stick.qpcp"
    for name, limit in (("FILE_RECORDS", 3), ("FILE_BYTES", 500)):
        with monkeypatch.context() as patched:
            patched.setattr(parcel_file, name, limit)
            with pytest.raises(Refused) as raised:
                written(path)
        assert raised.value.code == "too-many-parcels"
        assert list(tmp_path.iterdir()) == []


def test_a_large_file_passes_through_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "stick.qpcp"
    big = Parcel(ParcelId(bytes(16)), DeviceKey(bytes(32)), 1, bytes(PARCEL))
    tracemalloc.start()
    try:
        with ParcelFileWriter(path) as writer:
            for _ in range(64):
                writer.parcel(big)
        with open_parcel_file(path) as opened:
            assert sum(1 for _ in read_records_untrusted(opened.read)) == 64
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 32 << 20
    assert peak < 8 << 20


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and /dev/zero never ends."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(FILE_BYTES + 1)
    for path in (pipe, Path("/dev/zero"), sparse):
        with pytest.raises(Refused) as refused, open_parcel_file(path):
            pass
        assert refused.value.code == "not-a-parcel-file"
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(Fault) as raised, open_parcel_file(path):
            pass
        assert raised.value.code in ("cannot-read-file", "not-a-parcel-file")
