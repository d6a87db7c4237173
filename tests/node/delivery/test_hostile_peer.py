"""Peers that lie, stay silent or talk rubbish: told why, counted, and never more than a link."""

from __future__ import annotations

import dataclasses
import os

import pytest

from identity.credential import issue_credential
from node.engine.delivery_commands import Arrived
from node.engine.values import Rejected, SummaryReady
from schemas.frames import (
    Acked,
    Deliver,
    ErrorFrame,
    Hello,
    KeyPackageRequest,
    KeyPackageResponse,
    Ping,
    Pong,
    RefusedParcel,
    decode_frame,
    encode_frame,
)
from schemas.ids import ParcelId
from schemas.parcels import Parcel
from schemas.records import Signed
from tests.node.delivery.support import (
    FakeNode,
    FakeNodes,
    RawLink,
    eventually,
    raw_peer,
    stranger,
    within,
)
from transport import FrameStream, read_frame, write_frame


async def hear_error(link: RawLink) -> ErrorFrame:
    """The error frame that ends a link, and then the end."""
    while not isinstance(frame := await link.hear(), ErrorFrame):
        assert isinstance(frame, Hello)
    await within(link.connection.wait_closed())
    return frame


async def test_silence_in_place_of_a_hello_ends_the_link(nodes: FakeNodes) -> None:
    """Connections that say nothing would fill the table."""
    node = await nodes()
    async with raw_peer() as peer:
        connection = await peer.dial(node)
        await within(connection.wait_closed())
    assert node.delivery.counters["link-no-hello"] == 1


async def test_another_frame_in_place_of_a_hello_ends_the_link(nodes: FakeNodes) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        connection = await peer.dial(node)
        link = RawLink(connection, FrameStream(await connection.open_stream()))
        await link.say(Ping(1))
        assert (await hear_error(link)).code == "no-hello"
    assert node.delivery.counters["link-no-hello"] == 1
    assert not node.engine.linked


async def test_a_credential_of_another_device_is_refused(nodes: FakeNodes) -> None:
    """Or anybody could speak in a contact's name with a copied credential."""
    node = await nodes()
    async with raw_peer() as peer:
        stolen = issue_credential(peer.engine.identity, stranger())
        hello = dataclasses.replace(peer.engine.hello("x:1"), credential=stolen)
        link = await peer.greet(node, hello)
        assert await within(link.frames.read()) is not None
        await within(link.connection.wait_closed())
    assert node.delivery.counters["link-bad-credential"] == 1
    assert not node.engine.linked


async def test_another_version_is_told_so_on_both_sides(nodes: FakeNodes) -> None:
    """The user must hear "upgrade", not "unreachable"."""
    a, b = await nodes(), await nodes()
    b.engine.versions = (7,)
    a.meets(b)
    assert await within(a.delivery.dialer.reach(b.engine.key, 5.0)) is None
    assert a.delivery.dialer.why_not(b.engine.key) == "version-mismatch"
    async with raw_peer() as peer:
        hello = dataclasses.replace(peer.engine.hello("x:1"), versions=(7,))
        link = await peer.greet(a, hello)
        assert (await hear_error(link)).code == "version-mismatch"
    assert a.delivery.counters["link-version-mismatch"] == 2, "one dialled, one accepted"


@pytest.mark.parametrize(
    "payload", [b"", b"garbage", os.urandom(500), bytes(4096)], ids=["empty", "text", "noise", "0"]
)
async def test_garbage_after_the_hello_ends_the_link(nodes: FakeNodes, payload: bytes) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        assert isinstance(await link.hear(), Hello)
        await link.frames.write(payload)
        error = await hear_error(link)
        assert "/" not in error.message, "no path of ours crosses"
    assert sum(n for k, n in node.delivery.counters.items() if k.startswith("link-")) == 1


async def test_frames_above_the_limit_are_refused_before_they_are_read(nodes: FakeNodes) -> None:
    """65,535 bytes before the hello, 1 MiB after: a stranger may not make us buffer more."""
    node = await nodes()
    async with raw_peer() as peer:
        connection = await peer.dial(node)
        stream = await connection.open_stream()
        await stream.write((65_536).to_bytes(4, "little"))
        assert (await hear_error(RawLink(connection, FrameStream(stream)))).code == (
            "frame-too-large"
        )
        link = await peer.greet(node)
        await link.hear()
        await link.frames.stream.write((1_048_577).to_bytes(4, "little"))
        assert (await hear_error(link)).code == "frame-too-large"
    assert node.delivery.counters["link-frame-too-large"] == 2


