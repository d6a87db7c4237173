"""A relay as a process whose disk is really full, or whose files are taken away while it runs."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.mounting import OWN_MOUNTS, needs_mounting
from tests.relay.process import RelayProcess
from tests.relay.support import DAY, Client, client_of, new_device, parcel

SMALL_DISK = (*OWN_MOUNTS, "sh", "-c", 'mount -t tmpfs -o size=2m none "$0" && exec "$@"')


def health(relay: RelayProcess) -> dict[str, Any]:
    try:
        answer = urllib.request.urlopen(f"http://{relay.ready['metrics']}/health", timeout=10)
    except urllib.error.HTTPError as unavailable:
        answer = unavailable
    with answer:
        told: dict[str, Any] = json.load(answer)
        assert (answer.status == 200) == (told["status"] == "ok")
        return told


async def bring(client: Client, item: Any) -> tuple[str, int]:
    """(error code, sequence number) of an enqueue."""
    answer = await client.enqueue(item)
    return answer.error.code, answer.result.sequence


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass


async def test_a_full_disk_refuses_the_sender_serves_the_owner_and_recovers(
    kj: None, tmp_path: Path
) -> None:
    needs_mounting()
    disk, bob, expires = tmp_path / "disk", new_device(), int(time.time()) + DAY
    disk.mkdir()
    inside = (*SMALL_DISK, str(disk))
    with RelayProcess(disk / "data", "--metrics", "127.0.0.1:0", inside=inside) as relay:
        ballast = Path(f"/proc/{relay.popen.pid}/root{disk}/ballast")
        async with client_of(relay.address) as alice, client_of(relay.address, bob) as owner:
            fill(ballast)
            acknowledged, refused = [], parcel(bob.public, size=20_000, expires=expires)
            for _ in range(60):  # the log has some room of its own
                code, sequence = await bring(alice, refused)
                if code:
                    break
                acknowledged.append(refused.id)
                refused = parcel(bob.public, size=20_000, expires=expires)
            assert code == "disk-full"
            told = health(relay)
            assert (told["status"], told["reason"]) == ("degraded", "disk-full")
            held = (await owner.peek()).parcels
            assert [each.id for each in held] == acknowledged, "lost, or kept and refused"
            own = bytes(bob.public)
            fetched = (await owner.call("fetch", recipientKey=own, limit=1)).parcels
            assert [each.id for each in fetched] == acknowledged[:1]
            ballast.unlink()
            code, sequence = await bring(alice, refused)
            assert (code, sequence > len(acknowledged)) == ("", True)
            assert health(relay)["status"] == "ok"
            assert (await owner.peek()).parcels[-1].id == refused.id
        ended = relay.end()
        assert ended.code == 0
        assert "Traceback" not in ended.err


@pytest.mark.parametrize("lost", ["relay.db", "relay.db-wal"])
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    kj: None, tmp_path: Path, lost: str
) -> None:
    bob, expires = new_device(), int(time.time()) + DAY
    with RelayProcess(tmp_path, "--metrics", "127.0.0.1:0") as relay:
        async with client_of(relay.address) as alice, client_of(relay.address, bob) as owner:
            assert await bring(alice, parcel(bob.public, expires=expires)) == ("", 1)
            (tmp_path / lost).rename(tmp_path / "elsewhere")
            (tmp_path / lost).write_bytes(b"")  # somebody restores a copy without stopping us
            late = parcel(bob.public, expires=expires)
            assert (await bring(alice, late))[0] == "store-unavailable"
            told = health(relay)
            assert (told["status"], told["reason"]) == ("unhealthy", "database-replaced")
            assert (await owner.peek()).parcels[0].sequence == 1, "what it has can be read"
            (tmp_path / "elsewhere").rename(tmp_path / lost)
            assert await bring(alice, late) == ("", 2)
            assert health(relay)["status"] == "ok"
        relay.popen.kill()
        relay.popen.wait()
    with RelayProcess(tmp_path) as relay:
        async with client_of(relay.address, bob) as owner:
            assert [each.sequence for each in (await owner.peek()).parcels] == [1, 2]
