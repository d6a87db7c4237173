"""The virtual internet of the DHT's nodes: who answers, after how long, for how many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from discovery.dht.contact import DhtContact
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS
from discovery.dht.rpc import Asker
from schemas.addresses import Address
from schemas.dht import Contacts, DhtResponse, FindNode, encode_dht_request, encode_dht_response
from schemas.errors import Unreachable
from schemas.ids import DeviceKey, DhtId
from simulation.dht.network import NAT_S, Host, Network, NetworkRpc, Request
from simulation.dht.sizes import FRAME_LENGTH, OBSERVED, exchange_bytes
from simulation.wire.loop import VirtualLoop, run

TARGET = DhtId(bytes(32))
LATENCY_S = 0.05
ROUND_TRIP_S = 2 * LATENCY_S


def host(number: int, *, behind_nat: bool = False) -> Host:
    def answer(asker: Asker, request: Request) -> DhtResponse:
        return Contacts(())

    key, address = DeviceKey(bytes([number]) * 32), Address(f"20.0.{number}.1", 7000)
    return Host(f"host-{number}", key, address, answer, behind_nat=behind_nat)


def contact(of: Host) -> DhtContact:
    return DhtContact(of.device, of.address)


class Two:
    """Two hosts that are online; `took(work)` is how long it took, in virtual seconds."""

    def __init__(self, loop: VirtualLoop, *, behind_nat: bool = False) -> None:
        self.loop = loop
        self.network = Network(loop, LATENCY_S)
        self.one, self.two = host(1), host(2, behind_nat=behind_nat)
        for each in (self.one, self.two):
            self.network.join(each)
        self.rpc = NetworkRpc(self.network, self.one, DeviceKey(bytes(32)))
        self.rpc_of_two = NetworkRpc(self.network, self.two, DeviceKey(bytes(32)))

    async def ask(self) -> float:
        began = self.loop.time()
        await self.rpc.find_node(contact(self.two), TARGET, announce=True)
        return self.loop.time() - began


def play(scene: Callable[[VirtualLoop], Awaitable[None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await scene(loop)

    run(main())


def test_a_first_request_costs_a_handshake_until_the_connection_is_let_go() -> None:
    async def scene(loop: VirtualLoop) -> None:
        two = Two(loop)
        assert await two.ask() == pytest.approx(2 * ROUND_TRIP_S)
        first = two.network.bytes["maintenance"]
        assert await two.ask() == pytest.approx(ROUND_TRIP_S)
        assert two.network.bytes["maintenance"] - first < first / 5
        await asyncio.sleep(DEFAULT_QUIC_LIMITS.idle_s + 1)
        assert await two.ask() == pytest.approx(2 * ROUND_TRIP_S)

    play(scene)


def test_who_is_gone_is_silence() -> None:
    async def scene(loop: VirtualLoop) -> None:
        two = Two(loop)
        two.network.leave(two.two)
        began = loop.time()
        with pytest.raises(Unreachable):
            await two.ask()
        assert loop.time() - began == pytest.approx(DEFAULT_QUIC_LIMITS.dial_s)

    play(scene)


def test_who_goes_while_a_request_is_under_way_is_silence_too() -> None:
    async def scene(loop: VirtualLoop) -> None:
        two = Two(loop)
        await two.ask()
        loop.call_later(LATENCY_S / 2, two.network.leave, two.two)
        with pytest.raises(Unreachable):
            await two.ask()

    play(scene)


def test_somebody_elses_key_at_the_address_is_nobody() -> None:
    async def scene(loop: VirtualLoop) -> None:
        two = Two(loop)
        wrong = DhtContact(DeviceKey(bytes([9]) * 32), two.two.address)
        with pytest.raises(Unreachable):
            await two.rpc.find_node(wrong, TARGET, announce=True)

    play(scene)


def test_a_nat_lets_in_whom_it_dialled_and_for_two_minutes() -> None:
    """Silent nodes are in tables: whoever checks a newcomer at once gets an answer."""

    async def scene(loop: VirtualLoop) -> None:
        two = Two(loop, behind_nat=True)
        with pytest.raises(Unreachable):
            await two.ask()
        await two.rpc_of_two.find_node(contact(two.one), TARGET, announce=True)
        await two.ask()
        await asyncio.sleep(NAT_S)
        with pytest.raises(Unreachable):
            await two.ask()

    play(scene)


def test_sizes_are_those_of_the_encoded_frames() -> None:
    """They are worked out once per shape; two shapes must not share one."""
    request = FindNode(TARGET, announce=True)
    for hosts in (["1.2.3.4"], ["1.2.3.4"] * 8, ["123.123.123.123"] * 8, []):
        told = [contact(Host("", DeviceKey(bytes(32)), Address(at, 7000), _none)) for at in hosts]
        response = Contacts(told)
        frames = len(encode_dht_request(request)) + len(encode_dht_response(response, OBSERVED))
        around = exchange_bytes(request, response) - frames - 2 * FRAME_LENGTH
        assert around == exchange_bytes(request, Contacts(())) - _frames(request) - 2 * FRAME_LENGTH


def _frames(request: FindNode) -> int:
    return len(encode_dht_request(request)) + len(encode_dht_response(Contacts(()), OBSERVED))


def _none(asker: Asker, request: Request) -> DhtResponse:
    return Contacts(())
