"""A relay of several processes on one PostgreSQL: people do not notice that one of them dies."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mls_rs
import pytest

from node.engine import commands as c
from node.node import Node, NodeConfig
from schemas.addresses import Address, RelayAddress
from schemas.ids import DeviceKey, GroupId
from schemas.path_policy import PathPolicy
from tests.node.delivery.real import FAST, Person, befriend, card, joined
from tests.node.delivery.support import LOOPBACK, eventually, within
from tests.relay.process import RelayProcess

NAMES = ("ada", "bob", "cy")
QUICK_RETURN: dict[str, Any] = {
    "relay_quiet_s": 1.0,
    "relay_proof_s": 1.0,
    "relay_return_first_s": 1.0,
    "relay_list_s": 1.0,
    "check_push_s": 1.0,
}


class Relays:
    """Processes on one database; each comes back where it was."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._stack = AsyncExitStack()
        self.running: dict[int, RelayProcess] = {}
        self.listen: dict[int, str] = {}

    def start(self, number: int) -> RelayProcess:
        process = RelayProcess(
            self._folder / f"relay-{number}",
            *("--store", "postgres", "--database-url", self._url, "--metrics", "127.0.0.1:0"),
            listen=self.listen.get(number, "127.0.0.1:0"),
        )
        self.running[number] = self._stack.enter_context(process)
        self.listen[number] = process.ready["listen"]
        return process

    def end(self, number: int, by: signal.Signals) -> None:
        self.running.pop(number).end(by)

    def first_for(self, device: DeviceKey) -> int:
        return self._number(self.address.order_for(device)[0])

    def of(self, node: Node) -> int | None:
        """Which process the node listens to."""
        keeper = node._net.own_relays._keepers.get(self.address.device)
        client = None if keeper is None or not keeper._subscribed else keeper._client
        if client is None or client.connection.closed:
            return None
        return self._number(client.address.address)

    def _number(self, place: Address) -> int:
        return next(n for n, listen in self.listen.items() if listen == str(place))

    @property
    def address(self) -> RelayAddress:
        device = DeviceKey.from_hex(next(iter(self.running.values())).ready["device"])
        first, *others = [Address.parse(each) for each in self.listen.values()]
        return RelayAddress(first, device, tuple(others))

    def accepted(self, number: int) -> float:
        """Parcels that this process took since its start."""
        where = self.running[number].ready["metrics"]
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        [line] = [each for each in lines if 'parcels_total{event="accepted"}' in each]
        return float(line.split()[-1])

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def relays(kj: None, tmp_path: Path, database_url: str) -> AsyncIterator[Relays]:
    relays = Relays(tmp_path, database_url)
    try:
        relays.start(1)
        relays.start(2)
        yield relays
    finally:
        await relays.close()


@pytest.fixture
async def stack(kj: None) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


def processes_known_to(node: Node) -> set[Address]:
    return {place for relay in node._net.own_relays.addresses for place in relay.processes}


class Club:
    """Three who write to one group, all of it by relay."""

    def __init__(self, nodes: dict[str, Node], group: GroupId) -> None:
        self.nodes = nodes
        self._group = group
        self._said = 0
        self.expected: dict[str, list[str]] = {name: [] for name in nodes}

    async def talk(self, rounds: int) -> None:
        for _ in range(rounds):
            self._said += 1
            for name, node in self.nodes.items():
                text = f"{name} {self._said}"
                await node.ask(c.Send(self._group, text))
                for other in self.expected.keys() - {name}:
                    self.expected[other].append(text)
            await asyncio.sleep(0.02)

    async def all_heard(self, seconds: float) -> None:
        """Everybody has every message of the others, once."""
        for name, node in self.nodes.items():
            found: list[str] = []
            try:
                async with asyncio.timeout(seconds):
                    while len(found) < len(self.expected[name]):
                        views = await node.ask(c.ReadMessages("test"))
                        found = [view.text for view in views if not view.own]
                        await asyncio.sleep(0.05)
            except TimeoutError:
                missing = Counter(self.expected[name]) - Counter(found)
                raise AssertionError(f"{name} lacks {missing}; {node.counters}") from None
            assert sorted(found) == sorted(self.expected[name]), "each once"


