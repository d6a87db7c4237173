"""The operator's commands, and what `run` does with its further settings."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.config import database_key
from relay.store.sqlite.database import MIGRATIONS
from storage.sqlite import database_version, is_plain, load_migrations, open_database
from tests.relay.process import RelayProcess, run_relay
from tests.relay.support import DAY, client_of, new_device, parcel


def lines(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_doctor_checks_and_shows_every_limit(tmp_path: Path) -> None:
    fresh = run_relay("doctor", "--data-dir", str(tmp_path / "none"), "--json")
    assert fresh.code == 1
    [address] = [each for each in lines(fresh.out)[:-1] if each["name"] == "address"]
    assert address["ok"], "there is no key before the first start, and none is made"
    assert not (tmp_path / "none").exists()
    with RelayProcess(tmp_path) as relay:
        done = run_relay("doctor", "--data-dir", str(tmp_path), "--json")
        *found, limits = lines(done.out)
        assert {str(each["name"]): each["ok"] for each in found} == dict.fromkeys(
            (
                *("folder", "disk", "relay", "address", "port", "database", "parcels", "clock"),
                "admission",
                *("ntp", "disk type", "room", "fsync", "udp buffers", "nofile", "certificate"),
                "settings",
            ),
            True,
        )
        assert done.code == 0
        [address] = [each for each in found if each["name"] == "address"]
        assert address["detail"] == relay.ready["address"]
        people = run_relay("doctor", "--data-dir", str(tmp_path), COLUMNS="80")
        assert relay.ready["address"] in people.out.splitlines()[-1], "in one piece"
        named = limits["limits"]
        assert isinstance(named, dict)
        for name in ("mailbox_parcels", "total_bytes", "connection_calls_rate", "subscriptions"):
            assert name in named
    (tmp_path / "relay.db").chmod(0o644)
    done = run_relay("doctor", "--data-dir", str(tmp_path), "--json")
    assert done.code == 1
    assert any(each["name"] == "folder" and not each["ok"] for each in lines(done.out)[:-1])
    people = run_relay("doctor", "--data-dir", str(tmp_path))
    assert "NOT OK" in people.out
    assert "chmod" in people.out


def test_doctor_takes_the_place_and_the_database_that_run_takes(tmp_path: Path) -> None:
    database = ("--data-dir", str(tmp_path), "--db-path", str(tmp_path / "mail.db"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_relay("doctor", *database, "--store", "sqlite", "--listen", listen, "--json")
        [port] = [each for each in lines(done.out)[:-1] if each["name"] == "port"]
        assert (done.code, port["ok"]) == (1, False)
        assert listen in str(port["detail"])
    done = run_relay("doctor", *database, "--listen", listen, "--json")
    [port] = [each for each in lines(done.out)[:-1] if each["name"] == "port"]
    assert port["ok"]
    assert "free" in str(port["detail"])


async def test_stats_show_what_is_held(kj: None, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, "--metrics", "127.0.0.1:0") as relay:
        async with client_of(relay.address) as alice:
            item = parcel(new_device().public, expires=int(time.time()) + DAY)
            await alice.enqueue(item)
            where = relay.ready["metrics"]
            done = run_relay("stats", "--data-dir", str(tmp_path), "--metrics", where, "--json")
            told = json.loads(done.out)
            assert (told["mailboxes"], told["parcels"], told["bytes"]) == (1, 1, 100)
            assert told["connections"] == 1
            assert told["parcels_total.accepted"] == 1
    people = run_relay("stats", "--data-dir", str(tmp_path))
    assert people.code == 0
    assert "mailboxes" in people.out


def test_where_a_relay_is_reached_is_known_without_it(tmp_path: Path) -> None:
    """Of its last start, else as its key and the settings have it."""

    def address(*settings: str) -> str:
        done = run_relay("doctor", "--data-dir", str(tmp_path), *settings, "--json")
        [found] = [each for each in lines(done.out)[:-1] if each["name"] == "address"]
        return str(found["detail"])

    with RelayProcess(tmp_path, "--advertise", "relay.example:7000") as relay:
        relay.end()
    assert relay.ready["address"] == address() == f"relay.example:7000#{relay.ready['device']}"
    (tmp_path / "address").write_text("torn")
    assert address("--listen", "192.0.2.7:7000") == f"192.0.2.7:7000#{relay.ready['device']}"
    with RelayProcess(tmp_path) as relay:
        relay.end()
    assert relay.ready["address"] == address()


@pytest.mark.parametrize(
    "arguments", [("run", "--bogus"), ("fly",), ("run", "--parcel-ttl-s", "soon"), ("backup",)]
)
def test_wrong_usage_is_told_as_json_too(arguments: tuple[str, ...]) -> None:
    ended = run_relay(*arguments, "--json")
    assert ended.code == 2
    assert ended.error["code"] == "usage"
    assert ended.error["message"]


def test_metrics_are_for_this_machine_only(tmp_path: Path) -> None:
    for listen in ("0.0.0.0:9100", "192.0.2.1:9100", "example.org:9100"):
        data = ("--data-dir", str(tmp_path), "--listen", "127.0.0.1:0")
        ended = run_relay("run", *data, "--metrics", listen, "--json")
        assert (ended.code, ended.error["code"]) == (1, "bad-setting")
    ended = run_relay("run", "--data-dir", str(tmp_path / "new"), "--listen", "nonsense", "--json")
    assert (ended.code, ended.error["message"]) == (2, "--listen cannot be 'nonsense'")
    assert not (tmp_path / "new").exists()


async def test_a_relay_that_is_told_to_stop_says_so_and_ends_in_time(
    kj: None, tmp_path: Path
) -> None:
    """One call waits for mail when SIGTERM comes: it is answered, and the process ends with 0."""
    with RelayProcess(tmp_path, "--metrics", "127.0.0.1:0") as relay:
        url = f"http://{relay.ready['metrics']}/health"
        with urllib.request.urlopen(url) as answer:
            told = json.load(answer)
            assert (told["status"], told["address"]) == ("ok", relay.ready["address"])
        async with client_of(relay.address) as client:
            own = bytes(client.device.public)

            waiting = asyncio.ensure_future(
                client.call("fetchWait", recipientKey=own, timeoutMs=15_000)
            )
            await client.call("health")  # in order: the wait has begun
            begun = time.monotonic()
            ended = await asyncio.to_thread(relay.end, signal.SIGTERM)
            assert ended.code == 0
            assert time.monotonic() - begun < 8
            assert (await waiting).error.code == ""


def test_db_key_encrypts_the_database(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(f"data_dir = {json.dumps(str(tmp_path / 'data'))}\ndb_key = 'correct horse'\n")
    with RelayProcess(tmp_path / "data", "--config", str(file)) as relay:
        assert relay.end().code == 0
    assert not is_plain(tmp_path / "data" / "relay.db")
    listen = ("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    ended = run_relay("run", *listen, "--json")
    assert ended.code == 1
    ended = run_relay("run", *listen, "--json", QUICNPROTOCHAT_DB_KEY="wrong")
    assert (ended.code, ended.error["code"]) == (1, "wrong-database-key")
    assert "wrong" not in ended.error["message"]
    assert database_key("AB" * 32) == bytes.fromhex("ab" * 32)
    assert database_key("correct horse") == database_key("correct horse")


def pem(key: object) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined]
    return made


def test_a_relay_is_known_by_the_key_it_is_given(tmp_path: Path) -> None:
    key, file = Ed25519PrivateKey.generate(), tmp_path / "key.pem"
    file.write_bytes(pem(key))
    with RelayProcess(tmp_path / "data", "--tls-key", str(file)) as relay:
        assert relay.ready["device"] == key.public_key().public_bytes_raw().hex()
        assert relay.end().code == 0
    file.write_bytes(pem(generate_private_key(65537, 2048)))
    listen = ("run", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--json")
    ended = run_relay(*listen, QUICNPROTOCHAT_TLS_KEY=str(file))
    assert (ended.code, ended.error["code"]) == (1, "bad-tls-key")
    ended = run_relay(*listen, QUICNPROTOCHAT_TLS_CERT=str(file))
    assert (ended.code, ended.error["code"]) == (1, "bad-tls-cert")


def test_migrate_brings_an_older_database_up(tmp_path: Path) -> None:
    with closing(open_database(tmp_path / "relay.db")) as connection:
        connection.execute(load_migrations(MIGRATIONS)[0].sql)
        connection.execute("PRAGMA user_version = 1")
    done = run_relay("migrate", "--data-dir", str(tmp_path), "--json")
    newest = len(load_migrations(MIGRATIONS))
    assert json.loads(done.out) == {"version": newest}
    with closing(open_database(tmp_path / "relay.db")) as connection:
        assert database_version(connection) == newest


def test_migrate_makes_no_database_where_there_is_none(tmp_path: Path) -> None:
    typo = tmp_path / "relai"
    done = run_relay("migrate", "--data-dir", str(typo), "--json")
    assert (done.code, done.error["code"]) == (1, "no-file")
    assert not typo.exists()


def test_a_database_that_is_away_is_told_in_words(tmp_path: Path) -> None:
    """And `migrate` is of that database, not of a file that it makes."""
    nobody = "postgresql://nobody@127.0.0.1:1/x"
    for command in ("migrate", "stats", "invite"):
        done = run_relay(
            command, "--data-dir", str(tmp_path), "--json", QUICNPROTOCHAT_DATABASE_URL=nobody
        )
        assert (done.code, done.error["code"]) == (1, "store-unavailable"), command
        assert "at 127.0.0.1:1 cannot be reached: connection refused" in done.error["message"]
        assert "database_url" in done.error["hint"]
    assert not (tmp_path / "relay.db").exists()


def test_logs_are_lines_of_json_on_request_and_name_nobody(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, "--log-format", "json", "--log-level", "info") as relay:
        ended = relay.end()
    for line in ended.err.splitlines():
        assert json.loads(line)["level"]
        assert relay.ready["device"][:12] not in line
