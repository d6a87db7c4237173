"""The relay's durable acknowledgements, beside a bare SQLite loop that commits what has queued.

Ours is the whole path: client processes, QUIC, Cap'n Proto RPC, the relay's process, fsync, and the
answer back. The reference is a thread that writes the same rows with the same settings (WAL,
synchronous=FULL, group commit), called without any network: what the disk and SQLite allow.
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
from pathlib import Path

import apsw

import transport
from benchmarks.report import Row
from identity.keys import device_from_seed, new_seed
from relay.store.sqlite import MIGRATIONS
from schemas.addresses import RelayAddress
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import (
    RELAY_ALPN,
    EnqueueItem,
    NodeService,
    fill_auth,
    fill_enqueue_item,
)
from storage.sqlite import migrate, open_database, transaction

ROOT = Path(__file__).parents[1]
SENDERS = (1, 16, 64, 256)
PARCEL_BYTES = 400
BATCH = 64
CLIENTS = 2  # processes; the relay's core is what is measured
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
        "TOTAL_BYTES",
    )
} | {"QUICNPROTOCHAT_MAILBOX_PARCELS": "1000000", "QUICNPROTOCHAT_MAILBOX_BYTES": _FAR}  # fmt: skip


def rows(quick: bool) -> list[Row]:
    seconds, rounds = (1.0, 1) if quick else (3.0, 3)
    found = []
    for senders in SENDERS:
        ours, batched, bare = [], [], []
        for _ in range(rounds):  # alternating
            bare.append(asyncio.run(_bare(senders, seconds)))
            ours.append(_relay(senders, 1, seconds))
            batched.append(_relay(senders, BATCH, seconds))
        reference = max(bare)
        at_64 = TARGET if senders == 64 else None
        many = f"{senders * BATCH} parcels under way; nodes send so"
        for name, figures, note in (
            ("enqueue", ours, "one call per parcel"),
            (f"batchEnqueue of {BATCH}", batched, many),
        ):
            found.append(
                Row(
                    f"relay, {name}, {senders} senders",
                    max(figures),
                    "durable acks/s",
                    reference,
                    "bare group commit",
                    at_64,
                    note=note,
                )
            )
    return found


# --- the reference


async def _bare(senders: int, seconds: float) -> float:
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
        begun = time.perf_counter()

        async def send(mailbox: int) -> None:
            nonlocal acknowledged
            while time.perf_counter() < begun + seconds:
                done: asyncio.Future[None] = loop.create_future()
                waiting.put((mailbox, done))
                await done
                acknowledged += 1

        await asyncio.gather(*(send(number + 1) for number in range(senders)))
        took = time.perf_counter() - begun
        waiting.put(None)
        await writer
        connection.close()
        return acknowledged / took


def _item(recipient: DeviceKey) -> EnqueueItem:
    expires = int(time.time()) + 86_400
    return EnqueueItem(recipient, ParcelId(os.urandom(16)), expires, os.urandom(PARCEL_BYTES))


# --- ours


@contextlib.contextmanager
def running_relay(folder: Path, *command: str) -> Iterator[RelayAddress]:
    """A relay in a process of its own; `command` runs it, by default this interpreter."""
    process = subprocess.Popen(
        [*(command or (sys.executable, "-m", "relay.main")), "run", "--data-dir", str(folder),
         "--listen", "127.0.0.1:0", "--json", "--log-level", "error"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | UNLIMITED,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield RelayAddress.parse(json.loads(process.stdout.readline())["address"])
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _relay(senders: int, batch: int, seconds: float) -> float:
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "target") as folder,
        running_relay(Path(folder)) as relay,
    ):
        return load(relay, senders, batch, seconds)


def load(relay: RelayAddress, senders: int, batch: int, seconds: float) -> float:
    """Acknowledged parcels per second from CLIENTS processes with `senders` calls in flight."""
    clients = min(CLIENTS, senders)
    shares = [senders // clients + (n < senders % clients) for n in range(clients)]
    children = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.relay",
                str(relay),
                str(share),
                str(batch),
                str(seconds),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for share in shares
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return sum(float(child.communicate(timeout=60)[0]) for child in children)


async def _client(relay: RelayAddress, senders: int, batch: int, seconds: float) -> None:
    device = device_from_seed(new_seed())
    endpoint = await transport.Endpoint.open(
        device.private, transport.Address("127.0.0.1", 0), handlers={}
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(endpoint.close)
        where = [transport.Address(*relay.address)]
        connection = await endpoint.dial(where, expected=relay.device, alpn=RELAY_ALPN)
        services = []
        for _ in range(1 + (senders - 1) // 64):  # calls in flight are bounded per stream
            stream = await connection.open_stream()
            rpc = await stack.enter_async_context(transport.connect_rpc(stream))
            services.append(rpc.cast_as(NodeService).capability)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        begun = time.perf_counter()
        until, acknowledged = begun + seconds, 0

        async def send(number: int) -> None:
            nonlocal acknowledged
            service = services[number % len(services)]
            recipient = DeviceKey(os.urandom(32))
            while time.perf_counter() < until:
                if batch == 1:
                    request = service.enqueue_request()
                    fill_auth(request.init("auth"), device.public)
                    fill_enqueue_item(request.init("item"), _item(recipient))
                    results = [(await request.send()).result]
                else:
                    request = service.batchEnqueue_request()
                    fill_auth(request.init("auth"), device.public)
                    for slot in request.init("items", batch):
                        fill_enqueue_item(slot, _item(recipient))
                    results = list((await request.send()).results)
                for result in results:
                    assert not result.error.code, result.error.code
                acknowledged += len(results)

        await asyncio.gather(*(send(number) for number in range(senders)))
        print(acknowledged / (time.perf_counter() - begun), flush=True)


async def _main(arguments: list[str]) -> None:
    async with transport.kj_loop():
        relay, senders, batch, seconds = arguments
        await _client(RelayAddress.parse(relay), int(senders), int(batch), float(seconds))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
