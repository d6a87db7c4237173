"""A relay's data move to another database: all of them, as they were, or nothing of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import apsw
import asyncpg
import pytest

from relay.audit import verify
from relay.config import DATABASE_FILE, SEED_FILE
from relay.moving.command import tell
from relay.moving.move import Moved, move
from relay.moving.postgres_side import PostgresSide, postgres_source, postgres_target
from relay.moving.postgres_side import take_back as take_back_postgres
from relay.moving.side import COUNTED_ANEW, NOT_MOVED, Row
from relay.moving.sqlite_side import SqliteSide, sqlite_source, sqlite_target, take_back
from relay.store.contract import (
    KeyPackageAnswer,
    MailboxName,
    Quotas,
    RelayStore,
    StoredHybridKey,
    Usage,
)
from relay.store.delivery_tokens import Bringer
from relay.store.moved import MOVED_AWAY
from relay.store.postgres.database import Database
from relay.store.postgres.processes import PostgresProcesses
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.database import MIGRATIONS
from relay.store.sqlite.database import Database as SqliteDatabase
from relay.store.sqlite.store import SqliteStore
from schemas.addresses import Address
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued, EnqueueItem
from storage.lock import FolderLock
from storage.sqlite import migrate, open_database
from tests.relay.process import RelayProcess, run_relay
from tests.relay.support import NOW, bundle, endpoint_record, new_device, new_identity, parcel

SEED = b"s" * 32


def quiet(table: str, done: int, number: int) -> None:
    pass


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The database of a relay that was stopped, with its key beside it."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / SEED_FILE).write_bytes(SEED)
    with closing(open_database(folder / DATABASE_FILE)) as connection:
        migrate(connection, MIGRATIONS)
    return folder / DATABASE_FILE


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    return folder / DATABASE_FILE


async def to_postgres(old: Path, url: str) -> Moved:
    return await move(sqlite_source(old, None), postgres_target(url), quiet, now=NOW)


async def to_sqlite(url: str, new: Path) -> Moved:
    return await move(postgres_source(url), sqlite_target(new, None), quiet, now=NOW)


async def columns_of(url: str) -> dict[str, tuple[str, ...]]:
    async with postgres_source(url) as side:
        return await side.tables()


async def columns_in(file: Path) -> dict[str, tuple[str, ...]]:
    async with sqlite_source(file, None) as side:
        return await side.tables()


async def test_the_stores_have_the_same_tables(old: Path, database_url: str) -> None:
    """What only one of them has is not moved: that must be meant, not forgotten."""
    here, there = await columns_in(old), await columns_of(database_url)
    for names in (here, there):
        for name in NOT_MOVED:
            names.pop(name, None)
        for table, counts in COUNTED_ANEW.items():
            names[table] = tuple(each for each in names[table] if each not in counts)
    assert set(there) == set(here)
    for table, columns in there.items():
        assert columns == here[table], table


def fill_every_table(file: Path, tables: Sequence[str], rows: int) -> None:
    """Rows of any kind: what they mean is nobody's business here."""
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("PRAGMA foreign_keys = off; BEGIN")
        for table in tables:
            found = connection.execute(
                "SELECT name, type FROM pragma_table_info(?)", (table,)
            ).fetchall()
            names = [str(name) for name, _ in found]
            for n in range(1, rows + 1):
                flags = {"last_resort", "known", "guarded", "whole", "stranger"}
                values = [
                    1
                    if name in flags
                    else {"INTEGER": n, "BLOB": n.to_bytes(2, "big") * 8, "TEXT": f"t{n}"}[
                        str(kind)
                    ]
                    for name, kind in found
                ]
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(names)})"
                    f" VALUES ({', '.join('?' * len(names))})",
                    values,
                )
        connection.execute("COMMIT")


def content(file: Path, tables: Sequence[str]) -> dict[str, list[Row]]:
    with closing(apsw.Connection(str(file))) as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in tables
        }


