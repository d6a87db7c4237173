"""The command as operators and scripts meet it: ready line, signals, exit codes, what it keeps."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from relay.config import SEED_FILE
from schemas.addresses import RelayAddress
from storage.sqlite import open_database
from tests.relay.process import (
    DEADLINE_S,
    RelayProcess,
    clean_environment,
    relay_command,
    run_relay,
)
from tests.relay.support import DAY, client_of, new_device, parcel


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_stops_cleanly(tmp_path: Path, by: signal.Signals) -> None:
    with RelayProcess(tmp_path / "data") as relay:
        assert set(relay.ready) == {"event", "listen", "address", "device"}
        assert relay.ready["event"] == "ready"
        assert relay.ready["address"] == f"{relay.ready['listen']}#{relay.ready['device']}"
        ended = relay.end(by)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err


async def test_mail_and_address_survive_a_restart(kj: None, tmp_path: Path) -> None:
    bob = new_device()
    item = parcel(bob.public, expires=int(time.time()) + DAY)
    with RelayProcess(tmp_path) as relay:
        first = relay.address
        async with client_of(relay.address) as alice:
            assert (await alice.enqueue(item)).result.sequence == 1
        assert relay.end().code == 0
    with RelayProcess(tmp_path) as relay:
        assert relay.address.device == first.device
        async with client_of(relay.address, bob) as client:
            [held] = (await client.peek()).parcels
            assert held.sealed == item.sealed
            assert (await client.ack(1)).acknowledged == 1
            # Stopped under a connected client, it ends all the same.
            assert relay.end().code == 0


def test_its_secrets_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with RelayProcess(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert len((folder / SEED_FILE).read_bytes()) == 32


def test_files_that_others_can_use_are_made_private_and_told(tmp_path: Path) -> None:
    """As after a backup that was put back by hand, under another umask."""
    apart = tmp_path / "apart" / "mail.db"
    arguments = ("--db-path", str(apart), "--log-level", "error")
    with RelayProcess(tmp_path / "data", *arguments) as relay:
        assert relay.end().code == 0
    mine = [apart, *(tmp_path / "data").iterdir(), apart.with_name("lock")]
    for path in mine:
        path.chmod(0o664)
    others = tmp_path / "data" / "notes.txt"
    others.touch(0o644)
    others.chmod(0o644)
    with RelayProcess(tmp_path / "data", *arguments) as relay:
        assert {stat.S_IMODE(path.stat().st_mode) for path in mine} == {0o600}
        assert stat.S_IMODE(others.stat().st_mode) == 0o644, "not a file of the relay"
        told = relay.end().err
    for path in mine:
        assert f"others could use {path} (mode 0664); now they cannot" in told


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with RelayProcess(tmp_path) as relay:
        second = run_relay("run", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0", "--json")
        assert second.code == 1
        assert second.error["code"] == "already-running"
        assert second.error["hint"]
        assert relay.end().code == 0


def test_two_processes_do_not_share_a_database(tmp_path: Path) -> None:
    shared = str(tmp_path / "shared" / "relay.db")
    with RelayProcess(tmp_path / "one", "--db-path", shared):
        other = ("--data-dir", str(tmp_path / "two"), "--db-path", shared)
        second = run_relay("run", *other, "--listen", "127.0.0.1:0", "--json")
        assert second.error["code"] == "already-running"


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_relay("run", "--data-dir", str(tmp_path), "--listen", listen, "--json")
        assert (ended.code, ended.error["code"]) == (1, "port-busy")
        assert listen.rpartition(":")[2] in ended.error["message"]
        # For people, the same on standard error.
        ended = run_relay("run", "--data-dir", str(tmp_path), "--listen", listen)
        assert (ended.code, ended.out) == (1, "")
        assert "port-busy" in ended.err
        assert "Traceback" not in ended.err


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with RelayProcess(tmp_path) as relay:
        assert relay.end().code == 0
    connection = open_database(tmp_path / "relay.db")
    connection.pragma("user_version", 99)
    connection.close()
    ended = run_relay("run", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0", "--json")
    assert (ended.code, ended.error["code"]) == (1, "database-newer")
    assert "upgrade" in ended.error["hint"]


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    """A new key would be a new address, and every node would fail to reach its relay."""
    (tmp_path / SEED_FILE).write_bytes(b"short")
    ended = run_relay("run", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0", "--json")
    assert (ended.code, ended.error["code"]) == (1, "damaged-seed")
    assert (tmp_path / SEED_FILE).read_bytes() == b"short"


def test_settings_come_from_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    data = json.dumps(str(tmp_path / "data"))
    file.write_text(f"data_dir = {data}\nlisten = '127.0.0.1:bad'\n")
    ended = run_relay("run", "--json", QUICNPROTOCHAT_CONFIG=str(file))
    assert (ended.code, ended.error["code"]) == (1, "bad-setting")
    file.write_text(f"data_dir = {data}\nlistne = '127.0.0.1:0'\n")
    ended = run_relay("run", "--json", "--config", str(file))
    assert ended.error["code"] == "unknown-setting"
    assert "listen" in ended.error["hint"]


def test_people_get_an_address_that_others_can_use(tmp_path: Path) -> None:
    command = relay_command("run", "--data-dir", str(tmp_path), "--listen", "0.0.0.0:0")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean_environment(PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    try:
        assert "ready" in process.stdout.readline()
        address = RelayAddress.parse(process.stdout.readline())
        assert address.address.host not in ("0.0.0.0", "")
        assert address.address.port
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, listen="[::1]:0") as relay:
        assert relay.ready["address"].startswith("[::1]:")
        assert relay.address.address.host == "::1"


@pytest.mark.parametrize("command", [(), ("run",)])
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    ended = run_relay(*command, "--help")
    assert ended.code == 0
    assert "Example" in ended.out
    assert "quicnprotochat-relay run" in ended.out


def test_version_and_wrong_usage() -> None:
    assert "quicnprotochat-relay" in run_relay("--version").out
    for arguments in (("run", "--nonsense"), ("fly",), ("run", "--parcel-ttl-s", "soon")):
        assert run_relay(*arguments).code == 2


def test_a_process_that_cannot_write_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    ended = run_relay("run", "--data-dir", str(blocked / "x"), "--json")
    assert (ended.code, ended.error["code"]) == (1, "cannot-use-folder")
    assert os.path.basename(str(blocked)) in ended.error["message"]
