"""The command `accounts`, beside a relay that runs and one that does not, on either store."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from relay import server
from relay.accounts_command import accounts_command
from relay.config import load_config
from relay.server import open_relay
from relay.store.accounts import Account
from relay.store.opening import accounts_beside
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Fault
from tests.relay.people import auth, login, person, register
from tests.relay.process import Ended, RelayProcess, run_relay
from tests.relay.support import (
    DAY,
    NOW,
    client_of,
    config_for,
    new_device,
    parcel,
    within,
)

Command = Callable[..., Ended]


@pytest.fixture(params=["postgres", "sqlite"])
def flags(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """Those with which a relay and the commands beside it find one store."""
    settings = tmp_path / "relay.toml"
    url = None if request.param == "sqlite" else request.getfixturevalue("database_url")
    settings.write_text("" if url is None else f"database_url = {json.dumps(url)}\n")
    return ("--config", str(settings), "--data-dir", str(tmp_path / "data"))


@pytest.fixture
def accounts(flags: tuple[str, ...]) -> Command:
    return lambda *given: run_relay("accounts", *flags, *given, "--json")


def lines(ended: Ended) -> list[dict[str, Any]]:
    assert ended.code == 0, ended
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_an_operator_sees_and_ends_accounts_while_the_relay_runs(
    kj: None, tmp_path: Path, flags: tuple[str, ...], accounts: Command
) -> None:
    ann, bob, phone = person("ann"), person("bob"), new_device()
    with RelayProcess(tmp_path / "data", *flags[:2], "--admission", "invite") as relay:
        made = json.loads(run_relay("invite", *flags, "--uses", "3", "--json").out)
        secret = bytes.fromhex(made["invite"])
        async with client_of(relay.address) as laptop, client_of(relay.address, phone) as mobile:
            assert await register(laptop, ann, token=secret) == ""
            assert await register(mobile, bob, token=secret) == ""
            await login(mobile, relay.address.device, bob)
            found = {each["name"]: each for each in lines(accounts())}
            assert list(found) == ["ann", "bob"]
            assert found["ann"]["identity"] == ann.identity.public.hex()
            assert found["ann"]["last_login"] is None
            assert str(found["bob"]["last_login"]).endswith("Z")
            assert found["bob"]["invite"] == made["id"]
            [device] = found["bob"]["devices"]
            assert (device["device"], device["name"]) == (phone.public.hex(), "laptop")

            short = phone.public.hex()[:6]
            assert lines(accounts("--revoke", "Bob", short)) == [
                {"revoked": phone.public.hex(), "name": "bob"}
            ]
        async with client_of(relay.address, phone) as mobile:
            assert (await mobile.peek()).error.code == "device-revoked"
        [gone] = lines(accounts("--delete", "ann", "--yes"))
        assert gone == {"deleted": "ann", "devices": [laptop.device.public.hex()]}
        async with client_of(relay.address, laptop.device) as again:
            assert (await again.peek()).error.code == "not-admitted"
            assert await register(again, person("ann"), token=secret) == "", "the name is free"
        relay.end()
    told = run_relay("audit", *flags, "--json").out
    events = [json.loads(line) for line in told.splitlines()[:-1]]
    by_operator = {e["event"]: e["subject"] for e in events if e["event"].endswith("-by-operator")}
    assert by_operator == {
        "account-deleted-by-operator": None,  # whose it was is forgotten with the account
        "device-revoked-by-operator": f"account:bob device:{phone.public.hex()}",
    }
    assert [each["name"] for each in lines(accounts())] == ["bob", "ann"], "and stopped, too"


@pytest.mark.parametrize("how", ["--revoke", "--delete"])
async def test_a_relay_that_runs_hangs_up_on_whom_its_operator_shut_out(
    kj: None,
    tmp_path: Path,
    flags: tuple[str, ...],
    accounts: Command,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(server, "SWEEP_EVERY_S", 0.05)  # a minute, elsewhere
    given = {"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "data"), "dht": False}
    settings = load_config(given, {}, tmp_path / "relay.toml")
    ann = person("ann")
    async with open_relay(settings) as relay, client_of(relay) as client, client_of(relay) as other:
        assert await register(client, ann) == ""
        assert await register(other, person("bob")) == ""
        token = await login(client, relay.device, ann)
        assert (await client.peek()).error.code == ""
        device = client.device.public.hex()
        arguments = (
            ("--revoke", "ann", device) if how == "--revoke" else ("--delete", "ann", "--yes")
        )
        ended = await asyncio.to_thread(accounts, *arguments)
        assert ended.code == 0, ended
        await within(client.connection.wait_closed())
        assert (await other.peek()).error.code == "", "nobody else"
        async with client_of(relay, client.device) as again:
            assert await again.code("listDevices", auth=auth(again, token)) == "not-logged-in"


async def test_what_a_command_deleted_makes_room_in_the_relay_that_runs(tmp_path: Path) -> None:
    """SQLite's counts are in the memory of the relay; PostgreSQL's are in the database."""
    config = config_for(tmp_path)
    ann, laptop = person("ann"), new_device().public
    store = await SqliteStore.open(config.database)
    try:
        account = Account("ann", ann.identity.public, b"\1record")
        await store.accounts.register(account, laptop, "laptop", invite=None, most=9, now=NOW)
        await store.enqueue([parcel(laptop, size=1000, expires=NOW + DAY)], now=NOW)
        async with accounts_beside(config) as beside:
            await beside.delete(ann.identity.public, now=NOW, by_operator=True)
        await store.sweep(now=NOW)
        assert (store.usage.parcels, store.usage.bytes, store.usage.mailboxes) == (0, 0, 0)
        await store.enqueue([parcel(laptop, size=10, expires=NOW + DAY)], now=NOW)
        await store.sweep(now=NOW)
        assert (store.usage.parcels, store.usage.bytes) == (1, 10)
    finally:
        await store.close()


async def test_on_postgresql_it_makes_migrates_and_settles_nothing(database_url: str) -> None:
    """As on SQLite: what a restore or an upgrade needs is done by the relay, when it starts."""
    config = load_config({"database_url": database_url}, {}, None)
    connection = await asyncpg.connect(database_url)
    try:

        async def code() -> str:
            with pytest.raises(Fault) as fault:
                async with accounts_beside(config):
                    pass
            return fault.value.code

        assert await code() == "no-database"
        assert await connection.fetchval("SELECT to_regclass('schema_version')") is None
        await (await PostgresStore.open(database_url)).close()
        await connection.execute("UPDATE home SET place = 'elsewhere'")
        async with accounts_beside(config) as accounts:
            assert await accounts.entries() == []
            ada = person("ada").identity.public
            account, device = Account("ada", ada, b"\1record"), new_device().public
            await accounts.register(account, device, "laptop", invite=None, most=9, now=NOW)
        assert await connection.fetchval("SELECT place FROM home") == "elsewhere"
        await connection.execute("INSERT INTO schema_version VALUES (99)")
        assert await code() == "database-newer"
    finally:
        await connection.close()


def test_it_asks_before_it_deletes_and_shows_no_name_that_steers_a_terminal(
    tmp_path: Path,
) -> None:
    folder, first = tmp_path / "data", new_device().public

    async def prepare() -> None:

        store = await SqliteStore.open(folder / "relay.db")
        account = Account("ann", person("ann").identity.public, b"\1record")
        await store.accounts.register(account, first, "\x1b[2J[red]x", invite=None, most=9, now=NOW)
        await store.close()

    folder.mkdir()
    asyncio.run(prepare())

    def command(*given: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(
            accounts_command,
            ["--data-dir", str(folder), *given],
            input=answer,
            env={"COLUMNS": "99"},
        )

    def refused(*given: str) -> str:
        ended = command(*given, "--json")
        assert ended.exit_code == 1
        return str(json.loads(ended.stdout)["error"]["code"])

    assert refused("--revoke", "ann", first.hex()[:5]) == "no-such-device"
    assert refused("--revoke", "ann", os.urandom(32).hex()) == "no-such-device"
    assert refused("--revoke", "bob", first.hex()) == "no-account"
    assert refused("--delete", "bob", "--yes") == "no-account"
    assert refused("--delete", "bob") == "no-account"
    assert refused("--delete", "ann") == "not-confirmed"
    assert command("--delete", "ann", "--revoke", "ann", first.hex()).exit_code == 2
    shown = command()
    assert "\x1b" not in shown.stdout
    assert r"\x1b[2J[red]x" in shown.stdout
    kept = command("--delete", "ann", answer="n\n")
    assert kept.exit_code == 1
    assert "nothing was deleted" in kept.stderr
    nobody_answers = command("--delete", "ann", answer="")
    assert nobody_answers.exit_code == 1
    assert nobody_answers.stderr.splitlines()[1:] == kept.stderr.splitlines()[1:]
    unknown = command("--delete", "bob")
    assert "no-account" in unknown.stderr
    assert "Delete the account" not in unknown.stderr
    assert "ann" in command().stdout
    assert command("--delete", "ann", answer="y\n").exit_code == 0
    assert command("--json").stdout == ""
