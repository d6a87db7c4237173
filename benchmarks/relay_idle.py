"""What a relay keeps for a recipient that is subscribed and quiet; how it takes a reconnect storm.

Each is a device with a certificate, a QUIC connection over a socket of its own, an RPC stream and a
subscription to its mailbox; all are played by one other process. Memory is the relay's PSS above
what it has before anybody came, divided by their number, after the keep-alives of half a minute. In
the storm every connection is dropped without a word and all dial again, as fast as they are let;
whoever fails tries again as nodes do. It is over when all are subscribed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import transport
from benchmarks.process import pss_mib
from benchmarks.relay import ROOT, running_relay
from benchmarks.report import Row
from identity.keys import KeyPair, device_from_seed, new_seed
from schemas.addresses import RelayAddress
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.node_service import RELAY_ALPN, NodeService, ParcelSink, fill_auth

TARGET_KIB = 60.0
STORM_S = 60.0
SETTLE_S = 35.0  # three keep-alives, and whatever the handshakes left
DIALS_AT_ONCE = {"connect": 32, "storm": 256}  # first without a dial that is given up
SPARE_FILES = 200
_ROOM = {f"QUICNPROTOCHAT_{name}": "20000" for name in ("CONNECTIONS", "SUBSCRIPTIONS")}


def rows(quick: bool) -> list[Row]:
    idle, storm = (200, 100) if quick else (5_000, 2_000)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < idle + SPARE_FILES:
        raise RuntimeError(f"{idle} recipients need as many sockets: ulimit -Hn is {files}")
    os.environ.update(_ROOM)
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "target") as folder,
        running_relay(Path(folder)) as (relay, pid),
    ):
        memory = _Play(relay, idle)
        before = 1024 * pss_mib(pid)
        took = memory.tell("connect")
        time.sleep(1.0 if quick else SETTLE_S)
        each = (1024 * pss_mib(pid) - before) / idle
        memory.end()
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "target") as folder,
        running_relay(Path(folder)) as (relay, _),
    ):
        many = _Play(relay, storm)
        many.tell("connect")
        back = many.tell("storm")
        many.end()
    return [
        Row(
            "memory of an idle subscriber (PSS)",
            each,
            "KiB",
            target=TARGET_KIB,
            of="value",
            at_least=False,
            note=f"{idle:,} at once; the relay has {before / 1024:.0f} MiB before them",
        ),
        Row(
            "idle subscribers served, one after the other",
            idle / took,
            "handshakes/s",
            note=f"{idle:,}; client and relay share the machine",
        ),
        Row(
            "reconnect storm",
            back,
            "s",
            target=STORM_S,
            of="value",
            at_least=False,
            note=f"{storm:,} dial at once; all subscribed again",
        ),
    ]


class _Play:
    """A process that plays `number` recipients."""

    def __init__(self, relay: RelayAddress, number: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.relay_idle", str(relay), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def tell(self, word: str) -> float:
        """Seconds until all of them have done it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=120)


class _Quiet:
    """A sink to which nothing comes."""

    async def parcels_context(self, _: object) -> None: ...


class _Recipient:
    """A device that is subscribed, once `come` has returned, until `go`."""

    def __init__(self, relay: RelayAddress) -> None:
        self._relay = relay
        self._device: KeyPair[DeviceKey] = device_from_seed(new_seed())
        self._stack = contextlib.AsyncExitStack()

    async def come(self, gate: asyncio.Semaphore) -> None:
        wait_s = 0.25
        while True:
            try:
                async with gate:
                    return await self._come()
            except Fault:
                await self._stack.aclose()
                await asyncio.sleep(wait_s * random.uniform(0.75, 1.25))
                wait_s = min(2 * wait_s, 30.0)

    async def _come(self) -> None:
        endpoint = await transport.Endpoint.open(
            self._device.private, transport.Address("127.0.0.1", 0), handlers={}
        )
        self._stack.push_async_callback(endpoint.close)
        where = [transport.Address(*each) for each in self._relay.processes]
        connection = await endpoint.dial(where, expected=self._relay.device, alpn=RELAY_ALPN)
        stream = await connection.open_stream()
        rpc = await self._stack.enter_async_context(transport.connect_rpc(stream))
        request = rpc.cast_as(NodeService).subscribe_request()
        fill_auth(request.init("auth"), self._device.public)
        request.recipientKey = bytes(self._device.public)
        request.sink = rpc.export(ParcelSink, _Quiet())
        answer = await request.send()
        if answer.error.code:
            raise RuntimeError(answer.error.code)

    async def go(self) -> None:
        await self._stack.aclose()


async def _main(relay: RelayAddress, number: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    async with transport.kj_loop():
        recipients = [_Recipient(relay) for _ in range(number)]
        while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            if word == "storm":
                await asyncio.gather(*(each.go() for each in recipients))
            begun = time.perf_counter()
            gate = asyncio.Semaphore(DIALS_AT_ONCE[word])
            await asyncio.gather(*(each.come(gate) for each in recipients))
            print(time.perf_counter() - begun, flush=True)
            gc.freeze()
        os._exit(0)  # thousands of closes say nothing more


if __name__ == "__main__":
    asyncio.run(_main(RelayAddress.parse(sys.argv[1]), int(sys.argv[2])))
