"""Processes that share a database know of each other, and are known by one key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.config import load_config
from relay.keys import shared_device
from relay.processes import Membership
from relay.store.contract import Quotas
from relay.store.postgres.database import Database
from relay.store.postgres.processes import PostgresProcesses
from relay.store.processes import LIVE_S, REMEMBERED_S, RETURNS_S
from relay.store.sqlite.store import SqliteStore
from relay.upkeep import Upkeep
from schemas.addresses import Address
from schemas.errors import Fault, Refused

ONE, TWO = Address("one.example", 7000), Address("two.example", 7001)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, Quotas())
    yield database
    await database.close()


@pytest.fixture
def processes(database: Database) -> PostgresProcesses:
    return PostgresProcesses(database)


async def silent(database: Database, address: Address, seconds: float) -> None:
    """As if its last word had been so long ago."""

    async def age(connection: object) -> None:
        await connection.execute(  # type: ignore[attr-defined]
            "UPDATE processes SET seen = seen - $2 WHERE address = $1", str(address), seconds
        )

    await database.write(age)


def member(processes: PostgresProcesses, address: Address, *, named: bool = False) -> Membership:
    return Membership(processes, address, "1.0", Upkeep(), named=named)


async def test_each_knows_all_and_nodes_are_told(processes: PostgresProcesses) -> None:
    one, two = member(processes, ONE), member(processes, TWO)
    async with one.announced():
        assert (one.live, one.told) == ([ONE], []), "alone, it may be known by another address"
        async with two.announced():
            assert set(two.live) == set(two.told) == {ONE, TWO}
            await one._announce()
            assert one.told == two.told, "all say the same"
        await one._announce()
        assert one.live == [ONE]
        assert one.told == [ONE, TWO], "it is restarted, most likely: nobody needs to hear of that"


@pytest.mark.parametrize("by", ["SIGTERM", "SIGKILL"])
async def test_nodes_are_not_told_for_long_of_one_that_ended(
    database: Database, processes: PostgresProcesses, by: str
) -> None:
    """Or containers, each with another address, would fill what people's contacts are told."""
    one, two = member(processes, ONE), member(processes, TWO)
    async with one.announced():
        if by == "SIGTERM":
            async with two.announced():
                pass
        else:
            await two._announce()
        await silent(database, TWO, LIVE_S + 1)
        await one._announce()
        assert one.told == [ONE, TWO], "it may be back in a moment"
        await silent(database, TWO, RETURNS_S)
        await one._announce()
        assert one.told == [ONE], "whoever has it in their list hears that it is not there"
        assert [each.address for each in one.known] == [ONE, TWO], "operators see it"


async def test_one_that_is_silent_is_gone_and_forgotten_later(
    database: Database, processes: PostgresProcesses
) -> None:
    one, two = member(processes, ONE), member(processes, TWO)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(two.announced())
        await stack.enter_async_context(one.announced())
        await silent(database, TWO, LIVE_S + 1)
        await one._announce()
        assert one.live == [ONE]
        await silent(database, TWO, REMEMBERED_S)
        await one._announce()
        assert [each.address for each in one.known] == [ONE]
        await two._announce()  # it was only cut off
        await one._announce()
        assert set(one.live) == {ONE, TWO}


async def test_a_named_one_is_told_even_alone(processes: PostgresProcesses) -> None:
    one = member(processes, ONE, named=True)
    async with one.announced():
        assert one.told == [ONE]


async def test_a_killed_one_takes_its_place_again_and_its_ghost_does_not(
    processes: PostgresProcesses, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = member(processes, ONE), member(processes, ONE)
    async with before.announced(), after.announced():
        await before._announce()
        await before._announce()
        assert [each.run for each in await processes.all()] == [after._run]
        told = [record for record in caplog.records if "--advertise" in record.getMessage()]
        assert len(told) == 1, "once, and not with each heartbeat"
    assert [each.live for each in await processes.all()] == [False]


async def test_the_first_one_s_key_is_everybody_s(
    processes: PostgresProcesses, tmp_path: Path
) -> None:
    """Starting another process is one command: no file has to be brought to its machine."""
    configs = [load_config({"data_dir": str(tmp_path / str(n))}, {}, None) for n in range(5)]
    devices = await asyncio.gather(*(shared_device(config, processes) for config in configs))
    assert len({device.public for device in devices}) == 1
    assert not any(config.seed.exists() for config in configs)


async def test_a_relay_that_moves_to_a_database_keeps_its_key(
    processes: PostgresProcesses, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config({"data_dir": str(tmp_path)}, {}, None)
    config.seed.write_bytes(b"k" * 32)
    device = await shared_device(config, processes)
    assert device.seed == b"k" * 32
    config.seed.write_bytes(b"o" * 32)
    assert (await shared_device(config, processes)).public == device.public
    assert "is not used" in caplog.text


async def test_a_named_key_must_be_the_database_s(
    processes: PostgresProcesses, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "relay.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    config = load_config({"data_dir": str(tmp_path), "tls_key": str(file)}, {}, None)
    device = await shared_device(config, processes)
    assert device.seed == key.private_bytes_raw()
    file.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    with pytest.raises(Refused) as refused:
        await shared_device(config, processes)
    assert refused.value.code == "bad-tls-key"


async def test_a_database_that_is_gone_does_not_hold_up_the_end(database: Database) -> None:
    processes = PostgresProcesses(database)
    async with member(processes, ONE).announced():
        await database.close()
    with pytest.raises(Fault):
        await processes.announce(ONE, os.urandom(16), "1.0")


async def test_a_store_that_one_process_has_knows_no_others(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db")
    assert store.processes is None
    await store.close()
