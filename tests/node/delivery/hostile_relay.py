"""A relay over real QUIC that answers as badly as a test wants."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.addresses import Address, RelayAddress
from schemas.errors import Fault
from schemas.frames import ErrorFrame, fill_error
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import (
    RELAY_ALPN,
    NodeService,
    StoredParcel,
    fill_parcels,
    read_enqueue_item,
)
from tests.node.delivery.support import LOOPBACK, QUICK_TRANSPORT
from transport import Address as TransportAddress
from transport import Connection, ConnectionLost, Endpoint, RpcSession, serve_rpc


@dataclasses.dataclass
class Mischief:
    """What this relay does. `pages` is what it was asked for, `pushes` what it sent by itself.

    `numbers` take the place of what it would say in these fields of its answers, as "peek.highest".
    `takes` parcels for others.
    """

    how: str
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)
    takes: bool = True
    mail: list[StoredParcel] = dataclasses.field(default_factory=list)
    acked: set[int] = dataclasses.field(default_factory=set)
    pages: int = 0
    pushes: int = 0
    garbage: Any = dataclasses.field(default_factory=lambda: itertools.count(1))

    def nonsense(self, count: int, size: int = 2000) -> list[StoredParcel]:
        return [
            StoredParcel(n, ParcelId(n.to_bytes(16, "big")), 2**37, b"\1" + bytes(size))
            for n in itertools.islice(self.garbage, count)
        ]

    def overwrite(self, part: str, builder: Any) -> None:
        for name, number in self.numbers.items():
            of, field = name.split(".")
            if of == part:
                setattr(builder, field, number)

    def page(self, after: int) -> tuple[list[StoredParcel], int]:
        """(parcels, the highest number that it claims)."""
        self.pages += 1
        left = [p for p in self.mail if p.sequence not in self.acked and p.sequence > after]
        top = max((p.sequence for p in self.mail), default=0)
        match self.how:
            case "reorders":
                return left[::-1], top
            case "repeats":  # as if nothing was ever asked or acknowledged
                return self.mail, top
            case "truncates":
                return [dataclasses.replace(p, sealed=p.sealed[:40]) for p in left], top
            case "rewrites":
                return [dataclasses.replace(p, sealed=p.sealed[:-9] + bytes(9)) for p in left], top
            case "withholds":
                return [], top
            case "lies":
                return [dataclasses.replace(p, sequence=2**63) for p in left[:1]], 2**64 - 1
            case "endless":
                return self.nonsense(20), 2**50
        return left, top


class _Server(NodeService.Server):  # type: ignore[misc]
    def __init__(self, mischief: Mischief, session: RpcSession) -> None:
        self._mischief = mischief
        self._session = session
        self._pushing: set[asyncio.Task[None]] = set()

    async def health_context(self, context: Any) -> None:
        context.results.status = "ok"
        self._mischief.overwrite("health", context.results)

    async def uploadKeyPackage_context(self, context: Any) -> None:
        context.results.stock = 20
        self._mischief.overwrite("uploadKeyPackage", context.results)

    async def batchEnqueue_context(self, context: Any) -> None:
        mail = self._mischief.mail
        if not self._mischief.takes:
            fill_error(context.results.init("error"), ErrorFrame("rate-limited", "not now"))
            return
        results = context.results.init("results", len(context.params.items))
        for slot, reader in zip(results, context.params.items, strict=True):
            item = read_enqueue_item(reader)
            mail.append(StoredParcel(len(mail) + 1, item.id, item.expires, item.sealed))
            slot.sequence, slot.expires = len(mail), item.expires
            self._mischief.overwrite("enqueued", slot)

    async def peek_context(self, context: Any) -> None:
        if self._mischief.how == "never answers":
            await asyncio.sleep(60)
        parcels, highest = self._mischief.page(context.params.after)
        fill_parcels(context.results, parcels)
        context.results.highest = highest
        self._overwrite_page(context.results)
        self._mischief.overwrite("peek", context.results)

    def _overwrite_page(self, page: Any) -> None:
        for slot in page.parcels:
            self._mischief.overwrite("parcel", slot)

    async def ack_context(self, context: Any) -> None:
        self._mischief.acked |= set(context.params.sequences)

    async def subscribe_context(self, context: Any) -> None:
        sink = self._session.service(context.params.sink, deadline_s=5.0)
        if self._mischief.how.startswith("pushes"):
            task = asyncio.create_task(self._push(sink))
            self._pushing.add(task)
            task.add_done_callback(self._pushing.discard)

    async def _push(self, sink: Any) -> None:
        """Several calls at once, as no honest relay does; for ever, until the node hangs up."""
        many = 8 if self._mischief.how == "pushes endlessly" else 1
        try:
            while True:
                await asyncio.gather(*(self._push_one(sink) for _ in range(many)))
        except Fault:
            return

    async def _push_one(self, sink: Any) -> None:
        mischief = self._mischief
        request = sink.parcels_request()
        parcels = mischief.nonsense(20)
        if mischief.how == "pushes the impossible":
            parcels = [dataclasses.replace(parcels[0], sealed=b""), *parcels[:1]]
        fill_parcels(request, parcels)
        self._overwrite_page(request)
        mischief.pushes += 1
        await request.send()


@asynccontextmanager
async def hostile_relay(mischief: Mischief) -> AsyncIterator[RelayAddress]:
    key = Ed25519PrivateKey.generate()

    async def serve(connection: Connection) -> None:
        try:
            while True:
                stream = await connection.accept_stream()
                session = RpcSession(QUICK_TRANSPORT)
                await serve_rpc(stream, _Server(mischief, session), session=session)
        except ConnectionLost:
            return

    endpoint = await Endpoint.open(
        key, TransportAddress(*LOOPBACK), handlers={RELAY_ALPN: serve}, limits=QUICK_TRANSPORT
    )
    try:
        address = Address(*endpoint.address)
        yield RelayAddress(address, DeviceKey(key.public_key().public_bytes_raw()))
    finally:
        await endpoint.close()
