"""A peer that makes Cap'n Proto keep things: each way is shut, and no honest client notices.

The attackers send messages by hand over a real connection. docs/decisions/0011-rpc-bounds.md says
which table of the library each way grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from schemas.errors import Fault
from tests.transport.rpc_by_hand import (
    PROMISE,
    Fill,
    Peer,
    bootstrap,
    call,
    finish,
    message,
    subscribe,
)
from tests.transport.support import ALPN, QUICK, Open, eventually, within
from tests.transport.test_rpc import Served, probe, served
from tests.transport.test_rpc_callbacks import Publisher
from transport import Connection, RpcSession, TransportLimits, serve_rpc

pytestmark = pytest.mark.usefixtures("kj")

LARGE = 65_536
MANY = 2_000
QUESTIONS = QUICK.rpc_calls_in_flight * QUICK.rpc_questions_per_call


@asynccontextmanager
async def attack(
    open_endpoint: Open, limits: TransportLimits = QUICK, *, reads: bool = True
) -> AsyncIterator[tuple[Served, Peer, Connection]]:
    server, dialed = await served(open_endpoint, limits)
    peer = Peer(await dialed.open_stream())
    await peer.send(bootstrap())
    reading = asyncio.create_task(peer.read()) if reads else None
    try:
        yield server, peer, dialed
    finally:
        peer.stream.cancel()
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def refused(server: Served, dialed: Connection, code: str) -> None:
    """The stream has been ended for that reason, and nothing else has."""
    await eventually(lambda: server.ended == 1)
    assert +server.counters == {code: 1}
    async with probe(dialed) as (service, _):
        assert (await within(service.echo(data=b"goes on"))).data == b"goes on"


async def answered(peer: Peer, count: int) -> None:
    await eventually(lambda: peer.answers == count)


async def test_questions_that_are_never_finished(open_endpoint: Open) -> None:
    """Each leaves an entry in the answer table, and a failed call its exception."""
    async with attack(open_endpoint) as (server, peer, dialed):
        for question in range(1, MANY):
            await peer.send(bootstrap(question))
        await refused(server, dialed, "rpc-unfinished")
        assert peer.answers <= QUESTIONS


async def test_failed_calls_that_are_never_finished(open_endpoint: Open) -> None:
    async with attack(open_endpoint) as (server, peer, dialed):
        for question in range(1, MANY):
            await peer.send(call(question, "malformed"))
        await eventually(lambda: server.ended == 1)
        assert server.counters["rpc-unfinished"] == 1
        assert peer.answers <= QUESTIONS


async def test_answers_that_nobody_reads(open_endpoint: Open) -> None:
    """What was answered and finished, but lies in KJ's queue, counts as long as it lies there."""
    async with attack(open_endpoint, reads=False) as (server, peer, dialed):
        data = bytes(LARGE)

        async def flood() -> None:
            for question in range(1, MANY):
                await peer.send(call(question, data=data), finish(question))

        flooding = asyncio.create_task(flood())
        reached = -1
        while reached != server.probe.echoed:  # until it stands still
            reached = server.probe.echoed
            for _ in range(50):
                await within(dialed.ping())
        # The QUIC stream's buffers at both ends, the write buffer, and those in flight.
        room = 2 * QUICK.stream_buffer + QUICK.rpc_write_buffer
        assert reached <= room // LARGE + 2 * QUICK.rpc_calls_in_flight
        assert not flooding.done(), "the peer may send no more"
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_bootstraps_that_nobody_reads(open_endpoint: Open) -> None:
    async with attack(open_endpoint, reads=False) as (server, peer, dialed):
        for question in range(1, 40 * MANY):
            await peer.send(bootstrap(question), finish(question))
            if server.ended:
                break
        await refused(server, dialed, "rpc-unfinished")


async def test_large_parameters_of_calls_that_wait(open_endpoint: Open) -> None:
    """They stay in memory until the answer: a few at a time, the next when there is room."""
    limits = replace(QUICK, rpc_call_bytes=4 * LARGE)
    async with attack(open_endpoint, limits) as (server, peer, dialed):
        for question in range(1, 11):
            await peer.send(call(question, "hang", data=bytes(LARGE - 200)))
        await eventually(lambda: server.probe.running == 4)
        for _ in range(20):
            await within(dialed.ping())
        assert server.probe.running == 4
        server.probe.release.set()
        await answered(peer, 11)
        assert server.probe.most == 4


