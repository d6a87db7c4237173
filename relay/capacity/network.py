"""What a relay process takes over QUIC on loopback, and what an idle subscriber costs it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transport
from identity.keys import device_from_seed, new_seed
from relay.capacity.disk import PARCEL_BYTES, RECIPIENTS, Rate, rate_of
from schemas.addresses import RelayAddress
from schemas.errors import Blame, Fault
from schemas.ids import DeviceKey
from schemas.node_service import AUTH_VERSION, RELAY_ALPN, NodeService, ParcelSink

START_S = 20.0
STOP_S = 15.0
CONNECTIONS = 4  # of the senders
WARM_UP = 8  # subscribers before the sample: what the first ones cost is not theirs alone
_FAR = "1000000000"
# One machine plays many: what bounds a single caller is out of the way.
_UNBOUND = (
    *(f"{who}_{what}_{how}" for who in ("CONNECTION", "DEVICE") for what in ("CALLS", "BYTES")
      for how in ("RATE", "BURST")),
    "MAILBOX_BYTES", "CONNECTIONS", "SUBSCRIPTIONS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ThrowAway:
    """A relay in a process of its own."""

    address: RelayAddress
    pid: int


class _Sink:
    """A subscriber that nothing comes for."""

    async def parcels_context(self, context: Any) -> None:
        pass


@asynccontextmanager
async def throw_away_relay(folder: Path) -> AsyncIterator[ThrowAway]:
    """It keeps its data in `folder`, takes a free loopback port, and is gone afterwards.

    Raises Fault `capacity-no-relay` when it does not start.
    """
    # Its settings are these alone: whoever asks may have a relay's in the environment.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUICNPROTOCHAT_")}
    environment |= {f"QUICNPROTOCHAT_{name}": _FAR for name in _UNBOUND}
    environment |= {
        "QUICNPROTOCHAT_STRANGERS_SHARE": "1",
        "QUICNPROTOCHAT_MAILBOX_PARCELS": "1000000",
    }
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.main", "run", "--json", "--no-dht", "--log-level", "error",
        "--listen", "127.0.0.1:0", "--data-dir", str(folder),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                ready = json.loads(await process.stdout.readline())
            yield ThrowAway(RelayAddress.parse(ready["address"]), process.pid)
        except (TimeoutError, ValueError, KeyError) as error:
            raise Fault(
                "capacity-no-relay",
                "the relay to be measured did not start",
                blame=Blame.ENVIRONMENT,
                hint="see what `quicnprotochat-relay doctor` says",
            ) from error
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def network_rate(relay: ThrowAway, senders: int, seconds: float) -> Rate:
    """Parcels brought, `senders` at a time; each acknowledgement comes after the fsync."""
    times: list[float] = []
    recipients = [os.urandom(32) for _ in range(RECIPIENTS)]
    sealed = os.urandom(PARCEL_BYTES)
    expires = int(time.time()) + 3600
    async with _device() as device:
        rpcs = [await device.connect(relay) for _ in range(min(CONNECTIONS, senders))]
        until = time.perf_counter() + seconds

        async def send(number: int) -> None:
            service = rpcs[number % len(rpcs)].cast_as(NodeService)
            while time.perf_counter() < until:
                item = {
                    "recipientKey": recipients[number % RECIPIENTS],
                    "id": os.urandom(16),
                    "expires": expires,
                    "sealed": sealed,
                }
                before = time.perf_counter()
                answer = await service.enqueue(auth=device.auth, item=item)
                times.append(time.perf_counter() - before)
                if answer.error.code:
                    raise Fault(str(answer.error.code), "the relay refused", blame=Blame.CALLER)
                number += senders

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for sender in range(senders):
                tasks.create_task(send(sender))
        return rate_of(times, time.perf_counter() - begun)


async def subscriber_bytes(relay: ThrowAway, sample: int) -> int | None:
    """Memory of the relay for each of `sample` subscribers; None where it cannot be read."""
    devices: list[_Device] = []

    async def come(number: int) -> None:
        for _ in range(number):
            device = await _Device.make()
            devices.append(device)
            rpc = await device.connect(relay)
            await rpc.cast_as(NodeService).subscribe(
                auth=device.auth,
                recipientKey=bytes(device.key),
                after=0,
                sink=rpc.export(ParcelSink, _Sink()),
            )

    try:
        await come(WARM_UP)
        before = memory_of(relay.pid)
        await come(sample)
        after = memory_of(relay.pid)
    finally:
        await asyncio.gather(*(device.close() for device in devices))
    if before is None or after is None:
        return None
    return max(after - before, 0) // sample


def memory_of(pid: int) -> int | None:
    """Bytes that a process alone uses, its share of what is shared included (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def memory_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


class _Device:
    """A client with a key and a socket of its own."""

    def __init__(self, key: DeviceKey, endpoint: transport.Endpoint) -> None:
        self.key = key
        self.auth = {"version": AUTH_VERSION, "deviceId": bytes(key)}
        self._endpoint = endpoint
        self._stack = AsyncExitStack()

    @classmethod
    async def make(cls) -> _Device:
        pair = device_from_seed(new_seed())
        here = transport.Address("127.0.0.1", 0)
        return cls(pair.public, await transport.Endpoint.open(pair.private, here, handlers={}))

    async def connect(self, relay: ThrowAway) -> transport.RpcClient:
        where = [transport.Address(*relay.address.address)]
        connection = await self._endpoint.dial(
            where, expected=relay.address.device, alpn=RELAY_ALPN
        )
        stream = await connection.open_stream()
        return await self._stack.enter_async_context(transport.connect_rpc(stream))

    async def close(self) -> None:
        try:
            await self._stack.aclose()
        finally:
            await self._endpoint.close()


@asynccontextmanager
async def _device() -> AsyncIterator[_Device]:
    device = await _Device.make()
    try:
        yield device
    finally:
        await device.close()
