"""Connections that name nobody: one guise for each recipient, few at once, none for long."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import cast

import pytest

from identity.delivery_token import token_hash
from node.delivery.anonymous_relays import AnonymousRelays
from node.delivery.asking import Ask
from node.delivery.departures import Departures
from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayClient
from node.delivery.token_choice import TOKEN_REFUSED
from node.delivery.token_news import TokenNews
from node.engine.values import OwnTokens, TokensChanged
from relay.server import open_relay
from schemas.addresses import RelayAddress
from schemas.errors import Fault
from schemas.ids import DeviceKey
from tests.node.delivery.support import (
    QUICK,
    FakeNodes,
    Relays,
    eventually,
    fake_node,
    relay_config,
    silent_address,
    stranger,
    within,
)
from transport import Address, AnonymousEndpoint


class Guises:
    """AnonymousRelays, and which endpoints it made."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.made: list[AnonymousEndpoint] = []

    def __call__(self, **changes: float) -> AnonymousRelays:
        limits: DeliveryLimits = dataclasses.replace(QUICK, **changes)  # type: ignore[arg-type]
        relays = AnonymousRelays(self._open, limits, Counter())
        self._stack.push_async_callback(relays.close)
        return relays

    async def _open(self) -> AnonymousEndpoint:
        endpoint = await AnonymousEndpoint.open_anonymous(Address("127.0.0.1", 0))
        self.made.append(endpoint)
        return endpoint

    @property
    def keys(self) -> set[DeviceKey]:
        return {each.device for each in self.made}


@pytest.fixture
async def guises(kj: None) -> AsyncIterator[Guises]:
    async with AsyncExitStack() as stack:
        yield Guises(stack)


async def ask(anonymous: AnonymousRelays, relay: RelayAddress, owner: DeviceKey) -> None:
    async with anonymous.client(relay, owner) as client:
        await client.health()


async def test_each_recipient_has_a_key_and_a_socket_of_its_own(
    guises: Guises, relays: Relays
) -> None:
    relay = await relays()
    anonymous = guises()
    one, other = stranger(), stranger()
    for owner in (one, other, one, other):
        await within(ask(anonymous, relay.address, owner))
    assert len(guises.made) == len(guises.keys) == 2
    assert len({each.address.port for each in guises.made}) == 2


async def test_few_are_open_at_once_and_all_get_their_turn(guises: Guises, relays: Relays) -> None:
    """A message for 250 must not open 250 sockets."""
    relay = await relays()
    anonymous = guises(guises_at_once=2)
    most = 0

    async def bring() -> None:
        nonlocal most
        await ask(anonymous, relay.address, stranger())
        most = max(most, len(anonymous._guises))

    await within(asyncio.gather(*(bring() for _ in range(7))))
    assert most == 2
    assert len(guises.keys) == 7


@pytest.fixture
async def unwilling(kj: None) -> AsyncIterator[Callable[..., Awaitable[asyncio.Task[None]]]]:
    """Use a relay that answers late: the task holds the guise until it is cancelled."""
    held: list[asyncio.Task[None]] = []

    async def use(
        anonymous: AnonymousRelays, relay: RelayAddress, owner: DeviceKey
    ) -> asyncio.Task[None]:
        there = asyncio.Event()

        async def hold() -> None:
            async with anonymous.client(relay, owner):
                there.set()
                await asyncio.Event().wait()

        held.append(asyncio.create_task(hold()))
        await within(there.wait())
        return held[-1]

    yield use
    for each in held:
        each.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_who_has_a_guise_waits_for_nobody(
    guises: Guises, relays: Relays, unwilling: Callable[..., Awaitable[asyncio.Task[None]]]
) -> None:
    relay = await relays()
    anonymous = guises(guises_at_once=2, guises_at_relay=2)
    ada, eve = stranger(), stranger()
    slow = await unwilling(anonymous, relay.address, ada)
    await unwilling(anonymous, relay.address, eve)
    waiting = asyncio.create_task(ask(anonymous, relay.address, stranger()))
    await asyncio.sleep(0.05)
    await within(ask(anonymous, relay.address, eve), 1.0)
    assert not waiting.done()
    slow.cancel()
    await within(waiting)


async def test_a_slow_relay_stops_no_other(
    guises: Guises, relays: Relays, unwilling: Callable[..., Awaitable[asyncio.Task[None]]]
) -> None:
    """It answers late whatever it is asked, for as many recipients as it likes to be named by."""
    slow, good = await relays(), await relays("good")
    anonymous = guises(guises_at_once=3, guises_at_relay=2)
    for _ in range(2):
        await unwilling(anonymous, slow.address, stranger())
    waiting = [asyncio.create_task(ask(anonymous, slow.address, stranger())) for _ in range(3)]
    await asyncio.sleep(0.05)
    for _ in range(3):
        await within(ask(anonymous, good.address, stranger()), 2.0)
    assert not any(each.done() for each in waiting)
    for each in waiting:
        each.cancel()