async def test_every_row_of_every_table_comes_along_and_back(
    old: Path, new: Path, database_url: str
) -> None:
    there = await columns_of(database_url)
    tables = sorted(set(await columns_in(old)) & set(there) - set(NOT_MOVED))
    fill_every_table(old, tables, 5_000 // len(tables))
    before = content(old, tables)
    moved = await to_postgres(old, database_url)
    assert moved.rows == {table: len(rows) for table, rows in before.items()}
    assert moved.keyed
    back = await to_sqlite(database_url, new)
    assert back.rows == moved.rows
    assert content(new, tables) == before
    assert (new.parent / SEED_FILE).read_bytes() == SEED
    before["meta"] = sorted([*before["meta"], (MOVED_AWAY, NOW)], key=repr)
    assert content(old, tables) == before, "the source stays as it is, but for its mark"


async def test_the_relay_goes_on_where_it_was(old: Path, new: Path, database_url: str) -> None:
    """Numbers that were given are not given again, and what was consumed stays consumed."""
    bob, ada = new_device(), new_identity()
    items = [parcel(bob.public, size=400 + n) for n in range(5)]
    first: RelayStore = await SqliteStore.open(old)
    await first.open_mailbox(MailboxName(bob.public), now=NOW)
    await first.enqueue(items, now=NOW)
    await first.acknowledge(MailboxName(bob.public), [1, 5])
    await first.put_key_package(bob.public, 1, b"first", last_resort=False, now=NOW)
    await first.put_key_package(bob.public, 1, b"second", last_resort=False, now=NOW)
    taken = await first.take_key_package(bob.public, 1, b"r" * 16, now=NOW)
    assert taken == KeyPackageAnswer(b"first", last_resort=False)
    await first.put_hybrid_key(bob.public, StoredHybridKey(b"h" * 100, b"s" * 64), now=NOW)
    await first.put_bundle(ada.public, 7, bundle(ada, bob, 7), by=bob.public, now=NOW)
    await first.put_endpoint(bob.public, 3, NOW + 60, endpoint_record(bob, 3), now=NOW)
    await first.delivery_tokens.set(bob.public, [b"t" * 32], optional=False, now=NOW)
    usage = first.usage
    await first.close()

    await to_postgres(old, database_url)
    second: RelayStore = await PostgresStore.open(database_url)
    await goes_on(second, bob.public, items, usage)
    await second.close()
    await to_sqlite(database_url, new)
    third: RelayStore = await SqliteStore.open(new)
    box = await third.peek(MailboxName(bob.public), after=0, limit=9, max_bytes=2**20, now=NOW)
    assert [each.sequence for each in box.parcels] == [2, 3, 4, 6]
    await third.close()


async def goes_on(
    store: RelayStore, bob: DeviceKey, items: list[EnqueueItem], usage: Usage
) -> None:
    assert store.usage == usage
    name = MailboxName(bob)
    box = await store.peek(name, after=0, limit=9, max_bytes=2**20, now=NOW)
    assert [each.sequence for each in box.parcels] == [2, 3, 4]
    assert [each.sealed for each in box.parcels] == [each.sealed for each in items[1:4]]
    [next_one] = await store.enqueue([parcel(bob)], now=NOW, by=Bringer(bob))
    assert isinstance(next_one, Enqueued)
    assert next_one.sequence == 6
    with pytest.raises(Refused) as refused:
        await store.put_key_package(bob, 1, b"first", last_resort=False, now=NOW)
    assert refused.value.code == "key-package-used"
    again = await store.take_key_package(bob, 1, b"r" * 16, now=NOW)
    assert again == KeyPackageAnswer(b"first", last_resort=False)
    other = await store.take_key_package(bob, 1, b"q" * 16, now=NOW)
    assert other == KeyPackageAnswer(b"second", last_resort=False)


async def test_the_audit_log_is_one_chain_across_moves(
    old: Path, new: Path, database_url: str
) -> None:
    first: RelayStore = await SqliteStore.open(old)
    for now in (NOW, NOW + 10, NOW + 20):
        await first.audit.append("relay-started", "x", now=now)
    await first.audit.trim(NOW + 5, now=NOW + 30)
    await first.close()
    await to_postgres(old, database_url)
    second: RelayStore = await PostgresStore.open(database_url)
    await second.audit.append("relay-stopped", "x", now=NOW + 40)
    await second.close()
    await to_sqlite(database_url, new)
    third: RelayStore = await SqliteStore.open(new)
    await third.audit.append("relay-started", "x", now=NOW + 50)
    verdict = await verify(third.audit)
    await third.close()
    assert not verdict.fault
    assert verdict.head.number == 6


# --- refusals, and failures on the way


async def rows_there(url: str) -> int:
    database = await Database.open(url, Quotas())
    try:
        return sum(
            [
                (await database.fetch(f"SELECT count(*) FROM {table}"))[0][0]
                for table in ("mailboxes", "parcels", "meta", "relay_key")
            ]
        )
    finally:
        await database.close()


async def test_two_relays_are_not_mixed(old: Path, new: Path, database_url: str) -> None:
    fill_every_table(old, ["mailboxes"], 1)
    await to_postgres(old, database_url)
    with closing(apsw.Connection(str(old))) as connection:
        connection.execute("DELETE FROM meta WHERE name = ?", (MOVED_AWAY,))
    with pytest.raises(Refused) as refused:
        await to_postgres(old, database_url)
    assert refused.value.code == "target-not-empty"
    new.touch()
    with pytest.raises(Refused) as refused:
        await to_sqlite(database_url, new)
    assert refused.value.code == "target-not-empty"
    new.unlink()
    (new.parent / SEED_FILE).write_bytes(b"o" * 32)
    with pytest.raises(Refused) as refused:
        await to_sqlite(database_url, new)
    assert refused.value.code == "target-not-empty"
    assert [each.name for each in new.parent.iterdir() if each.name != "lock"] == [SEED_FILE]
    assert (new.parent / SEED_FILE).read_bytes() == b"o" * 32


async def test_a_database_whose_key_alone_is_there_is_a_relay_s(
    old: Path, database_url: str
) -> None:
    database = await Database.open(database_url, Quotas())
    await PostgresProcesses(database).relay_seed(b"k" * 32)
    await database.close()
    with pytest.raises(Refused) as refused:
        await to_postgres(old, database_url)
    assert refused.value.code == "target-not-empty"


async def code_of(work: Awaitable[object]) -> str:
    with pytest.raises(Refused) as refused:
        await work
    return refused.value.code


async def test_no_relay_starts_on_what_was_moved_until_it_is_taken_back(
    old: Path, new: Path, database_url: str
) -> None:
    """Then it is older than the world: numbers that the new relay gave are not given again."""
    bob = new_device().public
    first: RelayStore = await SqliteStore.open(old)
    await first.enqueue([parcel(bob)], now=NOW)
    await first.close()

    await to_postgres(old, database_url)
    assert await code_of(SqliteStore.open(old)) == "moved-away"
    assert await code_of(SqliteDatabase.beside(old, key=None)) == "moved-away"
    assert await code_of(to_postgres(old, database_url)) == "moved-away"
    take_back(old, None)
    await gives_new_numbers(await SqliteStore.open(old), bob)
    with pytest.raises(Refused) as refused:
        take_back(old, None)
    assert refused.value.code == "not-moved"

    await to_sqlite(database_url, new)
    assert await code_of(PostgresStore.open(database_url)) == "moved-away"
    assert await code_of(to_sqlite(database_url, new)) == "moved-away"
    await take_back_postgres(database_url)
    await gives_new_numbers(await PostgresStore.open(database_url), bob)
    assert await code_of(take_back_postgres(database_url)) == "not-moved"
    await (await SqliteStore.open(new)).close()


async def gives_new_numbers(store: RelayStore, to: DeviceKey) -> None:
    [taken] = await store.enqueue([parcel(to)], now=NOW)
    assert isinstance(taken, Enqueued)
    assert taken.sequence > 2**32
    await store.close()


async def test_who_starts_while_the_data_move_away_does_not_go_on_with_them(
    database_url: str,
) -> None:
    """Who opened the database before the mark waits for the move, and is refused after it: what
    it kept and acknowledged would be lost."""
    bob = new_device().public
    await (await PostgresStore.open(database_url)).close()
    async with postgres_source(database_url) as side:
        store = await PostgresStore.open(database_url)
        waiting = [
            asyncio.create_task(work)
            for work in (
                store.processes.relay_seed(SEED),
                store.processes.announce(Address("relay.example", 7000), b"r" * 16, "1"),
                store.enqueue([parcel(bob)], now=NOW),
                store.delivery_tokens.set(bob, [b"t" * 32], optional=False, now=NOW),
            )
        ]
        done, _ = await asyncio.wait(waiting, timeout=0.3)
        assert not done
        await side.mark_as_moved(NOW)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [getattr(each, "code", each) for each in outcomes] == ["moved-away"] * len(waiting)
    assert await store.processes.all() == []
    await store.close()
    await take_back_postgres(database_url)
    await gives_new_numbers(await PostgresStore.open(database_url), bob)


def test_a_relay_that_was_silent_while_its_data_moved_away_ends(
    tmp_path: Path, new: Path, database_url: str
) -> None:
    """Its machine slept, say."""
    with RelayProcess(tmp_path / "data", "--database-url", database_url) as relay:
        asyncio.run(forget_processes_and_move(database_url, new))
        out, err = relay.popen.communicate(timeout=15)
        assert relay.popen.returncode == 1
        assert json.loads(out)["error"]["code"] == "moved-away", err


async def forget_processes_and_move(url: str, new: Path) -> None:
    connection = await asyncpg.connect(url)
    for _ in range(10):
        await connection.execute("DELETE FROM processes")
        with suppress(Refused):  # it may have been beating just then
            await to_sqlite(url, new)
            break
    await connection.close()


async def test_a_relay_that_writes_while_the_move_takes_its_locks_stops_it(
    new: Path, database_url: str
) -> None:
    """It waits for a table that the move has, and the move for one that it has."""
    await (await PostgresStore.open(database_url)).close()
    writing = await asyncpg.connect(database_url)
    try:
        await writing.execute("SET deadlock_timeout = '1min'")  # the move is to find it
        await writing.execute("BEGIN; LOCK TABLE usage IN ROW EXCLUSIVE MODE")
        moving = asyncio.create_task(to_sqlite(database_url, new))
        await asyncio.sleep(0.5)
        first = asyncio.create_task(writing.execute("LOCK TABLE accounts IN ROW EXCLUSIVE MODE"))
        assert await code_of(moving) == "already-running"
        await first
    finally:
        await writing.close()
    assert not new.exists()


async def test_who_announces_itself_before_the_move_has_its_locks_stops_it(
    new: Path, database_url: str
) -> None:
    store = await PostgresStore.open(database_url)
    starting = await asyncpg.connect(database_url)
    try:
        transaction = starting.transaction()
        await transaction.start()
        await starting.execute(
            "INSERT INTO processes (address, run, version, started, seen)"
            " VALUES ('relay.example:7000', 'r', '1', 1, extract(epoch FROM clock_timestamp()))"
        )
        moving = asyncio.create_task(to_sqlite(database_url, new))
        await asyncio.sleep(0.3)
        await transaction.commit()
        assert await code_of(moving) == "already-running"
    finally:
        await starting.close()
        await store.close()
    assert not new.exists()


async def test_a_source_that_cannot_be_marked_is_said_to_be_none(
    old: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was moved is moved: the operator hears what to beware of."""

    async def full(side: SqliteSide, now: int) -> None:
        raise Fault("disk-full", "the disk is full", blame=Blame.ENVIRONMENT)

    monkeypatch.setattr(SqliteSide, "mark_as_moved", full)
    assert not (await to_postgres(old, database_url)).marked
    await (await PostgresStore.open(database_url)).close()


async def test_a_source_whose_mark_is_not_on_disk_is_said_to_be_none(
    old: Path, new: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends between the mark and its commit."""
    await to_postgres(old, database_url)
    mark = PostgresSide.mark_as_moved

    async def mark_and_end(side: PostgresSide, now: int) -> None:
        await mark(side, now)
        side._connection.terminate()

    monkeypatch.setattr(PostgresSide, "mark_as_moved", mark_and_end)
    moved = await to_sqlite(database_url, new)
    assert moved.keyed
    assert not moved.marked
    assert new.exists()
    await (await PostgresStore.open(database_url)).close()


async def test_a_target_that_is_not_on_disk_is_none(
    old: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends before its commit: the relay stays where it is."""
    finish = PostgresSide.finish

    async def finish_and_end(side: PostgresSide) -> None:
        await finish(side)
        side._connection.terminate()

    monkeypatch.setattr(PostgresSide, "finish", finish_and_end)
    with pytest.raises(Fault) as fault:
        await to_postgres(old, database_url)
    assert fault.value.code == "store-unavailable"
    await (await SqliteStore.open(old)).close()


async def test_nothing_moves_under_a_running_relay(old: Path, new: Path, database_url: str) -> None:
    with FolderLock(old.parent), pytest.raises(Refused) as refused:
        await to_postgres(old, database_url)
    assert refused.value.code == "already-running"
    database = await Database.open(database_url, Quotas())
    processes = PostgresProcesses(database)
    try:
        await processes.announce(Address("relay.example", 7000), b"r" * 16, "1.0")
        for moving in (to_postgres(old, database_url), to_sqlite(database_url, new)):
            with pytest.raises(Refused) as refused:
                await moving
            assert refused.value.code == "already-running"
        await processes.withdraw(Address("relay.example", 7000), b"r" * 16)
    finally:
        await database.close()
    await to_postgres(old, database_url)


async def test_while_it_moves_nobody_writes(old: Path, database_url: str) -> None:
    """A process that starts meanwhile waits, and then sees all that came."""
    fill_every_table(old, ["mailboxes"], 3)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(postgres_target(database_url))
        connection = await asyncpg.connect(database_url)
        stack.push_async_callback(connection.close)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await connection.execute("SET lock_timeout = '50ms'; DELETE FROM mailboxes")
        assert not target.finished


async def test_a_backup_is_not_the_relay(old: Path, database_url: str) -> None:
    with closing(apsw.Connection(str(old))) as connection:
        connection.execute("INSERT INTO meta VALUES ('is_backup', 1)")
    with pytest.raises(Refused) as refused:
        await to_postgres(old, database_url)
    assert refused.value.code == "is-backup"


@pytest.mark.parametrize("forth", [True, False])
async def test_what_is_cut_off_leaves_nothing_and_can_be_begun_again(
    old: Path, new: Path, database_url: str, forth: bool
) -> None:
    fill_every_table(old, ["mailboxes", "parcels", "meta"], 100)
    if not forth:
        await to_postgres(old, database_url)

    def stop(table: str, done: int, number: int) -> None:
        if table == "parcels" and done:
            raise asyncio.CancelledError

    def moving(progress: object = quiet) -> object:
        if forth:
            return move(sqlite_source(old, None), postgres_target(database_url), progress, now=NOW)  # type: ignore[arg-type]
        return move(postgres_source(database_url), sqlite_target(new, None), progress, now=NOW)  # type: ignore[arg-type]

    with pytest.raises(asyncio.CancelledError):
        await moving(stop)  # type: ignore[misc]
    if forth:
        assert await rows_there(database_url) == 0
    else:
        assert {each.name for each in new.parent.iterdir()} <= {"lock"}
    await moving()  # type: ignore[misc]


@pytest.mark.parametrize("side", [SqliteSide, PostgresSide])
async def test_what_arrives_otherwise_than_it_left_is_not_kept(
    old: Path, new: Path, database_url: str, side: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk or a driver that lies: the relay must not start on what is left of it."""
    fill_every_table(old, ["mailboxes", "parcels"], 10)
    if side is SqliteSide:
        await to_postgres(old, database_url)
    write = side.write  # type: ignore[attr-defined]

    async def lossy(self: object, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if table == "parcels":
            at = columns.index("sealed")
            rows = [(*row[:at], b"?", *row[at + 1 :]) for row in rows]
        await write(self, table, columns, rows)

    monkeypatch.setattr(side, "write", lossy)
    with pytest.raises(Fault) as fault:
        await (
            to_sqlite(database_url, new) if side is SqliteSide else to_postgres(old, database_url)
        )
    assert fault.value.code == "move-damaged"
    if side is PostgresSide:
        assert await rows_there(database_url) == 0
    assert not new.exists()


async def test_what_has_no_place_there_is_not_left_behind(old: Path, database_url: str) -> None:
    with closing(apsw.Connection(str(old))) as connection:
        connection.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")
    await to_postgres(old, database_url)  # it is empty

    with closing(apsw.Connection(str(old))) as connection:
        connection.execute("INSERT INTO later VALUES (1)")
        connection.execute("DELETE FROM meta WHERE name = ?", (MOVED_AWAY,))
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE relay_key")
    await connection.close()
    with pytest.raises(Fault) as fault:
        await to_postgres(old, database_url)
    assert fault.value.code == "cannot-move"


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        (Path("/srv/a relay/relay.db"), "--data-dir '/srv/a relay'"),
        (Path("/srv/mail.db"), "--data-dir /srv --db-path /srv/mail.db"),
        ("postgres", "with the same settings"),
        ("postgresql://me:secret@host:1/relay", "--database-url postgresql://me@host:1/relay"),
        (
            "postgresql://@/relay?password=secret&host=%2Fsocket",
            "--database-url 'postgresql://@/relay?host=%2Fsocket'",
        ),
    ],
)
def test_what_to_do_next_is_told_without_a_password(
    target: Path | str, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(Moved(keyed=True, marked=True), target, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"Next: quicnprotochat-relay run {flags}"


def test_the_command(old: Path, new: Path, tmp_path: Path, database_url: str) -> None:
    fill_every_table(old, ["mailboxes"], 3)
    source = f"sqlite:{old.parent}"
    ended = run_relay("migrate", "--from", source, "--to", database_url, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out.splitlines()[-1])
    assert told["moved"]["mailboxes"] == 3
    assert told["key"] is True
    again = run_relay("migrate", "--from", source, "--to", database_url, "--json")
    assert (again.code, again.error["code"]) == (1, "moved-away")
    settings = ("--data-dir", str(old.parent), "--json")
    refused = run_relay("run", "--listen", "127.0.0.1:0", *settings)
    assert (refused.code, refused.error["code"]) == (1, "moved-away")
    assert "--moved-back" in refused.error["hint"]
    ended = run_relay("migrate", "--from", database_url, "--to", f"sqlite:{new.parent}")
    assert (ended.code, "3 mailboxes" in ended.out) == (0, True), ended.err
    assert ended.out.splitlines()[-1] == f"Next: quicnprotochat-relay run --data-dir {new.parent}"
    ended = run_relay("migrate", "--moved-back", *settings)
    assert (ended.code, json.loads(ended.out)) == (0, {"moved_back": True})
    with RelayProcess(old.parent) as relay:
        relay.end()
    both = run_relay("migrate", "--moved-back", "--from", source, "--to", database_url)
    assert both.code == 2
    assert "Traceback" not in ended.err + again.err
    for wrong in (("--from", source), ("--from", source, "--to", "nonsense")):
        ended = run_relay("migrate", *wrong, "--json")
        assert (ended.code, ended.error["code"]) == (2, "usage")
