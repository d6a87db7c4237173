"""Who makes news all the time, of the DHT or the LAN, costs us a bounded amount of work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import Any

import pytest

from discovery.lan_events import Peer, PeerChange, PeerEvent
from node.delivery.lan import Lan
from node.delivery.limits import DeliveryLimits
from node.engine.commands import Command
from node.engine.delivery_commands import LookUpPeer, Retry
from node.engine.values import PeerView
from schemas.errors import Unreachable
from schemas.ids import DeviceKey, IdentityKey
from tests.node.delivery.support import FakeEngine, FakeNodes, eventually, stranger

NEVER_S = 1000.0
WORDS = 100


async def test_news_of_a_device_begin_its_backoff_anew_at_a_rate(
    nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record published each second had us dial eight addresses all the time."""
    a, away = await nodes(redial_first_s=NEVER_S, news_every_s=0.5), FakeEngine()
    dialer, attempts = a.delivery.dialer, 0

    async def fail(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise Unreachable("no-answer", "nobody is there")

    monkeypatch.setattr(dialer, "_attempt", fail)
    await dialer.reach(away.key, 0.1)
    await eventually(lambda: attempts == 1)
    for _ in range(WORDS):
        dialer.news(away.key)
        await asyncio.sleep(0.001)
    assert attempts == 1 + 2, "as of mDNS and the DHT: at once"
    await eventually(lambda: attempts == 4)  # what was held back is heeded in its time
    dialer.news(away.key)
    await dialer.reach(away.key, 0.1, eager=True)
    assert attempts == 5, "the user waits for no rate"


class _Mdns:
    """Says that one device changes, again and again."""

    def __init__(self, device: DeviceKey) -> None:
        self.event = PeerEvent(PeerChange.CHANGED, Peer(device, "", (), 0.0))

    @contextmanager
    def watch(self) -> Any:
        yield self.events()

    async def events(self) -> AsyncIterator[PeerEvent]:
        for _ in range(WORDS):
            yield self.event
            await asyncio.sleep(0)


class _Dialer:
    def __init__(self) -> None:
        self.visits = self.most = 0
        self.free = asyncio.Event()

    def news(self, device: DeviceKey) -> None:
        """Has its own rate."""

    async def reach(self, *_: object, **__: object) -> None:
        self.visits += 1
        await self.free.wait()


async def test_a_device_that_changes_all_the_time_is_visited_once_at_a_time() -> None:
    device, retries = stranger(), 0

    async def ask(command: Command[Any]) -> Any:
        nonlocal retries
        if isinstance(command, LookUpPeer):
            return PeerView(device, IdentityKey(b"\x01" * 32), "", None, (), ())
        assert isinstance(command, Retry)
        retries += 1
        return None

    async def nothing() -> None:
        return None

    mdns: Any = _Mdns(device)
    lan = Lan(mdns, ask, DeliveryLimits(), Counter(), nothing, lambda _: None)
    dialer: Any = _Dialer()
    await lan._watch(dialer)
    await asyncio.sleep(0.01)
    assert (dialer.visits, retries) == (1, 1)
    dialer.free.set()
    await asyncio.sleep(0.01)
    await lan._watch(dialer)
    await asyncio.sleep(0.01)
    assert dialer.visits > 1, "it is over: the next one"
    assert retries == 1, "the outbox was asked just now"
    await lan._tasks.close(0)
