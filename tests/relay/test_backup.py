"""A copy of the running relay's database, and why an old one can be put back."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.store.contract import MailboxName, Quotas
from relay.store.sqlite.backup import SEQUENCE_JUMP, back_up, restore
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued
from storage.sqlite import is_plain
from tests.relay.process import ROOT, RelayProcess, run_relay
from tests.relay.support import DAY, NOW, SUITE, client_of, new_device, parcel


async def test_a_running_relay_is_copied_and_the_copy_restored(kj: None, tmp_path: Path) -> None:
    bob, folder, file = new_device(), tmp_path / "data", tmp_path / "copy.db"
    expires = int(time.time()) + DAY
    with RelayProcess(folder) as relay:
        async with client_of(relay.address) as alice:
            for _ in range(3):
                await alice.enqueue(parcel(bob.public, expires=expires))
            done = await asyncio.to_thread(
                run_relay, "backup", str(file), "--data-dir", str(folder), "--json"
            )
            assert done.code == 0, done
            told = json.loads(done.out)
            assert told["rows"]["parcels"] == 3
            assert told["rows"]["audit"] == 1, "all tables, as migrate counts them"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            # It goes on; what comes now is in no copy, and its number has been seen.
            for _ in range(2):
                await alice.enqueue(parcel(bob.public, expires=expires))
        busy = run_relay("restore", str(file), "--data-dir", str(folder), "--json")
        assert busy.error["code"] == "already-running"
        relay.end()
    refused = run_relay("restore", str(file), "--data-dir", str(folder), "--json")
    assert refused.error["code"] == "file-exists"
    for each in folder.glob("relay.db*"):
        each.unlink()
    restored = run_relay("restore", str(file), "--data-dir", str(folder), "--json")
    assert json.loads(restored.out)["rows"] == told["rows"]
    with RelayProcess(folder) as relay:
        async with client_of(relay.address) as alice, client_of(relay.address, bob) as client:
            assert [each.sequence for each in (await client.peek()).parcels] == [1, 2, 3]
            answer = await alice.enqueue(parcel(bob.public, expires=expires))
            # A client that read to 5 before the disk died must see it.
            assert answer.result.sequence == 4 + SEQUENCE_JUMP
            other = await alice.enqueue(parcel(new_device().public, expires=expires))
            assert other.result.sequence > SEQUENCE_JUMP


async def test_key_packages_are_not_consumed_twice_after_a_restore(tmp_path: Path) -> None:
    bob = DeviceKey(os.urandom(32))
    store = await SqliteStore.open(tmp_path / "relay.db")
    await store.put_key_package(bob, SUITE, b"once", last_resort=False, now=NOW)
    await store.put_key_package(bob, SUITE, b"for ever", last_resort=True, now=NOW)
    back_up(tmp_path / "relay.db", tmp_path / "copy.db")
    taken = await store.take_key_package(bob, SUITE, bytes(16), now=NOW)
    assert taken is not None
    assert taken.package == b"once"
    await store.close()
    restore(tmp_path / "copy.db", tmp_path / "restored.db")
    store = await SqliteStore.open(tmp_path / "restored.db")
    again = await store.take_key_package(bob, SUITE, bytes(15) + b"x", now=NOW)
    assert again is not None
    assert again.package == b"for ever", "the other one was handed out by the lost database"
    await store.close()


async def test_it_jumps_once(tmp_path: Path) -> None:
    bob = DeviceKey(os.urandom(32))
    store = await SqliteStore.open(tmp_path / "relay.db")
    await store.enqueue([parcel(bob)], now=NOW)
    back_up(tmp_path / "relay.db", tmp_path / "copy.db")
    await store.close()
    for expected in (2, 3):
        store = await SqliteStore.open(tmp_path / "copy.db")  # copied into place by hand
        [outcome] = await store.enqueue([parcel(bob)], now=NOW)
        assert isinstance(outcome, Enqueued)
        assert outcome.sequence == expected + SEQUENCE_JUMP
        await store.close()


async def test_an_encrypted_database_gives_an_encrypted_copy(tmp_path: Path) -> None:
    key, bob = os.urandom(32), DeviceKey(os.urandom(32))
    store = await SqliteStore.open(tmp_path / "relay.db", key=key)
    await store.enqueue([parcel(bob)], now=NOW)
    back_up(tmp_path / "relay.db", tmp_path / "copy.db", key=key)
    await store.close()
    assert not is_plain(tmp_path / "copy.db")
    with pytest.raises(Fault):
        restore(tmp_path / "copy.db", tmp_path / "x.db", key=os.urandom(32))
    assert restore(tmp_path / "copy.db", tmp_path / "y.db", key=key).rows["parcels"] == 1


@pytest.mark.parametrize("harm", ["truncated", "flipped", "garbage", "live"])
async def test_what_is_no_whole_backup_is_refused_and_nothing_changes(
    tmp_path: Path, harm: str
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db")
    bob = DeviceKey(os.urandom(32))
    await store.enqueue([parcel(bob, size=3000) for _ in range(50)], now=NOW)
    file = tmp_path / "copy.db"
    back_up(tmp_path / "relay.db", file)
    await store.close()
    data = bytearray(file.read_bytes())
    if harm == "truncated":
        data = data[: len(data) // 2]
    elif harm == "flipped":
        data[4096 * 3 : 4096 * 3 + 64] = os.urandom(64)
    elif harm == "garbage":
        data = bytearray(os.urandom(10_000))
    else:
        data = bytearray((tmp_path / "relay.db").read_bytes())
    file.write_bytes(data)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(Fault) as raised:
        restore(file, tmp_path / "new.db")
    assert raised.value.code == "backup-damaged"
    assert str(file) in raised.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == before


async def test_a_copy_under_load_is_whole(tmp_path: Path) -> None:
    """Every parcel acknowledged before the copy began is in it."""
    bob = DeviceKey(os.urandom(32))
    command = [sys.executable, "-m", "tests.relay.crash_sender", str(tmp_path), str(bob)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().split()[0].decode() for _ in range(200)]
        back_up(tmp_path / "relay.db", tmp_path / "copy.db")
    finally:
        child.kill()
        child.communicate()
    store = await SqliteStore.open(tmp_path / "copy.db", Quotas())
    mailbox = await store.peek(MailboxName(bob), after=0, limit=10**6, max_bytes=2**30, now=NOW)
    await store.close()
    assert set(acknowledged) <= {each.id.hex() for each in mailbox.parcels}