async def club(stack: AsyncExitStack, folder: Path, relay: RelayAddress) -> Club:
    nodes = {
        name: await stack.enter_async_context(
            Person(folder, name).running(str(relay), **QUICK_RETURN)
        )
        for name in NAMES
    }
    ada, *others = nodes.values()
    for node in nodes.values():
        await node.ask(c.SetPathPolicy(None, PathPolicy.RELAY_ONLY))
    for other in others:
        await befriend(ada, other)
    await others[0].add_contact(await card(others[1]))
    group = (await ada.ask(c.CreateGroup("club", mls_rs.CLASSIC))).group
    await within(ada.invite(group, [other.identity for other in others]), 20)
    for other in others:
        await joined(other, group, 20)
    return Club(nodes, group)


async def each(club: Club, where: Callable[[Node], bool], seconds: float) -> float:
    """How long it took until that is so of every node."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await eventually(lambda: all(map(where, club.nodes.values())), seconds)
    return loop.time() - began


async def test_a_killed_process_costs_no_message_and_few_seconds(
    relays: Relays, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """kill -9 under load, then it is back: all is delivered, once, and everybody returns."""
    talkers = await club(stack, tmp_path, relays.address)
    await each(talkers, lambda node: relays.of(node) == relays.first_for(node.device), 10)
    await talkers.talk(5)
    await talkers.all_heard(10)

    talking = asyncio.create_task(talkers.talk(15))
    await asyncio.sleep(0.3)
    gone = relays.first_for(talkers.nodes["ada"].device)
    [left] = set(relays.running) - {gone}
    await asyncio.to_thread(relays.end, gone, signal.SIGKILL)
    await each(talkers, lambda node: relays.of(node) == left, 8)
    await within(talking, 30)
    await talkers.all_heard(20)

    await asyncio.to_thread(relays.start, gone)
    await each(talkers, lambda node: relays.of(node) == relays.first_for(node.device), 15)
    await talkers.talk(5)
    await talkers.all_heard(10)
    assert all(relays.accepted(number) > 0 for number in relays.running)


@pytest.mark.parametrize("knows", ["both", "one"])
async def test_a_process_killed_soon_after_a_node_came_is_left_by_its_silence(
    relays: Relays, stack: AsyncExitStack, tmp_path: Path, knows: str
) -> None:
    """Nobody calls. That there is another process the node may have heard only after it came."""
    address = relays.address
    given = address if knows == "both" else address.at([Address.parse(relays.listen[2])])
    config = NodeConfig(
        Person(tmp_path, "ada").folder,
        listen=LOOPBACK,
        relays=(str(given),),
        mdns=False,
        limits=dataclasses.replace(FAST, relay_quiet_s=1.0, relay_proof_s=1.0),
    )  # of the transport as it is: its own keep-alive takes 10 s to ask, and 30 s to end it
    node = await stack.enter_async_context(Node.running(config))
    await eventually(lambda: processes_known_to(node) == set(address.processes), 5)
    await eventually(lambda: relays.of(node) == relays.first_for(node.device), 5)
    client = node._net.own_relays._keepers[address.device]._client
    assert client is not None
    loop = asyncio.get_running_loop()
    await eventually(lambda: loop.time() - client.connection.last_heard_at > 0.6, 10)  # calls end
    gone = relays.first_for(node.device)
    [left] = set(relays.running) - {gone}
    await asyncio.to_thread(relays.end, gone, signal.SIGKILL)
    await eventually(lambda: relays.of(node) == left, 7)


async def test_processes_are_replaced_one_after_the_other_unnoticed(
    relays: Relays, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """An update. People were given the address of one process, and learn of the other."""
    one = RelayAddress.parse(relays.running[1].ready["address"])
    assert one.processes == (Address.parse(relays.listen[1]),)
    two = RelayAddress.parse(relays.running[2].ready["address"])
    assert set(two.processes) == set(relays.address.processes), "the ready line lists all that live"
    assert one.device == two.device
    talkers = await club(stack, tmp_path, one)
    # Also those who are at their first process already: they have yet to hear of the other one.
    everywhere = set(relays.address.processes)
    await each(talkers, lambda node: processes_known_to(node) == everywhere, 15)
    for number in (1, 2):
        await each(talkers, lambda node: relays.of(node) == relays.first_for(node.device), 15)
        talking = asyncio.create_task(talkers.talk(10))
        await asyncio.to_thread(relays.end, number, signal.SIGTERM)
        await each(talkers, lambda node, left=3 - number: relays.of(node) == left, 10)  # type: ignore[misc]
        await asyncio.to_thread(relays.start, number)
        await within(talking, 30)
    await talkers.all_heard(20)
