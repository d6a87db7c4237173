"""The relay's durable acknowledgements, beside a bare SQLite loop that commits what has queued.

Ours is the whole path: a client process, QUIC, Cap'n Proto RPC, the relay's process, fsync, and the
answer back. The reference is a thread that writes the same rows with the same settings (WAL,
synchronous=FULL, group commit), called without any network: what the disk and SQLite allow. Both
have the same number of parcels under way.

Client and relay share the machine, so each comes twice: acknowledgements per second of the clock,
and per second of CPU that the relay (all its threads), or the bare loop, has spent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

import transport
from benchmarks.patched_rpc import PARCEL_BYTES, PatchedClient
from benchmarks.process import cpu_s
from benchmarks.report import Row
from identity.keys import device_from_seed, new_seed
from relay.store.sqlite.database import MIGRATIONS
from schemas.addresses import RelayAddress
from schemas.node_service import RELAY_ALPN
from storage.sqlite import migrate, open_database, transaction

ROOT = Path(__file__).parents[1]
SENDERS_PER_STREAM = 64  # calls in flight are bounded per stream
TARGET = 0.4
_RESERVE = """
    UPDATE mailboxes SET next_seq = next_seq + 1, parcels = parcels + 1, bytes = bytes + ?
    WHERE id = ? RETURNING next_seq - 1