async def test_a_slow_relay_gets_no_guise_from_another(
    guises: Guises, relays: Relays, unwilling: Callable[..., Awaitable[asyncio.Task[None]]]
) -> None:
    """Nor one by one, of recipients who were written to elsewhere before."""
    slow, good = await relays(), await relays("good")
    anonymous = guises(guises_at_once=2, guises_at_relay=1)
    one, other = stranger(), stranger()
    await within(ask(anonymous, good.address, one))
    await unwilling(anonymous, slow.address, other)
    waiting = asyncio.create_task(ask(anonymous, slow.address, one))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await within(ask(anonymous, good.address, stranger()), 2.0)
    waiting.cancel()


async def test_a_guise_is_thrown_away_after_a_while(guises: Guises, relays: Relays) -> None:
    relay = await relays()
    anonymous = guises(guise_life_s=0.2, guise_look_s=0.05)
    owner = stranger()
    await within(ask(anonymous, relay.address, owner))
    await eventually(lambda: not anonymous._guises)
    await within(ask(anonymous, relay.address, owner))
    assert len(guises.keys) == 2, "the relay sees somebody else"
    anonymous.network_changed()
    await within(ask(anonymous, relay.address, owner))
    assert len(guises.keys) == 3, "on another network, too"


async def test_a_guise_is_used_no_longer_than_its_life(guises: Guises, relays: Relays) -> None:
    """Also by who keeps it busy: nobody else tidies it away."""
    relay = await relays()
    anonymous = guises(guise_life_s=0.1, guise_look_s=60.0)
    owner = stranger()
    await within(ask(anonymous, relay.address, owner))
    await asyncio.sleep(0.1)  # its life
    await within(ask(anonymous, relay.address, owner))
    assert len(guises.keys) == 2


async def test_a_silent_relay_is_asked_by_one_guise_not_by_all(
    guises: Guises, relays: Relays
) -> None:
    relay = await relays()
    anonymous = guises(relay_dial_s=0.2, relay_retry_first_s=30.0)
    silent = RelayAddress.parse(f"{await silent_address(relays.stack)}#{relay.device}")
    for _ in range(5):
        with pytest.raises(Fault):
            await ask(anonymous, silent, stranger())
    assert anonymous.why_not(silent) is not None
    assert sum(anonymous._counters.values()) == 1


async def test_a_relay_that_answered_one_guise_is_dialled_by_all(
    guises: Guises, relays: Relays
) -> None:
    """What a guise remembers of the time when it was away refuses nothing, and tells no other."""
    anonymous = guises(relay_dial_s=1.0, relay_retry_first_s=30.0)
    folder, owner = relays.folder / "again", stranger()
    async with open_relay(relay_config(folder)) as relay:
        address, listen = relay.address, str(relay.listen)
    with pytest.raises(Fault):
        await ask(anonymous, address, owner)
    async with open_relay(relay_config(folder, listen)):
        async with anonymous.client(address, stranger(), eager=True):
            assert anonymous.why_not(address) is None
        await within(ask(anonymous, address, owner))
        assert anonymous.why_not(address) is None


