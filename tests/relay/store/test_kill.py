"""Processes killed at random points of their work: what they acknowledged is there, once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.store.contract import MailboxName
from schemas.addresses import RelayAddress
from schemas.ids import DeviceKey, ParcelId
from tests.relay.crash_sender import open_store
from tests.relay.process import ROOT, RelayProcess
from tests.relay.support import DAY, NOW, client_of, new_device, parcel


@pytest.fixture(params=["postgres", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As crash_sender takes it."""
    return str(tmp_path if request.param == "sqlite" else request.getfixturevalue("database_url"))


def senders(place: str, bob: DeviceKey, number: int) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.relay.crash_sender", place, str(bob)]
    return [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(number)]


async def check(place: str, bob: DeviceKey, lines: list[bytes]) -> None:
    """Every line `ID SEQUENCE` of an acknowledged parcel holds."""
    acknowledged: dict[ParcelId, int] = {}
    for line in lines:
        name, number = line.split()
        acknowledged[ParcelId.from_hex(name.decode())] = int(number)
    store = await open_store(place)
    held: dict[ParcelId, int] = {}
    after = 0
    while True:
        mailbox = await store.peek(
            MailboxName(bob), after=after, limit=1000, max_bytes=2**24, now=NOW
        )
        if not mailbox.parcels:
            break
        held |= {p.id: p.sequence for p in mailbox.parcels}
        after = mailbox.parcels[-1].sequence
    state = await store.mailbox_state(MailboxName(bob))
    await store.close()
    assert len(acknowledged) > 100
    assert len(set(held.values())) == len(held) == state.parcels
    assert {name: held.get(name) for name in acknowledged} == acknowledged


async def test_every_acknowledged_parcel_survives_kill_9(place: str) -> None:
    """Each round goes on with the same data."""
    bob = new_device().public
    lines: list[bytes] = []
    moments = random.Random(20260117)
    for _ in range(6):
        [child] = senders(place, bob, 1)
        assert child.stdout is not None
        lines += [child.stdout.readline() for _ in range(moments.randint(1, 400))]
        child.kill()
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
    await check(place, bob, lines)


async def test_one_of_two_processes_is_killed(database_url: str) -> None:
    """The other one goes on, and nothing that either acknowledged is missing."""
    bob = new_device().public
    lines: list[bytes] = []
    children = senders(database_url, bob, 2)
    for child in children:
        assert child.stdout is not None
        lines += [child.stdout.readline() for _ in range(200)]
    for child, further in ((children[0], 0), (children[1], 500)):
        assert child.stdout is not None
        lines += [child.stdout.readline() for _ in range(further)]
        child.kill()
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
    await check(database_url, bob, lines)


async def test_a_relay_that_was_killed_has_all_mail(kj: None, place: str, tmp_path: Path) -> None:
    bob = new_device()
    expires = int(time.time()) + DAY
    store = ["--database-url", place] if place.startswith("postgresql:") else []
    with RelayProcess(tmp_path, *store) as relay:
        async with client_of(relay.address) as alice:
            for number in range(1, 21):
                answer = await alice.enqueue(parcel(bob.public, expires=expires))
                assert answer.result.sequence == number
            relay.end(signal.SIGKILL)
    with RelayProcess(tmp_path, *store) as relay:
        # Of its addresses, one can be that of the process that was killed.
        address = RelayAddress.parse(f"{relay.ready['listen']}#{relay.ready['device']}")
        async with client_of(address, bob) as client:
            assert [p.sequence for p in (await client.peek()).parcels] == list(range(1, 21))
