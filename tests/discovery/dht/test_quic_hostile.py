"""Strangers on the wire, in both roles: each is bounded and counted, and the others are served."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.dht.contact import DhtContact
from discovery.dht.dial_budget import DialBudget
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS
from schemas.dht import (
    DHT_ALPN,
    DhtError,
    DialBack,
    FindValue,
    Stored,
    decode_dht_response,
    encode_dht_request,
    encode_dht_response,
)
from schemas.errors import Fault, Malformed, Refused, Unreachable
from schemas.limits import DHT_REQUEST, DHT_RESPONSE
from tests.discovery.dht.quic_support import KEY, LOOPBACK, OpenPlace, Place, eventually, within
from transport import (
    Address,
    Connection,
    Endpoint,
    Stream,
    StreamReset,
    read_frame,
    write_frame,
)

ASK = encode_dht_request(FindValue(KEY))


@pytest.fixture
async def stranger() -> AsyncIterator[Endpoint]:
    endpoint = await Endpoint.open(Ed25519PrivateKey.generate(), LOOPBACK, handlers={})
    yield endpoint
    await endpoint.close()


async def connect(stranger: Endpoint, place: Place) -> Connection:
    return await within(
        stranger.dial([place.endpoint.address], expected=place.endpoint.device, alpn=DHT_ALPN)
    )


async def ask(connection: Connection, request: bytes = ASK) -> bytes | None:
    stream = await connection.open_stream()
    await write_frame(stream, request)
    await stream.finish()
    return await within(read_frame(stream, DHT_RESPONSE))


async def is_refused(connection: Connection) -> bool:
    answer = await ask(connection)
    return answer is not None and isinstance(decode_dht_response(answer)[0], DhtError)


async def refusals_until_closed(connection: Connection) -> int:
    refused = 0
    for _ in range(100):
        try:
            refused += await is_refused(connection)
        except Fault:
            return refused
    raise AssertionError(f"served for ever, {refused} times refused")


async def is_served(place: Place, client: Place) -> None:
    """An honest node is answered, whatever else goes on."""
    await within(client.rpc.find_value(place.contact, KEY))


# --- who asks


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"\xff" * 40, "malformed-dht-request"),
        (b"", "malformed-dht-request"),
        (bytes(DHT_REQUEST + 1), "frame-too-large"),
    ],
    ids=["garbage", "nothing", "oversize"],
)
async def test_bytes_that_no_honest_node_sends_close_the_connection(
    place: OpenPlace, stranger: Endpoint, request_bytes: bytes, reason: str
) -> None:
    server, client = await place(), await place()
    connection = await connect(stranger, server)
    stream = await connection.open_stream()
    await write_frame(stream, request_bytes)
    await stream.finish()
    await within(connection.wait_closed())
    assert server.server.counts[reason] == 1
    assert not server.shelf.asked
    await is_served(server, client)


async def test_a_second_request_on_a_stream_closes_the_connection(
    place: OpenPlace, stranger: Endpoint
) -> None:
    server = await place()
    connection = await connect(stranger, server)
    stream = await connection.open_stream()
    await write_frame(stream, ASK)
    await write_frame(stream, ASK)
    await within(connection.wait_closed())
    assert server.server.counts["more-than-a-frame"] == 1


async def test_a_request_that_trickles_in_is_given_up(place: OpenPlace, stranger: Endpoint) -> None:
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, frame_s=0.2)
    server, client = await place(limits), await place()
    connection = await connect(stranger, server)
    streams = [await connection.open_stream() for _ in range(limits.streams)]
    for stream in streams:
        await stream.write(b"\x10")
    await eventually(lambda: server.server.counts["request-too-slow"] == limits.streams)
    with pytest.raises(StreamReset):
        await within(streams[0].read())
    await is_served(server, client)


async def test_a_connection_that_asks_nothing_is_let_go(
    place: OpenPlace, stranger: Endpoint
) -> None:
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, accepted_idle_s=0.2)
    server = await place(limits)
    connection = await connect(stranger, server)
    assert await ask(connection)
    await within(connection.wait_closed())
    await eventually(lambda: server.server.connections == 0)


async def test_only_so_many_requests_of_a_connection_at_once(
    place: OpenPlace, stranger: Endpoint
) -> None:
    server = await place()
    connection = await connect(stranger, server)
    limits = server.limits
    streams = [await connection.open_stream() for _ in range(limits.streams + 10)]
    for stream in streams:
        await stream.write(b"\x10")
    await eventually(lambda: server.server.counts["too-many-streams"] == 10)


async def test_who_asks_too_often_is_refused_and_then_cut_off(
    place: OpenPlace, stranger: Endpoint
) -> None:
    limits = dataclasses.replace(
        DEFAULT_QUIC_LIMITS, device_rate=0.01, device_burst=3, refusals_borne=2
    )
    server, client = await place(limits), await place()
    connection = await connect(stranger, server)
    assert await refusals_until_closed(connection) == limits.refusals_borne
    asked = len(server.shelf.asked)
    assert limits.device_burst <= asked <= limits.device_burst + 1
    assert await is_refused(await connect(stranger, server)), "a new connection helps nothing"
    assert len(server.shelf.asked) == asked
    await is_served(server, client)


async def test_only_so_many_connections_of_a_device(place: OpenPlace, stranger: Endpoint) -> None:
    server, client = await place(), await place()
    cap = server.limits.accepted_per_device
    connections = [await connect(stranger, server) for _ in range(cap + 3)]
    await eventually(lambda: sum(each.closed for each in connections) == 3)
    assert server.server.counts["too-many-connections"] == 3
    await is_served(server, client)


async def test_only_so_many_connections_in_all_and_who_is_idle_makes_room(
    place: OpenPlace, stranger: Endpoint
) -> None:
    """Places cannot be kept by asking nothing; and who asks keeps theirs."""
    server = await place(dataclasses.replace(DEFAULT_QUIC_LIMITS, accepted=3))
    idle, asking, one, two = [await place() for _ in range(4)]
    await is_served(server, idle)
    connection = await connect(stranger, server)
    stream = await connection.open_stream()
    await stream.write(b"\x10")  # a request that is under way
    await eventually(lambda: server.server.connections == 2)
    for _ in range(2):
        await is_served(server, asking)
        await is_served(server, one)
        await is_served(server, two)
        assert server.server.connections <= 3
    assert server.accepted[0].closed, "the idle one went first"
    assert not connection.closed
    assert server.server.counts["let-go"] >= 3


# --- who answers


class Liar:
    """Answers each stream with bytes of the test's choice."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.connections: list[Connection] = []

    async def open(self, stack: AsyncExitStack) -> DhtContact:
        endpoint = await Endpoint.open(
            Ed25519PrivateKey.generate(), LOOPBACK, handlers={DHT_ALPN: self.serve}
        )
        stack.push_async_callback(endpoint.close)
        return DhtContact(endpoint.device, endpoint.address)

    async def serve(self, connection: Connection) -> None:
        self.connections.append(connection)
        while True:
            stream: Stream = await connection.accept_stream()
            if self._answer is not None:
                await stream.write(self._answer)
                await stream.finish()


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "little") + payload


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (framed(b"\xff" * 64), "malformed-dht-response"),
        (framed(bytes(DHT_RESPONSE + 1)), "frame-too-large"),
        (b"", "no-frame"),
        (b"\x08\x00", "frame-truncated"),
        (framed(encode_dht_response(Stored(), "127.0.0.1:1")) * 2, "more-than-a-frame"),
        (framed(encode_dht_response(Stored(), "127.0.0.1:1")), "wrong-answer"),
    ],
    ids=["garbage", "oversize", "nothing", "half", "two", "another"],
)
async def test_an_answer_that_is_none_is_malformed_and_nothing_else(
    place: OpenPlace, answer: bytes, code: str
) -> None:
    client = await place()
    async with AsyncExitStack() as stack:
        contact = await Liar(answer).open(stack)
        with pytest.raises(Malformed) as caught:
            await within(client.rpc.find_value(contact, KEY))
    assert caught.value.code == code
    assert client.rpc.counts[code] == 1


