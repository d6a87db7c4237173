"""What a relay holds for us: bundle, endpoint record, hybrid key and a stock of KeyPackages."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import mls_rs

from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayClient, RelayRefused
from node.engine.delivery_commands import MakeKeyPackage, OwnHybridKey, OwnRecords
from node.engine.relay_commands import OwnRelayStatement
from node.engine.values import OwnTokens
from schemas.errors import Fault
from schemas.node_service import UNIMPLEMENTED

SUITES: Final[dict[int, str]] = {mls_rs.HYBRID: "hybrid", mls_rs.CLASSIC: "classic"}
UNKNOWN_METHOD: Final = (UNIMPLEMENTED, "rpc-failed")  # what an older relay answers
_FULL: Final = "key-packages-full"  # the relay's code


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A KeyPackage that a relay took; `fingerprint` is SHA-256 of it, `stock` of its suite."""

    suite: int
    fingerprint: bytes
    stock: int
    last_resort: bool


async def publish_relays(ask: Ask, client: RelayClient) -> None:
    """Where we read our mail, also to a relay where we do so no more. Raises as RelayClient."""
    try:
        await client.publish_relay_statement(await ask(OwnRelayStatement()))
    except Fault as fault:
        if fault.code not in UNKNOWN_METHOD:
            raise
    core, _ = await ask(OwnRecords())
    await client.publish_bundle(core)


async def publish_records(ask: Ask, client: RelayClient, *, endpoint: bool) -> None:
    """Our relays, bundle and hybrid key; with `endpoint` where we are. Raises as RelayClient."""
    await publish_relays(ask, client)
    _, record = await ask(OwnRecords())
    await client.upload_hybrid_key(*await ask(OwnHybridKey()))
    if endpoint and record is not None:
        await client.publish_endpoint(record)


async def publish_tokens(client: RelayClient, tokens: OwnTokens) -> None:
    """What opens our mailbox; an older relay takes everything. Raises as RelayClient."""
    try:
        await client.set_delivery_tokens(tokens)
    except Fault as fault:
        if fault.code not in UNKNOWN_METHOD:
            raise


async def upload(
    ask: Ask, client: RelayClient, suite: int, *, last_resort: bool = False
) -> Uploaded:
    """Make a KeyPackage and hand it to the relay. Raises as RelayClient."""
    package, _ = await ask(MakeKeyPackage(suite, last_resort))
    stock = await client.upload_key_package(suite, package, last_resort=last_resort)
    return Uploaded(suite, hashlib.sha256(package).digest(), stock, last_resort)


async def upload_last_resort(ask: Ask, client: RelayClient) -> list[Uploaded]:
    """One per suite; it replaces the one before. Raises as RelayClient."""
    return [await upload(ask, client, suite, last_resort=True) for suite in SUITES]


async def top_up(ask: Ask, client: RelayClient, limits: DeliveryLimits) -> list[Uploaded]:
    """Upload until the relay holds the full stock of each suite, at least one each.

    Raises as RelayClient, except that a relay that takes no more has enough.
    """
    done: list[Uploaded] = []
    for suite in SUITES:
        try:
            first = await upload(ask, client, suite)
            done.append(first)
            missing = min(limits.key_package_stock - first.stock, limits.key_package_stock)
            if missing > 0:
                done += await _upload_many(ask, client, suite, missing)
        except RelayRefused as fault:
            if fault.code != _FULL:
                raise
    return done


async def _upload_many(ask: Ask, client: RelayClient, suite: int, count: int) -> Sequence[Uploaded]:
    async def one() -> Uploaded:
        return await upload(ask, client, suite)

    # At once: the engine writes them in one transaction.
    results = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Uploaded)]
