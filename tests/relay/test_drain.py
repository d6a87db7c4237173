"""A relay that is stopped under load: nothing acknowledged is lost, and everybody is told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import transport
from schemas.errors import Fault
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import AUTH_VERSION, RELAY_ALPN, NodeService, ParcelSink
from tests.relay.process import ROOT, RelayProcess
from tests.relay.support import DAY, Client, client_of, new_device, parcel, within

SENDERS = 16
LOADED = 200  # parcels acknowledged before the relay is stopped
UNIT = ROOT / "deploy" / "systemd" / "quicnprotochat-relay.service"


def stop_deadline_s() -> int:
    """What systemd waits before it kills."""
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    return int(seconds)


class Stuck:
    """A subscriber that takes a push and never says that it has it."""

    def __init__(self) -> None:
        self.pushed = asyncio.Event()

    async def parcels_context(self, context: Any) -> None:
        self.pushed.set()
        await asyncio.Event().wait()


async def bring(
    client: Client, recipient: DeviceKey, acknowledged: set[ParcelId], told: Counter[str]
) -> None:
    """Parcels, one after the other, until the relay is gone."""
    while True:
        item = parcel(recipient, expires=int(time.time()) + DAY, id=ParcelId(os.urandom(16)))
        try:
            answer = await client.enqueue(item)
        except Fault as fault:
            told[fault.code] += 1
            return
        if answer.error.code:
            told[str(answer.error.code)] += 1
            assert answer.error.retryAfterMs > 0, "when to come again"
            await asyncio.sleep(0.05)
        else:
            acknowledged.add(item.id)


async def test_sigterm_under_load_loses_nothing_and_tells_everybody(
    kj: None, tmp_path: Path
) -> None:
    bob, acknowledged, told = new_device(), set[ParcelId](), Counter[str]()
    with RelayProcess(tmp_path, "--mailbox-parcels", "100000") as relay:
        async with client_of(relay.address) as alice:
            stuck, slow = Stuck(), new_device()
            endpoint = await transport.Endpoint.open(
                slow.private, transport.Address("127.0.0.1", 0), handlers={}
            )
            try:
                where = [transport.Address(*relay.address.address)]
                connection = await endpoint.dial(
                    where, expected=relay.address.device, alpn=RELAY_ALPN
                )
                async with transport.connect_rpc(await connection.open_stream()) as rpc:
                    await rpc.cast_as(NodeService).subscribe(
                        auth={"version": AUTH_VERSION, "deviceId": bytes(slow.public)},
                        recipientKey=bytes(slow.public),
                        after=0,
                        sink=rpc.export(ParcelSink, stuck),
                    )
                    await alice.enqueue(parcel(slow.public, expires=int(time.time()) + DAY))
                    await within(stuck.pushed.wait())
                    async with asyncio.TaskGroup() as tasks:
                        for _ in range(SENDERS):
                            tasks.create_task(bring(alice, bob.public, acknowledged, told))
                        async with asyncio.timeout(60):
                            while len(acknowledged) < LOADED:
                                await asyncio.sleep(0.01)
                        begun = time.monotonic()
                        ended = await asyncio.to_thread(relay.end, signal.SIGTERM)
                        took_s = time.monotonic() - begun
            finally:
                await endpoint.close()
    assert ended.code == 0, ended.err
    assert took_s < stop_deadline_s() - 5, "systemd would kill it"
    assert told["draining"] >= SENDERS, "each was told to go elsewhere"
    assert told.keys() <= {"draining", "connection-lost"}
    with RelayProcess(tmp_path) as again:
        async with client_of(again.address, bob) as reader:
            held = await ids_held(reader)
    counted = Counter(held)
    assert acknowledged <= counted.keys(), "acknowledged, and lost"
    assert set(counted.values()) == {1}
    assert len(counted) - len(acknowledged) <= SENDERS, "one each may have been under way"


async def ids_held(reader: Client) -> list[ParcelId]:
    held, after = [], 0
    while (mailbox := await reader.peek(after=after, limit=100)).parcels:
        for each in mailbox.parcels:
            held.append(ParcelId(each.id))
            after = each.sequence
    return held
