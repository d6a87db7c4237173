"""At level info the relay's log names nobody and no message; its lines are tied together by ids.

Without it an operator's log, or whoever it is shipped to, is a record of who writes to whom.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import transport
from relay.server import Relay
from relay.service import METHODS
from schemas.addresses import RelayAddress
from schemas.errors import Fault
from schemas.node_service import RELAY_ALPN, NodeService
from telemetry.logs import configure
from tests.relay.process import RelayProcess
from tests.relay.support import (
    SUITE,
    Client,
    bundle,
    client_of,
    endpoint_record,
    new_device,
    new_identity,
    parcel,
    within,
)

SIZE = 31_337  # of all parcels here: seen nowhere else
NAME = "gorgonzola"
LONGEST_WAIT_MS = 50


@pytest.fixture
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def anything(method: str, device: bytes) -> dict[str, Any]:
    """Parameters of the right types, from the schema: also for methods that come later."""
    found: dict[str, Any] = {}
    for name, field in NodeService.schema.methods[method].param_type.fields.items():
        kind = field.proto.slot.type.which()
        if kind == "data":
            found[name] = device
        elif kind == "text":
            found[name] = NAME
        elif name == "timeoutMs":
            found[name] = LONGEST_WAIT_MS
        elif str(kind).startswith(("int", "uint")):
            found[name] = SIZE
    return found


async def converse(alice: Client, bob: Client, needles: dict[str, str]) -> None:
    """What honest nodes do, parcels of both kinds brought and taken."""
    own = bytes(bob.device.public)
    identity = new_identity()
    needles["identity"] = str(identity.public)
    await bob.call("uploadKeyPackage", identityKey=own, suite=SUITE, package=b"p" * 100)
    await alice.call("fetchKeyPackage", identityKey=own, suite=SUITE, requestId=bytes(16))
    await bob.call("publishEndpoint", record=endpoint_record(bob.device, issued=int(time.time())))
    await alice.call("resolveEndpoint", identityKey=own)
    await bob.call("publishBundle", bundle=bundle(identity, bob.device, name=NAME))
    items = [parcel(bob.device.public, size=SIZE, expires=int(time.time()) + 999) for _ in range(6)]
    needles |= {f"parcel {number}": item.id.hex() for number, item in enumerate(items)}
    for item in items[:3]:
        assert (await alice.enqueue(item)).error.code == ""
    await alice.call("batchEnqueue", items=items[3:])
    mailbox = await bob.peek()
    assert len(mailbox.parcels) == 6
    await bob.ack(mailbox.parcels[0].sequence, mailbox.parcels[1].sequence)
    await bob.call("fetch", recipientKey=own)


async def misbehave(address: RelayAddress, alice: Client, needles: dict[str, str]) -> None:
    """Every method with parameters that fit and make no sense; bytes that are no RPC; too much."""
    other = new_device()
    needles["other"] = str(other.public)
    for method in sorted(METHODS):
        with suppress(Fault):  # a sink that is none ends a subscribe
            await alice.call(method, **anything(method, bytes(other.public)))
    eve = new_device()
    needles["eve"] = str(eve.public)
    endpoint = await transport.Endpoint.open(
        eve.private, transport.Address("127.0.0.1", 0), handlers={}
    )
    needles["address"] = str(endpoint.address)
    try:
        connection = await endpoint.dial(
            [transport.Address(*address.address)], expected=address.device, alpn=RELAY_ALPN
        )
        for garbage in (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n" * 9):
            stream = await connection.open_stream()
            await stream.write(garbage)
            with suppress(Fault):  # it is ended
                while await within(stream.read(100)):
                    pass
    finally:
        await endpoint.close()


def found_in(log: str, needles: dict[str, str]) -> list[str]:
    """Whose name, in any of the ways in which a line could hold it, is in the log."""
    held = []
    for what, needle in needles.items():
        hexadecimal = re.fullmatch("[0-9a-f]{16,}", needle)
        ways = [needle[:8], repr(bytes.fromhex(needle))[2:14]] if hexadecimal else [needle]
        held += [what for way in ways if way.lower() in log.lower()]
    return held


async def test_at_info_nobody_and_nothing_is_named(kj: None, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, "--log-level", "info", "--log-format", "json") as relay:
        needles = {"name": NAME, "size": str(SIZE)}
        async with client_of(relay.address) as alice, client_of(relay.address) as bob:
            needles |= {"alice": str(alice.device.public), "bob": str(bob.device.public)}
            await converse(alice, bob, needles)
            await misbehave(relay.address, alice, needles)
            waiting = asyncio.ensure_future(
                bob.call("fetchWait", recipientKey=bytes(bob.device.public), timeoutMs=15_000)
            )
            await bob.call("health")
            ended = await asyncio.to_thread(relay.end)
            await waiting
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert [line for line in lines if "ended" in line["event"]], "garbage is worth a line"
    assert all(re.fullmatch("[0-9a-f]{8}", line.get("connection", "0" * 8)) for line in lines)
    assert found_in(ended.err, needles) == []
    assert "127.0.0.1" not in ended.err


async def test_an_honest_conversation_leaves_no_line_at_info(kj: None, tmp_path: Path) -> None:
    """Or the times of the lines would be those of the messages."""
    with RelayProcess(tmp_path, "--log-level", "info") as relay:
        async with client_of(relay.address) as alice, client_of(relay.address) as bob:
            await converse(alice, bob, {})
        assert relay.end().err == ""


async def test_lines_of_a_call_are_tied_together(
    root: None, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And to what the user was told: `internal`, and the id to look for."""
    to = io.StringIO()
    configure(level="debug", json_lines=True, to=to)
    monkeypatch.setattr(relay.service.directory, "_store", None)
    async with client_of(relay) as alice:
        await alice.call("health")
        keys = [bytes(alice.device.public)]
        told = (await alice.call("fetchHybridKeys", identityKeys=keys)).error
    lines = [json.loads(line) for line in to.getvalue().splitlines()]
    ours = [line for line in lines if line["logger"].startswith("relay.")]
    [failed] = [line for line in ours if "failed" in line["event"]]
    assert told.code == "internal"
    assert f"{failed['connection']}-{failed['call']}" in told.message
    assert {line["connection"] for line in ours} == {failed["connection"]}
    calls = {line["call"]: line["event"] for line in ours if "took" in line["event"]}
    assert len(calls) == 2, "each call has an id of its own"
    assert failed["call"] in calls
    assert repr(alice.device.public) in to.getvalue(), "at debug, shortened"
    assert str(alice.device.public) not in to.getvalue()