async def test_a_dial_that_failed_is_nothing_to_guises_that_are_connected(
    guises: Guises, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = await relays()
    anonymous = guises(relay_retry_first_s=30.0)
    one = stranger()
    await within(ask(anonymous, relay.address, one))

    async def without_a_socket() -> AnonymousEndpoint:
        endpoint = await AnonymousEndpoint.open_anonymous(Address("127.0.0.1", 0))
        await endpoint.close()
        return endpoint

    monkeypatch.setattr(anonymous, "_open_anonymous", without_a_socket)
    with pytest.raises(Fault):
        await within(ask(anonymous, relay.address, stranger()))
    await within(ask(anonymous, relay.address, one))


async def test_a_changed_network_makes_room_for_who_waits(
    guises: Guises, relays: Relays, unwilling: Callable[..., Awaitable[asyncio.Task[None]]]
) -> None:
    relay = await relays()
    anonymous = guises(guises_at_once=1, guises_at_relay=1)
    await unwilling(anonymous, relay.address, stranger())
    waiting = asyncio.create_task(ask(anonymous, relay.address, stranger()))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    anonymous.network_changed()
    await within(waiting)


def test_what_is_about_one_recipient_shares_the_turn_it_waits_for() -> None:
    now = 0.0
    departures = Departures(2.0, lambda: now)
    assert departures.wait_s(stranger()) == 0.0
    bob = stranger()
    wait = departures.wait_s(bob)
    now = wait / 2
    assert departures.wait_s(bob) == pytest.approx(wait / 2)


def test_the_first_leaves_at_once_and_the_others_within_the_time() -> None:
    now = 0.0
    departures = Departures(2.0, lambda: now)
    first, others = stranger(), [stranger() for _ in range(50)]
    assert departures.wait_s(first) == 0.0
    waits = [departures.wait_s(each) for each in others]
    assert all(0.0 <= wait <= 2.0 for wait in waits)
    assert len(set(waits)) == len(waits)
    assert max(waits) > 1.0 > min(waits), "spread over all of it"
    now = 100.0
    assert departures.wait_s(first) == 0.0, "a quiet time is over"
    assert departures.wait_s(first) == 0.0, "one recipient alone is never made to wait"


async def test_our_relay_is_told_our_tokens_at_each_change_and_each_connection(
    nodes: FakeNodes, relays: Relays
) -> None:
    """What is revoked reaches a relay that was away, too."""
    relay = await relays()
    node = await nodes()
    engine = node.engine
    engine.relays = (str(relay.address),)
    one, two, three = (token_hash(os.urandom(32)) for _ in range(3))
    engine.tokens = OwnTokens((one, two), optional=False)
    await node.delivery._renew_self()

    async def told(*hashes: bytes) -> None:
        async with asyncio.timeout(10):
            while await relay.store.delivery_tokens.of(engine.key) != set(hashes):
                await asyncio.sleep(0.02)

    await told(one, two)
    engine.tokens = OwnTokens((one,), optional=False)
    node.delivery.on_effect(TokensChanged())
    await told(one)
    engine.tokens = OwnTokens((three,), optional=False)  # while it is away
    (await node.delivery.pool.client(relay.address)).connection.close_now()
    await told(three)


async def test_a_new_token_is_told_later_than_it_came_and_before_we_go(relays: Relays) -> None:
    """When it came is when a group was made: nothing is to be seen then."""
    relay = await relays()
    one, two, three = (token_hash(os.urandom(32)) for _ in range(3))
    asked: list[str] = []
    observe = relay.desk._observe

    def note(method: str, took: float) -> None:
        asked.append(method)
        observe(method, took)

    relay.desk._observe = note
    async with fake_node(key_package_stock=1, flush_s=5.0) as node:
        engine = node.engine
        engine.relays = (str(relay.address),)
        engine.tokens = OwnTokens((one,), optional=False)
        await node.delivery._renew_self()

        async def held() -> set[bytes]:
            return set(await relay.store.delivery_tokens.of(engine.key))

        async with asyncio.timeout(10):
            while await held() != {one}:
                await asyncio.sleep(0.02)
            known = 0
            # Its processes are what it is asked for last; a look or two later it rests.
            while asked.count("health") < 2 or known < len(asked):
                known = len(asked)
                await asyncio.sleep(0.2)
        asked.clear()
        engine.tokens = OwnTokens((one, two), optional=False)
        node.delivery.on_effect(TokensChanged())
        await asyncio.sleep(0.3)
        assert await held() == {one}
        assert not asked, "not even a look at the mailbox"
        engine.tokens = OwnTokens((one, two, three), optional=False)
        node.delivery.on_effect(TokensChanged())
        await asyncio.sleep(0.1)
    assert await held() == {one, two, three}


async def test_how_long_a_token_may_wait() -> None:
    """What is taken away is told at once, and what somebody needs within seconds."""
    card, group, contact = (token_hash(os.urandom(32)) for _ in range(3))
    limits = DeliveryLimits()
    own = OwnTokens((card,), optional=True)

    async def ask(command: object) -> OwnTokens:
        return own

    class Client:
        async def set_delivery_tokens(self, tokens: OwnTokens) -> None:
            pass

    async def waits(tokens: OwnTokens) -> float:
        nonlocal own
        longest = 0.0
        loop = asyncio.get_running_loop()
        for _ in range(50):
            news = TokenNews(cast(Ask, ask), limits, lambda: None)
            own = OwnTokens((card,), optional=tokens.optional)
            news.connected()
            await news.tell(cast(RelayClient, Client()))
            own = tokens
            await news.changed()
            assert news._due_at is not None
            longest = max(longest, news._due_at - loop.time())
        return longest

    assert await waits(OwnTokens((), optional=True)) <= 0.0, "revoked"
    needed = frozenset([group])
    assert 5.0 < await waits(OwnTokens((card, group), False, needed)) <= limits.tokens_needed_s
    for tokens in (
        OwnTokens((card, group), True, needed),
        OwnTokens((card, contact), False, needed),
    ):
        assert limits.tokens_needed_s < await waits(tokens) <= limits.tokens_spread_s


async def test_a_sender_tries_its_tokens_in_turn_and_remembers_which_worked(
    nodes: FakeNodes, relays: Relays
) -> None:
    """One was rotated, or the contact was blocked and not the group: another one may open it."""
    relay = await relays()
    a, away = await nodes(), (await nodes()).engine
    old, good = os.urandom(32), os.urandom(32)
    await relay.store.delivery_tokens.set(away.key, [token_hash(good)], optional=False, now=0)
    a.knows(away, relays=[str(relay.address)])
    [outcome] = await a.outcomes(a.post(away))
    assert outcome.reason == TOKEN_REFUSED
    a.engine.known[away.key] = dataclasses.replace(a.engine.known[away.key], tokens=(old, good))
    for _ in range(2):
        [outcome] = await a.outcomes(a.post(away))
        assert outcome.held is not None
    assert relay.desk.refusals[TOKEN_REFUSED] == 2, "the second parcel came with the good one first"