async def test_who_never_answers_costs_a_deadline(place: OpenPlace) -> None:
    client = await place(dataclasses.replace(DEFAULT_QUIC_LIMITS, request_s=0.2))
    async with AsyncExitStack() as stack:
        contact = await Liar(None).open(stack)
        with pytest.raises(Unreachable) as caught:
            await within(client.rpc.find_value(contact, KEY))
    assert caught.value.code == "no-answer"


async def test_a_refusal_says_which_rule(place: OpenPlace) -> None:
    client = await place()
    async with AsyncExitStack() as stack:
        answer = encode_dht_response(DhtError("cell-full", "no room"), "127.0.0.1:1")
        contact = await Liar(framed(answer)).open(stack)
        with pytest.raises(Refused) as caught:
            await within(client.rpc.find_value(contact, KEY))
    assert caught.value.code == "cell-full"


# --- a victim's address


class Victim:
    """Somebody's UDP port that never asked for anything."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.address = Address(*self._sock.getsockname())

    def received(self) -> tuple[int, int]:
        """(datagrams, bytes) so far."""
        sizes = []
        while True:
            try:
                sizes.append(len(self._sock.recv(65_535)))
            except BlockingIOError:
                return len(sizes), sum(sizes)

    def close(self) -> None:
        self._sock.close()


async def test_a_victim_named_by_any_number_of_contacts_gets_a_few_packets(
    place: OpenPlace,
) -> None:
    """Whoever answers us may name a victim as often as they like, under as many keys."""
    client, victim = await place(dataclasses.replace(DEFAULT_QUIC_LIMITS, dial_s=0.5)), Victim()
    keys = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(60)]
    contacts = [DhtContact(type(client.endpoint.device)(key), victim.address) for key in keys]
    results = await within(
        asyncio.gather(
            *(client.rpc.find_value(each, KEY) for each in contacts), return_exceptions=True
        )
    )
    assert all(isinstance(each, Unreachable) for each in results)
    dials = int(client.limits.unanswered_address_burst) + 1  # time went by
    assert client.rpc.counts["dial-budget"] >= len(contacts) - dials
    datagrams, size = victim.received()
    victim.close()
    assert 0 < datagrams <= dials * 10, "a few dials of a few Initials each"
    assert size <= dials * 10 * 1_200


def test_dials_to_one_network_and_to_all_that_never_answer_are_bounded_and_answers_are_free() -> (
    None
):
    limits = DEFAULT_QUIC_LIMITS
    budget = DialBudget(limits)
    network = [Address(f"203.0.113.{n}", port) for n in range(1, 255) for port in (1, 2)]
    assert sum(budget.take(each, 0.0) for each in network) == limits.unanswered_prefix_burst
    spread = [Address(f"198.{n // 250}.{n % 250}.1", 7000) for n in range(1000)]
    left = limits.unanswered_burst - limits.unanswered_prefix_burst
    assert sum(budget.take(each, 0.0) for each in spread) == left
    budget = DialBudget(limits)
    for each in [*network, *spread]:
        assert budget.take(each, 0.0)
        budget.answered(each, 0.0)


# --- dialling back


async def test_only_the_asker_itself_is_dialled_back_and_rarely(
    place: OpenPlace, stranger: Endpoint
) -> None:
    limits = dataclasses.replace(DEFAULT_QUIC_LIMITS, dial_back_burst=1, dial_back_rate=0.01)
    server = await place(limits)
    client = await place()
    assert (await within(client.rpc.dial_back(server.contact))).reached
    connection = await connect(stranger, server)
    answer = await ask(connection, encode_dht_request(DialBack()))
    assert answer is not None
    response, observed = decode_dht_response(answer)
    assert getattr(response, "reached", None) is False, "the stranger does not listen"
    assert observed == str(stranger.address)
    again = [client.rpc.dial_back(server.contact) for _ in range(2)]
    codes = [await within(_code(each)) for each in again]
    assert codes[-1] == "try-later"


async def _code(work: Awaitable[object]) -> str:
    try:
        await work
    except Fault as fault:
        return fault.code
    return ""


async def test_one_is_dialled_back_at_a_time(place: OpenPlace) -> None:
    server = await place()
    clients = [await place() for _ in range(6)]
    results = await within(
        asyncio.gather(
            *(each.rpc.dial_back(server.contact) for each in clients), return_exceptions=True
        )
    )
    refused = [each for each in results if isinstance(each, Refused)]
    assert 0 < len(results) - len(refused) < len(results)