async def test_methods_that_ignore_that_they_were_given_up(open_endpoint: Open) -> None:
    """Their answers leave at once, so by the answers alone there would be room for more."""
    limits = replace(QUICK, rpc_calls_in_flight=5)
    async with attack(open_endpoint, limits) as (server, peer, dialed):
        server.probe.stubborn = True
        for question in range(1, 30):
            await peer.send(call(question, "hang"))
            await within(dialed.ping())
            await peer.send(finish(question))
        for _ in range(20):
            await within(dialed.ping())
        assert server.probe.running == 5
        server.probe.release.set()
        await answered(peer, 30)
        assert server.probe.most == 5


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_is_noticed_while_a_call_is_held_back(open_endpoint: Open, end: str) -> None:
    limits = replace(QUICK, rpc_calls_in_flight=3)
    async with attack(open_endpoint, limits) as (server, peer, dialed):
        for question in range(1, 6):
            await peer.send(call(question, "hang"))
        await eventually(lambda: server.probe.running == 3)
        if end == "close":
            await dialed.close()
        else:
            dialed.abort()
        await eventually(lambda: server.ended == 1 and server.probe.cancelled == 3)


async def test_calls_on_the_answer_of_a_call_that_waits(open_endpoint: Open) -> None:
    """They queue at the promise, run nowhere and so occupy no place of those in flight."""

    def on_the_first(body: Any) -> None:
        body.target.promisedAnswer.questionId = 1

    async with attack(open_endpoint) as (server, peer, dialed):
        await peer.send(call(1, "hang"))
        for question in range(2, MANY):
            await peer.send(call(question, change=on_the_first), finish(question))
        await refused(server, dialed, "rpc-pipelining")


def _field_of_the_promise(body: Any) -> None:
    body.target.promisedAnswer.init("transform", 1)[0].getPointerField = 3


def _to_yourself(body: Any) -> None:
    body.sendResultsTo.yourself = None


def _to_a_third_party(body: Any) -> None:
    body.sendResultsTo.init("thirdParty")


def _without_an_answer(body: Any) -> None:
    body.onlyPromisePipeline = True


def _a_promise(body: Any) -> None:
    body.params.init("capTable", 1)[0].senderPromise = 1


def _of_an_answer(body: Any) -> None:
    body.params.init("capTable", 1)[0].init("receiverAnswer").questionId = PROMISE


def _of_a_third_party(body: Any) -> None:
    body.params.init("capTable", 1)[0].init("thirdPartyHosted").vineId = 1


@pytest.mark.parametrize(
    "change",
    [
        _field_of_the_promise,
        _to_yourself,
        _to_a_third_party,
        _without_an_answer,
        _a_promise,
        _of_an_answer,
        _of_a_third_party,
    ],
)
async def test_calls_of_a_kind_that_nobody_needs(open_endpoint: Open, change: Fill) -> None:
    """Results kept here, paths of a promise remembered, promises watched."""
    async with attack(open_endpoint) as (server, peer, dialed):
        await peer.send(call(1, change=change))
        await refused(server, dialed, "rpc-kind")


@pytest.mark.parametrize(
    "kind", ["resolve", "disembargo", "provide", "accept", "join", "obsoleteSave", "obsoleteDelete"]
)
async def test_messages_of_a_kind_that_nobody_needs(open_endpoint: Open, kind: str) -> None:
    """A disembargo waits in a set of tasks; what the library does not know it sends back whole."""
    if kind.startswith("obsolete"):
        raw = bytearray(message("resolve"))
        raw[16] = {"obsoleteSave": 7, "obsoleteDelete": 9}[kind]
    else:
        raw = bytearray(message(kind))
    async with attack(open_endpoint) as (server, peer, dialed):
        await peer.send(bytes(raw))
        await refused(server, dialed, "rpc-kind")


