"""What disks and clocks do: flipped bytes, no space, a lock held, a clock that jumps, a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from relay.clock import ClockDoubt
from relay.server import open_relay
from relay.store.contract import MailboxName
from relay.store.sqlite.database import MIGRATIONS
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued, Mailbox
from storage.sqlite import database_version, load_migrations, migrate, open_database
from tests.mounting import OWN_MOUNTS, needs_mounting
from tests.relay.process import ROOT, clean_environment, run_relay
from tests.relay.support import DAY, NOW, Clock, client_of, config_for, new_device, parcel


async def look(store: SqliteStore, bob: DeviceKey, now: int = NOW) -> Mailbox:
    return await store.peek(MailboxName(bob), after=0, limit=1000, max_bytes=2**24, now=now)


async def test_bytes_that_the_disk_flipped_are_never_served_and_block_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, bob = tmp_path / "relay.db", DeviceKey(os.urandom(32))
    store = await SqliteStore.open(file)
    sent = [parcel(bob, size=3_000) for _ in range(20)]
    await store.enqueue(sent, now=NOW)
    await store.close()
    data = bytearray(file.read_bytes())
    for victim in (sent[3], sent[7], sent[19]):
        at = data.index(victim.sealed[:64])
        data[at + 10] ^= 0xFF
    file.write_bytes(data)
    store = await SqliteStore.open(file)
    mailbox = await look(store, bob)
    good = [item.sealed for number, item in enumerate(sent) if number not in (3, 7, 19)]
    assert [each.sealed for each in mailbox.parcels] == good
    assert store.counters["damaged"] == 3
    assert "damaged" in caplog.text
    assert bob.hex()[:12] not in caplog.text
    # They are out of the way, their room is free, and the sender's repetition is kept.
    await look(store, bob)
    assert store.counters["damaged"] == 3
    assert (await store.mailbox_state(MailboxName(bob))).parcels == 17
    [again] = await store.enqueue([sent[3]], now=NOW)
    assert isinstance(again, Enqueued)
    assert again.sequence == 21
    await store.close()
    checked = run_relay("doctor", "--data-dir", str(tmp_path), "--json")
    assert '"name": "parcels", "ok": false' in checked.out


async def test_a_clock_that_jumps_loses_nothing_that_is_live(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    bob = new_device()
    async with (
        open_relay(config_for(tmp_path), clock=clock) as relay,
        client_of(relay) as alice,
        client_of(relay, bob) as client,
    ):
        await alice.enqueue(parcel(bob.public, expires=NOW + DAY))
        clock.now = NOW - 365 * DAY
        await relay.store.sweep(now=int(clock()))
        assert len((await client.peek()).parcels) == 1
        # By that clock it will be kept for so long; the sender is told, and repeats what is over.
        wrong = await alice.enqueue(parcel(bob.public, expires=NOW + DAY))
        assert wrong.result.expires == NOW - 358 * DAY
        clock.now = NOW + DAY - 1
        [first] = (await client.peek()).parcels
        assert first.expires == NOW + DAY


def test_a_clock_that_jumped_ahead_deletes_nothing_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steady = [0.0]
    doubt = ClockDoubt(NOW, lambda: steady[0])
    steady[0] += 60
    assert doubt.trusts(NOW + 60)
    assert not doubt.trusts(NOW + 60 + 30 * DAY)
    assert "ahead" in caplog.text
    steady[0] += 60
    assert not doubt.trusts(NOW + 120 + 30 * DAY)
    assert doubt.trusts(NOW + 120), "it was set right"
    assert not doubt.trusts(NOW + 120 + 30 * DAY)
    steady[0] += 3600
    assert doubt.trusts(NOW + 3720 + 30 * DAY), "it stayed: it was right"


async def test_after_a_jump_ahead_only_what_was_swept_is_gone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db")
    bob = DeviceKey(os.urandom(32))
    await store.enqueue([parcel(bob, expires=NOW + DAY)], now=NOW)
    assert (await look(store, bob, NOW + 10 * DAY)).parcels == ()
    # Before the sweep came by, the clock was set right.
    assert len((await look(store, bob, NOW + 1)).parcels) == 1
    await store.close()


async def test_a_database_that_another_process_holds_is_told_and_got_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite.BUSY_TIMEOUT_MS", 50)
    store = await SqliteStore.open(tmp_path / "relay.db")
    bob = DeviceKey(os.urandom(32))
    with closing(apsw.Connection(str(tmp_path / "relay.db"))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Fault) as raised:
            await store.enqueue([parcel(bob)], now=NOW)
        assert raised.value.code == "database-busy"
        assert store.trouble is not None
        other.execute("ROLLBACK")
    await store.enqueue([parcel(bob)], now=NOW)
    assert store.trouble is None
    assert (await look(store, bob)).highest == 1
    await store.close()


FULL_DISK = """
import asyncio, os, sys
from pathlib import Path
from relay.store.contract import MailboxName
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Fault
from schemas.ids import DeviceKey
from tests.relay.support import NOW, parcel