"""
_INSERT = "INSERT INTO parcels (mailbox, seq, id, expires, checksum, sealed) VALUES (?,?,?,?,?,?)"
_FAR = "1000000000"  # limits of abuse out of the way: one machine plays many
UNLIMITED = {
    f"QUICNPROTOCHAT_{name}": _FAR
    for name in (
        *(f"{who}_{what}" for who in ("CONNECTION_CALLS", "DEVICE_CALLS", "CONNECTION_BYTES",
                                      "DEVICE_BYTES") for what in ("RATE", "BURST")),
        *("TOTAL_BYTES", "MAILBOX_PARCELS_RATE", "MAILBOX_PARCELS_BURST"),
    )
} | {"QUICNPROTOCHAT_MAILBOX_PARCELS": "1000000", "QUICNPROTOCHAT_MAILBOX_BYTES": _FAR}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """`senders` calls of `batch` parcels each, always under way, over `connections`."""

    senders: int
    batch: int = 1
    connections: int = 1
    target: float | None = None

    @property
    def under_way(self) -> int:
        return self.senders * self.batch

    @property
    def name(self) -> str:
        call = "enqueue" if self.batch == 1 else f"batchEnqueue of {self.batch}"
        return f"relay, {call}, {self.senders} senders"

    @property
    def note(self) -> str:
        connections = "one connection" if self.connections == 1 else "a connection each"
        return f"{self.under_way} parcels under way at both; {connections}"


LOADS = (
    Load(1),
    Load(16),
    Load(64, target=TARGET),
    Load(4, 16, target=TARGET),
    Load(256),
    Load(16, 16),
    Load(64, 64),
    Load(64, connections=64),
)


@dataclass(frozen=True, slots=True)
class Result:
    """Acknowledgements per second, and per second of CPU."""

    per_s: float
    per_cpu_s: float


def rows(quick: bool) -> list[Row]:
    seconds, rounds = (1.0, 1) if quick else (3.0, 3)
    found = []
    for load in LOADS:
        bare, ours = [], []
        for _ in range(rounds):  # alternating
            bare.append(asyncio.run(_bare(load.under_way, seconds)))
            ours.append(_relay(load, seconds))
        unit = "durable acks/s"
        for name, unit, value, beside, target in (
            (
                load.name,
                "durable acks/s",
                max(each.per_s for each in ours),
                max(each.per_s for each in bare),
                load.target,
            ),
            (
                f"{load.name}, by CPU",
                "durable acks/CPU s",
                max(each.per_cpu_s for each in ours),
                max(each.per_cpu_s for each in bare),
                None,
            ),
        ):
            found.append(
                Row(name, value, unit, beside, "bare group commit", target, note=load.note)
            )
    return found


# --- the reference


async def _bare(senders: int, seconds: float) -> Result:
    loop = asyncio.get_running_loop()
    waiting: queue.SimpleQueue[tuple[int, asyncio.Future[None]] | None] = queue.SimpleQueue()

    def write(connection: apsw.Connection) -> None:
        while True:
            batch = [waiting.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(waiting.get_nowait())
            jobs = [job for job in batch if job is not None]
            with transaction(connection):
                for mailbox, _ in jobs:
                    sequence = connection.execute(_RESERVE, (PARCEL_BYTES, mailbox)).get
                    sealed = os.urandom(PARCEL_BYTES)
                    row = (mailbox, sequence, os.urandom(16), 2**31, zlib.crc32(sealed), sealed)
                    connection.execute(_INSERT, row)
            loop.call_soon_threadsafe(answer, jobs)
            if len(jobs) < len(batch):
                return

    def answer(jobs: list[tuple[int, asyncio.Future[None]]]) -> None:
        for _, done in jobs:
            done.set_result(None)

    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        connection = open_database(Path(folder) / "bare.db")
        migrate(connection, MIGRATIONS)
        for _ in range(senders):
            connection.execute(
                "INSERT INTO mailboxes (recipient, channel) VALUES (?, ?)", (os.urandom(32), b"")
            )
        writer = asyncio.create_task(asyncio.to_thread(write, connection))
        acknowledged = 0
        begun, spent = time.perf_counter(), time.process_time()

        async def send(mailbox: int) -> None:
            nonlocal acknowledged
            while time.perf_counter() < begun + seconds:
                done: asyncio.Future[None] = loop.create_future()
                waiting.put((mailbox, done))
                await done
                acknowledged += 1

        await asyncio.gather(*(send(number + 1) for number in range(senders)))
        took, spent = time.perf_counter() - begun, time.process_time() - spent
        waiting.put(None)
        await writer
        connection.close()
        return Result(acknowledged / took, acknowledged / spent)


# --- ours


def _relay(load: Load, seconds: float) -> Result:
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "target") as folder,
        running_relay(Path(folder)) as (relay, pid),
    ):
        return run_load(relay, pid, load, seconds)


@contextlib.contextmanager
def running_relay(folder: Path, *command: str) -> Iterator[tuple[RelayAddress, int]]:
    """The address and process id of a relay; `command` runs it, by default this interpreter."""
    process = subprocess.Popen(
        [*(command or (sys.executable, "-m", "relay.main")), "run", "--data-dir", str(folder),
         "--listen", "127.0.0.1:0", "--json", "--log-level", "error"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | UNLIMITED,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield RelayAddress.parse(json.loads(process.stdout.readline())["address"]), process.pid
    finally:
        process.terminate()
        process.communicate(timeout=30)


def run_load(relay: RelayAddress, pid: int, load: Load, seconds: float) -> Result:
    """Put `load` on the relay of process `pid`, from a process of its own."""
    shape = map(str, (load.senders, load.batch, load.connections, seconds))
    client = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.relay", str(relay), *shape],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert client.stdout is not None
    assert client.stdin is not None
    assert client.stdout.readline() == "ready\n"
    spent = cpu_s(pid)
    client.stdin.write("go\n")
    client.stdin.flush()
    acknowledged, took = map(float, client.stdout.readline().split())
    spent = cpu_s(pid) - spent
    client.communicate(timeout=60)
    return Result(acknowledged / took, acknowledged / spent)


async def _client(relay: RelayAddress, load: Load, seconds: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(load.connections):
            device = device_from_seed(new_seed())
            endpoint = await transport.Endpoint.open(
                device.private, transport.Address("127.0.0.1", 0), handlers={}
            )
            stack.push_async_callback(endpoint.close)
            where = [transport.Address(*relay.address)]
            connection = await endpoint.dial(where, expected=relay.device, alpn=RELAY_ALPN)
            senders = load.senders // load.connections
            for first in range(0, senders, SENDERS_PER_STREAM):
                share = min(SENDERS_PER_STREAM, senders - first)
                stream = await connection.open_stream()
                client = PatchedClient(stream, device.public, share, load.batch)
                await client.start()
                clients.append(client)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        begun = time.perf_counter()

        def going_on() -> bool:
            return time.perf_counter() < begun + seconds

        await asyncio.gather(*(client.run(going_on) for client in clients))
        took = time.perf_counter() - begun
        print(sum(client.acknowledged for client in clients), took, flush=True)


async def _main(arguments: list[str]) -> None:
    relay, senders, batch, connections, seconds = arguments
    load = Load(int(senders), int(batch), int(connections))
    await _client(RelayAddress.parse(relay), load, float(seconds))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