async def test_more_capabilities_than_anybody_needs(open_endpoint: Open) -> None:
    """16 bytes each on the wire; an import, a table entry and a Release each in memory."""
    async with attack(open_endpoint) as (server, peer, dialed):
        await peer.send(call(1, capabilities=QUICK.rpc_capabilities))
        await answered(peer, 2)
        await peer.send(call(2, capabilities=60_000))
        await refused(server, dialed, "rpc-capabilities")
        assert server.probe.echoed == 2  # the first, and that of `refused`


async def test_a_number_that_is_in_use(open_endpoint: Open) -> None:
    async with attack(open_endpoint) as (server, peer, dialed):
        await peer.send(call(1, "hang"), call(1, "hang"))
        await refused(server, dialed, "rpc-malformed")


@pytest.mark.parametrize("which", ["results", "takeFromOtherQuestion"])
async def test_an_answer_to_no_question(open_endpoint: Open, which: str) -> None:
    def fill(body: Any) -> None:
        body.answerId = 3
        if which == "results":
            body.init("results")
        else:
            body.takeFromOtherQuestion = 1

    async with attack(open_endpoint) as (server, peer, dialed):
        await peer.send(message("return", fill))
        await refused(server, dialed, "rpc-malformed" if which == "results" else "rpc-kind")


async def test_a_peer_that_never_answers_what_is_given_up(open_endpoint: Open) -> None:
    """A question of ours stays in the library's table until the peer's Return, given up or not."""
    limits = replace(QUICK, rpc_calls_in_flight=5)
    most = limits.rpc_calls_in_flight * limits.rpc_questions_per_call
    session = RpcSession(limits)
    publisher = Publisher(session)

    async def handler(connection: Connection) -> None:
        await serve_rpc(await connection.accept_stream(), publisher, session=session)
        await connection.wait_closed()

    server, client = await open_endpoint(handler), await open_endpoint()
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    await Peer(await dialed.open_stream()).send(bootstrap(), subscribe(1))
    sink = await within(publisher.sinks.get())
    sink._deadline_s = 0.002
    codes: list[str] = []
    while len(codes) <= most and codes[-1:] != ["rpc-disconnected"]:
        with pytest.raises(Fault) as caught:
            await within(sink.push(data=b"1"))
        codes.append(caught.value.code)
    assert codes == ["rpc-deadline"] * most + ["rpc-disconnected"]
    assert session.counters == {"rpc-unanswered": 1}


# Honest clients


async def test_answers_without_a_capability_need_no_finish(open_endpoint: Open) -> None:
    """5,000 by hand, 50 at a time, none finished: the library forgets them, and so do we."""
    async with attack(open_endpoint) as (server, peer, _):
        for turn in range(100):
            await peer.send(*(call(1 + turn * 50 + each) for each in range(50)))
            await answered(peer, 1 + (turn + 1) * 50)
        assert server.ended == 0


async def test_a_client_that_finishes_all_the_same(open_endpoint: Open) -> None:
    """As other implementations do, which do not know `noFinishNeeded`; numbers are used again."""
    async with attack(open_endpoint) as (server, peer, _):
        for turn in range(100):
            await peer.send(*(call(1 + each) for each in range(50)))
            await answered(peer, 1 + (turn + 1) * 50)
            await peer.send(*(finish(1 + each) for each in range(50)))
        assert server.ended == 0


async def test_calls_in_sequence(open_endpoint: Open) -> None:
    """1,500 with the library, one after the other, and failing ones among them."""
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        for index in range(1_500):
            if index % 10:
                await service.echo(data=b"x")
            else:
                with pytest.raises(Fault):
                    await service.malformed()
    assert server.counters == {"rpc-parcel-malformed": 150}


async def test_long_polls_that_are_given_up_again_and_again(open_endpoint: Open) -> None:
    """All places taken by calls that wait, all given up, the same at once anew."""
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        for _ in range(30):
            calls = [asyncio.create_task(service.hang()) for _ in range(QUICK.rpc_calls_in_flight)]
            await eventually(lambda: server.probe.running == QUICK.rpc_calls_in_flight)
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert (await within(service.echo(data=b"room"))).data == b"room"
    assert not server.counters
    await eventually(lambda: server.probe.running == 0)