async def main(folder):
    store = await SqliteStore.open(folder / "relay.db")
    bob, acknowledged, code = DeviceKey(os.urandom(32)), [], ""
    while not code:
        try:
            [outcome] = await store.enqueue([parcel(bob, size=20_000)], now=NOW)
            acknowledged.append(outcome.sequence)
        except Fault as fault:
            code = fault.code
    trouble = store.trouble
    assert code == "disk-full" and trouble is not None and trouble.code == code, code
    assert store.usage.parcels == len(acknowledged), "the counts are those of what is on disk"
    name = MailboxName(bob)
    box = await store.peek(name, after=0, limit=1000, max_bytes=2**24, now=NOW)
    assert [p.sequence for p in box.parcels] == acknowledged, "reading goes on"
    (folder / "ballast").unlink()
    await store.enqueue([parcel(bob, size=20_000)], now=NOW)
    assert store.trouble is None
    await store.close()
    print(len(acknowledged))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_refuses_keeps_what_it_has_and_recovers(tmp_path: Path) -> None:
    needs_mounting()
    disk, script = tmp_path / "disk", tmp_path / "full.py"
    disk.mkdir()
    script.write_text(textwrap.dedent(FULL_DISK))
    steps = (
        f"mount -t tmpfs -o size=2m none {disk}"
        f" && dd if=/dev/zero of={disk}/ballast bs=1k count=512 status=none"
        f" && exec {sys.executable} {script} {disk}"
    )
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", steps],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


KILLED = """
import os, signal, sys
from pathlib import Path
import storage.sqlite as module
from relay.store.sqlite.database import MIGRATIONS
connection = module.open_database(Path(sys.argv[1]))
seen = 0
def trace(cursor, sql, bindings):
    global seen
    seen += 1
    if seen == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return True
connection.exec_trace = trace
module.migrate(connection, MIGRATIONS)
print(seen)
"""


def first_version(file: Path) -> None:
    """A database as the first version left it, with mail."""
    with closing(open_database(file)) as connection:
        connection.execute(load_migrations(MIGRATIONS)[0].sql)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO mailboxes (id, recipient, channel, next_seq, parcels, bytes)"
            " VALUES (1, ?, x'', 6, 1, 3)",
            (bytes(32),),
        )
        connection.execute(
            "INSERT INTO parcels VALUES (1, 5, ?, ?, ?, ?)",
            (bytes(16), NOW + DAY, zlib.crc32(b"abc"), b"abc"),
        )


async def test_a_relay_killed_at_any_statement_of_a_migration_starts_again(tmp_path: Path) -> None:
    statement = killed = 0
    while True:
        statement += 1
        file = tmp_path / f"{statement}.db"
        first_version(file)
        command = [sys.executable, "-c", KILLED, str(file), str(statement)]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        with closing(open_database(file)) as connection:
            assert database_version(connection) in (1, 2)
            migrate(connection, MIGRATIONS)
            assert connection.execute("PRAGMA integrity_check").get == "ok"
        store = await SqliteStore.open(file)
        box = await look(store, DeviceKey(bytes(32)))
        assert [(p.sequence, p.sealed) for p in box.parcels] == [(5, b"abc")]
        assert (await store.mailbox_state(MailboxName(DeviceKey(bytes(32))))).next_sequence == 6
        assert store.usage.strangers == 0, "who had a mailbox before is known"
        await store.close()
    assert killed >= 5
