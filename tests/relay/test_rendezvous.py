"""Two that can both hear the relay are told of each other at once; nobody learns who is here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import transport
from identity.keys import KeyPair
from relay.limits import RelayLimits
from relay.server import Relay, open_relay
from relay.service import RelayService
from schemas.addresses import Address
from schemas.ids import DeviceKey
from schemas.node_service import RELAY_ALPN, NodeService, ParcelSink
from tests.relay.support import Client, Clock, config_for, new_device, within
from tests.timing import soonest
from tests.transport.test_rebinding import Nat

DEADLINE_S = 0.4
HOME = "11.0.0.1:7000"
AWAY = "11.0.0.2:7001"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.rendezvous.MEETING_DEADLINE_S", DEADLINE_S)


@dataclass
class Sink:
    """A subscriber; `says` is its answer to whoever wants to meet it."""

    says: Sequence[str] = (HOME,)
    silent: bool = False
    fails: bool = False
    met: list[tuple[DeviceKey, list[str]]] = field(default_factory=list)
    observed: list[str] = field(default_factory=list)

    async def meet_context(self, context: Any) -> None:
        self.met.append((DeviceKey(context.params.peer), list(context.params.addresses)))
        if self.silent:
            await asyncio.Event().wait()
        if self.fails:
            raise RuntimeError("no")
        context.results.addresses = list(self.says)

    async def observed_context(self, context: Any) -> None:
        self.observed.append(str(context.params.address))


class OldSink:
    """Of a node that only knows parcels."""

    async def parcels_context(self, context: Any) -> None: ...


class Callers:
    """Devices connected to a relay, closed at the end of the test."""

    def __init__(self, relay: Relay, stack: AsyncExitStack) -> None:
        self._relay = relay
        self._stack = stack

    async def __call__(
        self,
        sink: Any = None,
        device: KeyPair[DeviceKey] | None = None,
        *,
        at: Address | None = None,
    ) -> Client:
        device = new_device() if device is None else device
        endpoint = await transport.Endpoint.open(
            device.private, transport.Address("127.0.0.1", 0), handlers={}
        )
        self._stack.push_async_callback(endpoint.close)
        where = self._relay.listen if at is None else at
        connection = await endpoint.dial([where], expected=self._relay.device, alpn=RELAY_ALPN)
        rpc = await self._stack.enter_async_context(
            transport.connect_rpc(await connection.open_stream())
        )
        client = Client(device, rpc.cast_as(NodeService), connection)
        if sink is not None:
            own = bytes(device.public)
            exported = rpc.export(ParcelSink, sink)
            code = await client.code("subscribe", recipientKey=own, after=0, sink=exported)
            assert code == ""
        return client


@pytest.fixture
async def callers(relay: Relay) -> Any:
    async with AsyncExitStack() as stack:
        yield Callers(relay, stack)


async def meet(client: Client, peer: DeviceKey, *addresses: str) -> Any:
    return await client.call("rendezvous", peerKey=bytes(peer), addresses=list(addresses))


def port_of(client: Client) -> str:
    """As the relay sees it."""
    endpoint: Any = client.connection._wire
    return str(endpoint.address)


async def test_a_caller_learns_how_it_is_seen(callers: Callers) -> None:
    client = await callers()
    assert (await client.call("observeAddress")).address == port_of(client)


async def test_two_are_told_of_each_other_with_what_the_relay_sees_first(
    callers: Callers, relay: Relay
) -> None:
    sink = Sink()
    bob, alice = await callers(sink), await callers()
    answer = await meet(alice, bob.device.public, AWAY)
    assert answer.error.code == ""
    assert sink.met == [(alice.device.public, [port_of(alice), AWAY])]
    assert list(answer.addresses) == [port_of(bob), HOME]
    assert relay.service.rendezvous.counters == {"met": 1}


async def test_the_newest_subscription_of_a_device_is_asked(callers: Callers) -> None:
    """A phone that changed networks leaves dead connections behind."""
    old, new, bob = Sink(silent=True), Sink(), new_device()
    await callers(old, bob)
    await callers(new, bob)
    answer = await meet(await callers(), bob.public)
    assert answer.error.code == ""
    assert not old.met


@pytest.mark.parametrize(
    "says", [[f"11.0.0.{n}:1" for n in range(9)], ["host.example:7000"], ["11.0.0.1:0"], ["x"]]
)
async def test_what_is_no_list_of_numeric_addresses_is_refused(
    callers: Callers, says: list[str]
) -> None:
    """Names would have others ask any DNS server; more than eight are for a flood."""
    sink = Sink()
    bob, alice = await callers(sink), await callers()
    assert (await meet(alice, bob.device.public, *says)).error.code == "malformed-request"
    assert not sink.met


ABSENT: dict[str, Any] = {
    "unknown": None,
    "offline": "offline",
    "unwilling": Sink(says=()),
    "silent": Sink(silent=True),
    "failing": Sink(fails=True),
    "lying": Sink(says=["host.example:7000"]),
    "flooding": Sink(says=[f"11.0.0.{n}:1" for n in range(9)]),
    "older": OldSink(),
}


async def test_who_is_not_met_is_not_met_alike(callers: Callers, relay: Relay) -> None:
    """No oracle: the same bytes after the same time, whether it is here or not."""
    alice, seen = await callers(), {}
    for why, sink in ABSENT.items():
        bob = new_device()
        if sink is not None:
            client = await callers(Sink() if sink == "offline" else sink, bob)
            if sink == "offline":
                client.connection.close_now()
                while relay.service.subscriptions.latest(bob.public):
                    await asyncio.sleep(0.01)

        async def refused(bob: KeyPair[DeviceKey] = bob, why: str = why) -> float:
            begun = time.monotonic()
            answer = await meet(alice, bob.public, AWAY)
            took = time.monotonic() - begun
            assert answer.error.code == "not-here", why
            assert took >= DEADLINE_S, why
            seen[why] = (str(answer.error), list(answer.addresses))
            return took

        late_s = DEADLINE_S + 0.25
        assert await soonest(refused, below_s=late_s) < late_s, why
    assert len({str(each) for each in seen.values()}) == 1
    counters = relay.service.rendezvous.counters
    assert counters["unknown"] == 2
    assert counters["unwilling"] == counters["silent"] == 1
    assert relay.desk.refusals["not-here"] == len(ABSENT)


async def test_meetings_are_rated_for_each_caller_and_each_target(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    """Each makes two nodes send packets to where the other one says."""
    limits = RelayLimits(meetings_burst=3, target_meetings_burst=5)
    config = config_for(tmp_path / "rated", limits=limits)
    async with open_relay(config, clock=clock) as relay, AsyncExitStack() as stack:
        callers, sink = Callers(relay, stack), Sink()
        bob = await callers(sink)
        greedy = await callers()
        codes = [(await meet(greedy, bob.device.public)).error.code for _ in range(6)]
        assert codes[:3] == ["", "", ""]
        assert codes[-1] == "try-later"
        assert codes.count("") in (3, 4), "one comes back while they are asked"
        again = await callers(device=greedy.device)
        assert (await meet(again, bob.device.public)).error.code == "try-later", "by device"
        crowd = [await callers() for _ in range(12)]
        await asyncio.gather(*(meet(each, bob.device.public) for each in crowd))
        assert 5 <= len(sink.met) <= 8, "and two come back each second"
        assert relay.service.rendezvous.counters["too-many"] >= 8
        assert relay.desk.refusals["try-later"] >= 2


async def test_a_relay_that_stops_lets_nobody_wait(
    callers: Callers, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.rendezvous.MEETING_DEADLINE_S", 30.0)
    asking = asyncio.create_task(meet(await callers(), new_device().public))
    while not relay.service.rendezvous.counters["unknown"]:
        await asyncio.sleep(0.01)
    service: RelayService = relay.service
    await within(service.drain(), 5)
    assert (await within(asking, 5)).error.code == "not-here"


async def test_a_subscriber_is_told_that_its_address_changed(
    callers: Callers, relay: Relay
) -> None:
    """A NAT that forgets gives another port: others would dial the old one."""
    nat, sink = Nat(relay.listen), Sink()
    try:
        client = await callers(sink, at=nat.address)
        before = (await client.call("observeAddress")).address
        nat.rebind()
        after = f"127.0.0.1:{nat.port}"
        while after not in sink.observed:
            await within(client.call("health"))
            await asyncio.sleep(0.01)
        assert before != after
        assert sink.observed == [after], "once"
        assert (await client.call("observeAddress")).address == after
    finally:
        nat.close()
