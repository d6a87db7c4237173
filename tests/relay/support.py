"""What tests of the relay share, and what others may use to have one: see `client_of`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

import transport
from discovery.record import sign_endpoint_record
from identity.bundle import bundle_device, sign_bundle
from identity.envelope import generate_hybrid
from identity.keys import KeyPair, device_from_seed, identity_from_seed, new_seed
from relay.config import RelayConfig, load_config
from relay.server import Relay
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.ids import DeviceKey, IdentityKey, ParcelId
from schemas.node_service import AUTH_VERSION, RELAY_ALPN, EnqueueItem, NodeService
from schemas.records import BundleCore, EndpointRecord, Signed

T = TypeVar("T")

NOW = 1_800_000_000
DAY = 86_400
SUITE = 1


class Clock:
    """Unix seconds under a test's control."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def within(work: Awaitable[T], seconds: float = 20.0) -> T:
    """Wait for an event with a deadline; a test that hangs says where."""
    async with asyncio.timeout(seconds):
        return await work


def new_device() -> KeyPair[DeviceKey]:
    return device_from_seed(new_seed())


def new_identity() -> KeyPair[IdentityKey]:
    return identity_from_seed(new_seed())


def config_for(folder: Path, **changes: Any) -> RelayConfig:
    """A relay on a free loopback port with its data in `folder`; `changes` are its fields."""
    config = load_config({"listen": "127.0.0.1:0", "data_dir": str(folder)}, {}, None)
    return replace(config, **changes)


def parcel(
    recipient: DeviceKey,
    *,
    size: int = 100,
    expires: int = NOW + DAY,
    id: ParcelId | None = None,
    channel: bytes = b"",
    token: bytes = b"",
) -> EnqueueItem:
    id = ParcelId(os.urandom(16)) if id is None else id
    return EnqueueItem(recipient, id, expires, os.urandom(size), channel, token)


def endpoint_record(
    device: KeyPair[DeviceKey], sequence: int = 1, *, issued: int = NOW, lifetime_s: int = DAY
) -> Signed:
    addresses = (EndpointAddress(Address("127.0.0.1", 7000), AddressKind.LAN),)
    record = EndpointRecord(device.public, sequence, addresses, (), issued, issued + lifetime_s)
    return sign_endpoint_record(device, record)


def bundle(
    identity: KeyPair[IdentityKey], device: KeyPair[DeviceKey], number: int = 1, name: str = "Ann"
) -> Signed:
    entry = bundle_device(identity.public, device, "laptop", generate_hybrid().public, issued=NOW)
    return sign_bundle(identity, BundleCore(identity.public, number, name, (entry,), ()))


@dataclass(frozen=True)
class Client:
    """A device connected to a relay; `service` is the NodeService, `auth` its first parameter."""

    device: KeyPair[DeviceKey]
    service: Any
    connection: transport.Connection

    @property
    def auth(self) -> dict[str, Any]:
        return {"version": AUTH_VERSION, "deviceId": bytes(self.device.public)}

    async def call(self, method: str, **params: Any) -> Any:
        """The results, whatever their `error` says; with a good Auth unless one is given."""
        plain = {name: _plain(value) for name, value in params.items()}
        if method != "health":
            plain.setdefault("auth", self.auth)
        return await within(getattr(self.service, method)(**plain))

    async def code(self, method: str, **params: Any) -> str:
        """The error code of a call; empty when it succeeded."""
        return str((await self.call(method, **params)).error.code)

    async def enqueue(self, item: EnqueueItem) -> Any:
        return await self.call("enqueue", item=item)

    async def peek(self, after: int = 0, limit: int = 0) -> Any:
        own = bytes(self.device.public)
        return await self.call("peek", recipientKey=own, after=after, limit=limit)

    async def ack(self, *sequences: int) -> Any:
        own = bytes(self.device.public)
        return await self.call("ack", recipientKey=own, sequences=list(sequences))


def _plain(value: Any) -> Any:
    """As pycapnp takes it."""
    match value:
        case EnqueueItem(recipient, id, expires, sealed, channel, token):
            return {
                "recipientKey": bytes(recipient),
                "id": bytes(id),
                "expires": expires,
                "sealed": sealed,
                "channelId": channel,
                "token": token,
            }
        case Signed(payload, signer, signature):
            return {"payload": payload, "signer": signer, "signature": signature}
        case bytes():
            return bytes(value)
        case list():
            return [_plain(each) for each in value]
        case _:
            return value


def counting_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of 127.0.0.0/8 is a prefix of its own."""
    monkeypatch.setattr("relay.callers.prefix_of", lambda host: host.encode())


@asynccontextmanager
async def client_of(
    relay: Relay | RelayAddress,
    device: KeyPair[DeviceKey] | None = None,
    *,
    limits: transport.TransportLimits = transport.DEFAULT_LIMITS,
    host: str = "127.0.0.1",
) -> AsyncIterator[Client]:
    """A device connected over real QUIC; inside `transport.kj_loop()` (the fixture `kj`).

    `host` is where it comes from; the relay does not count loopback: see `counting_loopback`.
    """
    device = new_device() if device is None else device
    endpoint = await transport.Endpoint.open(
        device.private, transport.Address(host, 0), handlers={}, limits=limits
    )
    try:
        where = transport.Address(*(relay.listen if isinstance(relay, Relay) else relay.address))
        connection = await endpoint.dial([where], expected=relay.device, alpn=RELAY_ALPN)
        stream = await connection.open_stream()
        async with transport.connect_rpc(stream, limits=limits) as rpc:
            yield Client(device, rpc.cast_as(NodeService), connection)
    finally:
        await endpoint.close()