async def test_a_second_hello_is_refused(nodes: FakeNodes) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await link.say(peer.engine.hello("x:1"))
        assert (await hear_error(link)).code == "unexpected-frame"


async def test_a_parcel_for_somebody_else_is_refused_and_not_stored(nodes: FakeNodes) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await link.say(Deliver(Parcel(ParcelId(bytes(16)), stranger(), 2**40, b"x" * 200)))
        answer = await link.hear()
        assert answer == RefusedParcel(ParcelId(bytes(16)), "wrong-recipient")
    assert not node.engine.count(Arrived)


async def test_parcels_that_do_not_open_end_the_link_and_a_new_one_does_not_help(
    nodes: FakeNodes,
) -> None:
    """Each costs an envelope's opening, and the peer nothing."""
    node = await nodes(garbage_burst=10, garbage_every_s=3600.0)
    node.engine.verdict = lambda arrived: Rejected("cannot-open", garbage=True)
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        for number in range(10):
            answer = RefusedParcel(await give(link, node, number), "cannot-open")
            assert await link.hear() == answer
        await give(link, node, 10)
        await within(link.connection.wait_closed())
        again = await peer.greet(node)
        await again.hear()
        await give(again, node, 11)
        await within(again.connection.wait_closed())
    assert node.delivery.counters["link-garbage"] == 2
    assert node.engine.count(Arrived) == 12


async def test_what_opens_and_is_refused_by_a_rule_ends_no_link(nodes: FakeNodes) -> None:
    """Members who have not heard that we left may have a long backlog for us."""
    node = await nodes(garbage_burst=10, garbage_every_s=3600.0)
    node.engine.verdict = lambda arrived: Rejected("not-a-member")
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        for number in range(30):
            answer = RefusedParcel(await give(link, node, number), "not-a-member")
            assert await link.hear() == answer
        assert not link.connection.closed
        link.connection.close_now()


async def give(link: RawLink, node: FakeNode, number: int) -> ParcelId:
    parcel = ParcelId(number.to_bytes(16, "big"))
    await link.say(Deliver(Parcel(parcel, node.engine.key, 2**40, b"x" * 200)))
    return parcel


async def test_acks_for_nothing_and_pongs_for_nothing_do_nothing(nodes: FakeNodes) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await link.say(Acked(ParcelId(bytes(16))))
        await link.say(Pong(5))
        await link.say(Ping(6))
        assert await link.hear() == Pong(6)
    assert node.delivery.counters["ack-for-nothing"] == 1


async def test_a_peer_that_reads_nothing_costs_a_bounded_number_of_summaries(
    nodes: FakeNodes,
) -> None:
    node = await nodes(summaries_at_once=4)
    summary = Signed(bytes(200_000), bytes(32), bytes(64)).encode()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await eventually(lambda: node.delivery.links.get(peer.engine.key))
        for _ in range(40):
            node.delivery.on_effect(SummaryReady(peer.engine.key, summary))
        await eventually(lambda: node.delivery.counters["summary-dropped"] >= 20)
        link.connection.close_now()


async def test_requests_are_answered_and_rated_per_peer(nodes: FakeNodes) -> None:
    """KeyPackages are used up by asking: a peer that loops must not drain us."""
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()

        async def request(link: RawLink) -> object:
            stream = await link.connection.open_stream()
            frame = KeyPackageRequest(1, bytes(16))
            await write_frame(stream, encode_frame(frame))
            await stream.finish()
            payload = await within(read_frame(stream, 65_535))
            assert payload is not None
            return decode_frame(payload)

        answers = [await request(link) for _ in range(7)]
        assert isinstance(answers[0], KeyPackageResponse)
        assert answers[0].key_package == b"package 1 " + bytes(16)
        assert isinstance(answers[6], ErrorFrame)
        assert answers[6].code == "rate-limited"
        assert answers[6].retry_after_ms > 0
        link.connection.close_now()
        again = await peer.greet(node)
        await again.hear()
        assert isinstance(await request(again), ErrorFrame), "a new link does not help"


async def test_garbage_as_a_request_ends_the_link(nodes: FakeNodes) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        stream = await link.connection.open_stream()
        await write_frame(stream, b"garbage")
        await within(link.connection.wait_closed())
    assert any(key.startswith("request-") for key in node.delivery.counters)


async def test_a_device_has_a_bounded_number_of_links(nodes: FakeNodes) -> None:
    node = await nodes(links_per_device=3)
    async with raw_peer() as peer:
        for _ in range(6):
            await peer.dial(node)
        await eventually(lambda: node.delivery.counters["link-too-many-links"] == 3)
