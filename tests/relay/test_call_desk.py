"""What reaches a caller besides answers: errors written on purpose, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import capnp
import pytest

import transport
from relay.call import Line
from relay.limits import RelayLimits
from relay.rpc import CallDesk, NodeServer
from relay.server import Relay, open_relay
from relay.service import METHODS, RelayService
from relay.store.delivery_tokens import ANYBODY, Bringer
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Blame, Fault
from schemas.node_service import EnqueueItem, NodeService
from tests.relay.support import Clock, client_of, config_for, parcel, within


def test_every_method_is_built() -> None:
    assert set(METHODS) == set(NodeService.schema.method_names)


async def test_a_method_of_a_later_version_says_so(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(METHODS, "createChannel")
    async with client_of(relay) as client:
        error = (await client.call("createChannel", peerKey=bytes(32))).error
        assert error.code == "unimplemented"
        assert error.hint
    assert relay.desk.refusals["unimplemented"] == 1


SECRET = f"a secret in {os.sep}operator{os.sep}relay.db"


class Broken:
    """A store in which everything fails, as a bug would."""

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: object, **__: object) -> None:
            raise RuntimeError(SECRET)

        return fail


async def test_a_bug_tells_the_caller_nothing_but_where_to_look(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service: RelayService = relay.desk._service
    monkeypatch.setattr(service.mailboxes, "_store", Broken())
    monkeypatch.setattr(service.directory, "_store", Broken())
    async with client_of(relay) as client:
        own = bytes(client.device.public)
        answers = [
            await client.enqueue(parcel(client.device.public)),
            await client.peek(),
            await client.ack(1),
            await client.call("fetchKeyPackage", identityKey=own, requestId=bytes(16)),
            await client.call("fetchHybridKeys", identityKeys=[own]),
            await client.call("resolveIdentity", identity=own),
        ]
        for answer in answers:
            error = answer.error
            assert error.code == "internal"
            said = str(answer)
            assert SECRET not in said
            assert not re.search(r"Traceback|/|\.py|Error|line \d", said), said
            [correlation] = re.findall(r"[0-9a-f]{8}", error.message)
            assert correlation in caplog.text, "the operator must find it"
        assert SECRET in caplog.text
        # The connection goes on.
        assert await client.code("health") == ""


@pytest.mark.parametrize(
    "code, told",
    [
        ("disk-full", "disk-full"),
        ("disk-error", "store-unavailable"),
        ("database-replaced", "store-unavailable"),
        ("wrong-database-password", "store-unavailable"),
        ("store-unavailable", "store-unavailable"),
    ],
)
async def test_what_befalls_the_machine_is_its_operators_business(
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: str,
    told: str,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise Fault(code, SECRET, blame=Blame.ENVIRONMENT, hint="mend " + SECRET)

    monkeypatch.setattr(relay.store, "enqueue", fail)
    async with client_of(relay) as client:
        answer = await client.enqueue(parcel(client.device.public))
        assert answer.error.code == told
        assert answer.error.retryAfterMs > 0
        assert SECRET not in str(answer)
        [correlation] = re.findall(r"[0-9a-f]{8}-\d+", answer.error.message)
        [line] = [line for line in caplog.text.splitlines() if correlation in line]
        assert SECRET in line
        assert code in line, "the operator must find it"
    assert relay.desk.refusals == {told: 1}


# Hostile requests


@pytest.fixture
def bombs(tmp_path: Path) -> Iterator[Any]:
    """NodeService as an attacker declares it: the same id and ordinals, lists of empty structs."""
    methods = "\n".join(
        f"m{number} @{number} (auth :Auth, list :List(Empty), other :List(Empty)) -> (error :Auth);"
        for number in range(33)
    )
    (tmp_path / "bombs.capnp").write_text(
        "@0xa1b2c3d4e5f60718;\nstruct Empty {}\n"
        "struct Auth { version @0 :UInt16; accessToken @1 :Data; deviceId @2 :Data; }\n"
        f"interface Bombs @{NodeService.schema.node.id:#x} {{\n{methods}\n}}\n"
    )
    parser = capnp.SchemaParser()  # apart from the real schema, whose ids these are
    yield parser.load(str(tmp_path / "bombs.capnp")).Bombs
    del parser  # needed until here: the library does not keep it alive


async def test_capnp_bombs_are_refused_quickly_by_every_method(relay: Relay, bombs: Any) -> None:
    """Some 200 bytes that claim a billion elements: none is touched, and the relay goes on."""
    async with client_of(relay) as client:
        bomber = client.service.capability.cast_as(bombs)
        for number in range(33):
            request = getattr(bomber, f"m{number}_request")()
            request.auth.version = 1
            request.init("list", 2**29 - 1)
            request.init("other", 2**29 - 1)
            with contextlib.suppress(capnp.KjException):  # the answer is of another shape
                await within(request.send(), 2)
        assert await client.code("health") == ""
    assert relay.desk.refusals["malformed-request"] >= 4
    assert relay.desk.refusals["internal"] == 0


async def test_too_many_streams_are_refused_and_the_others_live(relay: Relay) -> None:
    async with client_of(relay) as client:
        assert await client.code("health") == ""  # the first stream
        for _ in range(RelayLimits().streams_per_connection):
            stream = await client.connection.open_stream()
            await stream.write(b"\0")
        with pytest.raises(transport.StreamReset):
            await within(stream.read())
        assert await client.code("health") == ""
    assert relay.counters["too-many-streams"] == 1


async def test_garbage_on_a_stream_ends_that_stream_only(relay: Relay) -> None:
    async with client_of(relay) as client:
        stream = await client.connection.open_stream()
        await stream.write(os.urandom(4096))
        with contextlib.suppress(transport.StreamReset):  # ended in order, or reset
            while await within(stream.read()):
                pass
        assert await client.code("health") == ""


# Load


class Slow(SqliteStore):
    """Counts who is inside `enqueue`, and lets nobody out before the gate opens."""

    inside = most = 0
    gate: asyncio.Event

    async def enqueue(
        self, items: Sequence[EnqueueItem], *, now: int, by: Bringer = ANYBODY
    ) -> list[Any]:
        Slow.inside += 1
        Slow.most = max(Slow.most, Slow.inside)
        await Slow.gate.wait()
        Slow.inside -= 1
        return await super().enqueue(items, now=now, by=by)


@pytest.fixture
def slow_store(monkeypatch: pytest.MonkeyPatch) -> type[Slow]:
    Slow.inside = Slow.most = 0
    Slow.gate = asyncio.Event()
    monkeypatch.setattr("relay.store.opening.SqliteStore", Slow)
    return Slow


async def test_calls_in_flight_are_bounded_and_all_are_answered(
    kj: None, slow_store: type[Slow], clock: Clock, tmp_path: Path
) -> None:
    config = config_for(tmp_path, limits=RelayLimits(calls_per_stream=8))
    eager = replace(transport.DEFAULT_LIMITS, rpc_calls_in_flight=1000)
    async with (
        open_relay(config, clock=clock) as relay,
        client_of(relay, limits=eager) as client,
    ):
        me = client.device.public
        calls = [asyncio.create_task(client.enqueue(parcel(me))) for _ in range(100)]
        async with asyncio.timeout(20):
            while slow_store.inside < 8:
                await asyncio.sleep(0.002)
        async with client_of(relay) as another:
            assert await another.code("health") == ""
        slow_store.gate.set()
        answers = await within(asyncio.gather(*calls))
        assert {answer.error.code for answer in answers} == {""}
        assert slow_store.most == 8


async def test_a_stop_answers_what_runs_and_refuses_the_rest(
    kj: None, slow_store: type[Slow], clock: Clock, tmp_path: Path
) -> None:
    running_relay = open_relay(config_for(tmp_path), clock=clock)
    relay = await running_relay.__aenter__()
    async with client_of(relay) as client:
        running = asyncio.create_task(client.enqueue(parcel(client.device.public)))
        async with asyncio.timeout(20):
            while not slow_store.inside:
                await asyncio.sleep(0.002)
        stopping = asyncio.create_task(running_relay.__aexit__(None, None, None))
        while not relay.desk.stopping:
            await asyncio.sleep(0)
        refused = await client.peek()
        assert (await client.call("health")).status == "draining"
        assert refused.error.code == "draining"
        assert refused.error.retryAfterMs > 0
        slow_store.gate.set()
        assert (await within(running)).result.sequence == 1
        await within(stopping)


async def test_a_caller_that_goes_away_costs_nothing_and_its_mail_stays(
    kj: None, slow_store: type[Slow], clock: Clock, tmp_path: Path
) -> None:
    async with open_relay(config_for(tmp_path), clock=clock) as relay:
        async with client_of(relay) as client:
            call = asyncio.create_task(client.enqueue(parcel(client.device.public)))
            async with asyncio.timeout(20):
                while not slow_store.inside:
                    await asyncio.sleep(0.002)
        with pytest.raises(Fault):
            await call
        await within(relay.desk.stop(20))


def test_only_methods_of_the_interface_are_reachable() -> None:
    desk = CallDesk(RelayService.__new__(RelayService))
    server = NodeServer(desk, cast(Line, None))
    assert callable(server.health_context)
    for name in ("health", "answer_context", "_desk_context", "__class___context"):
        with pytest.raises(AttributeError):
            getattr(server, name)
