"""The operator's commands beside a relay that keeps its data in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from relay.store.postgres.schema import MIGRATIONS
from storage.sqlite import load_migrations
from tests.relay.postgres import PostgresServer
from tests.relay.process import Ended, RelayProcess, run_relay
from tests.relay.support import DAY, client_of, new_device, parcel

NEWEST = len(load_migrations(MIGRATIONS))


async def test_doctor_stats_audit_and_what_is_not_for_files(
    kj: None, postgres: PostgresServer, tmp_path: Path
) -> None:
    async with postgres.database() as url:
        paper = tmp_path / "friday.json"
        settings = tmp_path / "relay.toml"
        settings.write_text(f"database_url = {json.dumps(url)}\n")
        data = ("--config", str(settings), "--data-dir", str(tmp_path / "data"))

        async def command(name: str, *arguments: str) -> Ended:
            return await asyncio.to_thread(run_relay, name, *data, *arguments, "--json")

        assert (await command("audit", "--verify")).error["code"] == "no-database"
        metrics = ("--metrics", "127.0.0.1:0", "--mailbox-parcels", "1")
        with RelayProcess(tmp_path / "data", "--config", str(settings), *metrics) as relay:
            async with client_of(relay.address) as alice:
                for _ in range(2):
                    await alice.enqueue(parcel(new_device().public, expires=int(time.time()) + DAY))
            where = ("--metrics", relay.ready["metrics"])
            told = json.loads((await command("stats", *where)).out)
            assert (told["mailboxes"], told["parcels"]) == (2, 2)
            assert told["database_bytes"] > 0
            assert told["mailboxes_near_quota"] == 0
            assert told["call_p99_ms.enqueue"] > 0
            assert told["address"] == relay.ready["address"]
            [process] = told["processes"]
            assert (process["address"], process["live"]) == (relay.ready["listen"], True)
            people = await asyncio.to_thread(run_relay, "stats", *data, *where)
            assert f"processes  1 alive: {relay.ready['listen']}" in people.out
            checked = await command("doctor")
            found = {line["name"]: line for line in map(json.loads, checked.out.splitlines()[:-1])}
            assert found["address"]["detail"] == relay.ready["address"]
            assert found["process"]["detail"].startswith(f"{relay.ready['listen']}, version ")
            assert "alive" in found["process"]["detail"]
            invited = json.loads((await command("invite")).out)
            assert invited["address"] == relay.ready["address"]
            with urllib.request.urlopen(f"http://{relay.ready['metrics']}/health") as answer:
                assert json.load(answer)["address"] == relay.ready["address"]
            assert found["database"]["ok"], found["database"]
            assert found["parcels"]["ok"]
            done = await command("audit", "--checkpoint", str(paper))
            assert json.loads(done.out)["rows"] == 2
            assert json.loads(paper.read_text())["relay"] == relay.ready["device"]
            for name in ("backup", "restore"):
                ended = await command(name, str(tmp_path / "copy.db"))
                assert ended.error["code"] == "not-sqlite"
            relay.end()
        checked = await command("doctor", "--listen", "192.0.2.7:7000")
        found = {line["name"]: line for line in map(json.loads, checked.out.splitlines()[:-1])}
        assert found["address"]["detail"] == f"192.0.2.7:7000#{relay.ready['device']}"
        assert "ended" in found["process"]["detail"]
        assert json.loads((await command("migrate")).out)["version"] == NEWEST
        assert not (tmp_path / "data" / "relay.db").exists()
        assert (await command("audit", "--against", str(paper))).code == 0
        await postgres.execute("DELETE FROM audit", database=url.rpartition("/")[2].split("?")[0])
        assert (await command("audit", "--against", str(paper))).error["code"] == "audit-broken"
    gone = await command("doctor")
    [database] = [each for each in map(json.loads, gone.out.splitlines()[:-1])
                  if each["name"] == "database"]  # fmt: skip
    assert not database["ok"]


async def test_run_waits_for_its_database(kj: None, tmp_path: Path) -> None:
    """Started by systemd or compose at one time with it."""
    with PostgresServer() as server:
        async with server.database() as url:
            await asyncio.to_thread(server.stop)
            with RelayProcess(tmp_path, "--database-url", url, waits=True) as relay:
                told = await asyncio.to_thread(relay.read_log)
                assert f"database at {server.folder}" in told
                await asyncio.sleep(1.0)  # several tries
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(relay.read_ready)
                ended = relay.end()
                assert ended.code == 0
                assert "the database is there after" in ended.err
                assert "no such file" not in ended.err, "that was said"


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_relay_that_waits_for_its_database_is_stopped_at_once(
    tmp_path: Path, by: signal.Signals
) -> None:
    nobody = "postgresql://nobody:s3cret@127.0.0.1:1/x"
    with RelayProcess(tmp_path, "--database-url", nobody, waits=True) as relay:
        told = relay.read_log()
        assert "at 127.0.0.1:1 cannot be reached: connection refused" in told
        assert "s3cret" not in told
        began = time.monotonic()
        ended = relay.end(by)
        assert time.monotonic() - began < 5
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_what_does_not_mend_itself_is_not_waited_for(tmp_path: Path) -> None:
    done = run_relay("run", "--data-dir", str(tmp_path), "--json",
                     QUICNPROTOCHAT_DATABASE_URL="postgresql://u@/d?sslmode=nonsense")  # fmt: skip
    assert (done.code, done.error["code"]) == (1, "bad-database-url")
