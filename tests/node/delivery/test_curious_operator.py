"""A relay's operator who is curious: all that the relay stored, logged and counted, and more.

Two groups talk at the same time while their readers are away. The operator here is a strong one: it
watches the running relay, too, and writes down each call with the key of its connection and its
time, and each parcel with its delivery token and size. It tries to name who sent, and to tell which
recipients are in one group. Meetings name both sides: that is what they cost. Addresses are left
out: here all are loopback, and they are what a real operator does see
(docs/operations/what-a-relay-sees.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mls_rs
import pytest

from identity.envelope import OVERHEAD
from node.engine import commands as c
from node.engine.values import SentView
from node.node import Node
from relay.call import Line
from relay.rpc import CallDesk
from relay.store.delivery_tokens import ANYBODY, Bringer
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Refused
from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.limits import PARCEL_SIZE_CLASSES, PARCEL_SIZE_STEP
from schemas.node_service import Enqueued, EnqueueItem
from tests.node.delivery.real import DONE, Person, befriend, joined, ledger
from tests.node.delivery.support import Relays

MESSAGES = 3
TOGETHER_S = 0.25  # what one message for several leaves within, unless it is spread
SAME_MOMENT_S = 0.03  # what is asked of several for one reason comes within, unless it is spread


@dataclass(frozen=True)
class Seen:
    """One parcel, as it came."""

    at: float
    by: DeviceKey | None
    recipient: DeviceKey
    token: bytes
    size: int


@dataclass(frozen=True)
class Called:
    """Any call, as it came."""

    at: float
    method: str
    by: DeviceKey | None
    about: DeviceKey | None  # whom the caller wants to meet


@dataclass
class Story:
    """What happened (the operator does not know it), and what the operator has."""

    groups: list[frozenset[DeviceKey]]  # readers of each
    readers: list[tuple[DeviceKey, IdentityKey]]
    senders: list[tuple[DeviceKey, IdentityKey]]
    seen: list[Seen]
    called: list[Called]
    stored: dict[str, list[tuple[object, ...]]]
    logged: list[str]
    refused: dict[str, int]


async def _who(node: Node) -> tuple[DeviceKey, IdentityKey]:
    me = await node.ask(c.WhoAmI())
    return me.device, me.identity


async def _gather(
    sender: Node, readers: list[Person], relay: str
) -> tuple[GroupId, list[tuple[DeviceKey, IdentityKey]]]:
    """A group of the sender and these readers, who go away again."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(each.running(relay)) for each in readers]
        people = [await _who(node) for node in nodes]
        for node in nodes:
            await befriend(sender, node)
        group = (await sender.ask(c.CreateGroup("tea", mls_rs.CLASSIC))).group
        await sender.invite(group, [identity for _, identity in people])
        for node in nodes:
            await joined(node, group)
        first = await sender.ask(c.Send(group, "before"))
        await ledger(sender, first, DONE)
    return group, people


def _database(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()
            for (name,) in tables.fetchall()
        }


@pytest.fixture
async def story(
    tmp_path: Path,
    relays: Relays,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Story]:
    seen: list[Seen] = []
    called: list[Called] = []
    answered = CallDesk.answer

    async def tap(self: CallDesk, method: str, line: Line, context: Any) -> None:
        about = None
        if method == "rendezvous":
            about = DeviceKey(bytes(context.params.peerKey))
        called.append(Called(time.monotonic(), method, line.caller.device, about))
        await answered(self, method, line, context)

    original = SqliteStore.enqueue

    async def watch(
        self: SqliteStore, items: Sequence[EnqueueItem], *, now: int, by: Bringer = ANYBODY
    ) -> list[Enqueued | Refused]:
        at = time.monotonic()
        outcomes = await original(self, items, now=now, by=by)
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Enqueued):
                seen.append(Seen(at, by.device, item.recipient, item.token, len(item.sealed)))
        return outcomes

    monkeypatch.setattr(CallDesk, "answer", tap)
    relay = await relays()
    async with AsyncExitStack() as stack:
        authors = [Person(tmp_path, name) for name in ("ada", "eve")]
        readers = [[Person(tmp_path, f"{name}{n}") for n in range(3)] for name in ("bob", "fay")]
        address = str(relay.address)
        senders = [await stack.enter_async_context(each.running(address)) for each in authors]
        talks = [
            await _gather(sender, each, address)
            for sender, each in zip(senders, readers, strict=True)
        ]
        monkeypatch.setattr(SqliteStore, "enqueue", watch)
        with caplog.at_level(logging.DEBUG):
            sent: list[tuple[Node, SentView]] = []
            for n in range(MESSAGES):  # the groups talk in turns: each while the other's leave
                for node, (group, _) in zip(senders, talks, strict=True):
                    sent.append((node, await node.ask(c.Send(group, "x" * (1 + 90 * n)))))
                    await asyncio.sleep(0.4)
            for node, message in sent:
                await ledger(node, message, ["held"])
        logged = [
            record.getMessage() for record in caplog.records if record.name.startswith("relay")
        ]
        yield Story(
            [frozenset(device for device, _ in people) for _, people in talks],
            [person for _, people in talks for person in people],
            [await _who(node) for node in senders],
            seen,
            called,
            _database(relays.folder / "relay" / "relay.db"),
            logged,
            dict(relay.desk.refusals),
        )


def _parcels(story: Story) -> list[Seen]:
    """Those for the readers who are away; enough of them for what is asserted."""
    away = {device for device, _ in story.readers}
    found = [each for each in story.seen if each.recipient in away]
    assert len(found) >= MESSAGES * len(away), "the story was not told by relay"
    return found


async def test_an_operator_names_no_sender_and_groups_no_recipients(story: Story) -> None:
    """One story for all attempts: it takes its time."""
    parcels = _parcels(story)
    _no_sender_by_key(story, parcels)
    _no_sender_in_what_is_stored(story)
    _nobody_in_the_log(story)
    _no_group_by_connection_or_token(parcels)
    _no_group_by_size(parcels)
    _no_group_by_time(story, parcels)
    _no_group_by_calls(story, parcels)


def _no_sender_by_key(story: Story, parcels: list[Seen]) -> None:
    known = {device for device, _ in (*story.readers, *story.senders)}
    assert not {each.by for each in parcels} & known, "brought over somebody's own connection"


def _no_sender_in_what_is_stored(story: Story) -> None:
    """What is kept of mail holds the mailbox's owner and no other key, nor any token."""
    published = {"bundles", "endpoints", "hybrid_keys", "key_packages", "relay_statements"}
    of_mail = {name: rows for name, rows in story.stored.items() if name not in published}
    assert of_mail["parcels"], "the operator looks at the right file"
    text = repr(of_mail["parcels"]).encode() + b"".join(
        value
        for name in ("parcels", "delivery_tokens", "damaged")
        for row in of_mail[name]
        for value in row
        if isinstance(value, bytes)
    )
    for device, identity in story.senders:
        assert bytes(identity) not in text
        assert not [row for row in of_mail["delivery_tokens"] if bytes(identity) in row]
        held_by_others = [
            row for row in of_mail["parcels"] if any(bytes(device) == value for value in row)
        ]
        assert not held_by_others
    keys = {bytes(each.by) for each in story.seen if each.by is not None}
    everything = {value for rows in of_mail.values() for row in rows for value in row}
    assert not keys & everything, "a connection's key was kept"
    assert not {each.token for each in story.seen if each.token} & everything, "a token was kept"


def _nobody_in_the_log(story: Story) -> None:
    """Not even at the level debug: a sender beside a recipient, or a key in full."""
    log = "\n".join(story.logged)
    for key in {key for person in (*story.readers, *story.senders) for key in person}:
        assert key.hex() not in log
    bringers = {each.by.hex()[:12] for each in story.seen if each.by is not None}
    mailboxes = {device.hex()[:12] for device, _ in story.readers}
    for line in story.logged:
        found = [key for key in bringers | mailboxes if key in line]
        assert len(found) < 2, line
    assert not [line for line in story.refused if line.startswith("delivery-token")]


def _no_group_by_connection_or_token(parcels: list[Seen]) -> None:
    """Each connection, and each token, is seen at one mailbox."""
    assert all(each.token for each in parcels)
    for what in ("by", "token"):
        mailboxes = defaultdict(set)
        for each in parcels:
            mailboxes[getattr(each, what)].add(each.recipient)
        assert {len(each) for each in mailboxes.values()} == {1}, f"two mailboxes by {what}"


def _no_group_by_size(parcels: list[Seen]) -> None:
    """A size says no more than a class, and both groups have the same ones."""
    classes = {OVERHEAD + size for size in PARCEL_SIZE_CLASSES}
    for each in parcels:
        assert each.size in classes or (each.size - OVERHEAD) % PARCEL_SIZE_STEP == 0


def _no_group_by_time(story: Story, parcels: list[Seen]) -> None:
    """Mail for two mailboxes that comes in the same moment is for one group: how often is that
    seen of those who are in one, and how often is it right?"""
    rounds: dict[DeviceKey, list[float]] = defaultdict(list)
    for each in parcels:
        rounds[each.recipient].append(each.at)
    right = wrong = chances = 0
    for (one, ones), (other, others) in itertools.combinations(rounds.items(), 2):
        near = sum(any(abs(a - b) < TOGETHER_S for b in others) for a in ones)
        if _together(story, one, other):
            chances += len(ones)
            right += near
        else:
            wrong += near
    assert right < 0.7 * chances, f"{right} of {chances} seen together ({wrong} wrong)"


def _no_group_by_calls(story: Story, parcels: list[Seen]) -> None:
    """Calls of one kind about two people in the same moment, were it once, show that they are in
    one group. Whom a call is about is told by the connection, which brings parcels sooner or later,
    or by who is to be met."""
    recipient = {each.by: each.recipient for each in parcels}
    readers = {device for device, _ in story.readers}
    moments: dict[str, dict[DeviceKey, list[float]]] = defaultdict(lambda: defaultdict(list))
    for call in story.called:
        about = call.about or recipient.get(call.by)
        if about in readers:
            moments[call.method][about].append(call.at)
    of_all = [method for method, rounds in moments.items() if rounds.keys() == readers]
    expected = {"relayStatement", "resolveEndpoint", "rendezvous", "batchEnqueue", "health"}
    assert expected <= set(of_all), "the operator sees every call"
    for method in of_all:
        seen = [
            _together(story, one, other)
            for (one, ones), (other, others) in itertools.combinations(moments[method].items(), 2)
            if any(abs(a - b) < SAME_MOMENT_S for a, b in itertools.product(ones, others))
        ]
        pairs = sum(_together(story, *two) for two in itertools.combinations(readers, 2))
        right, wrong = seen.count(True), seen.count(False)
        assert right < 0.7 * pairs, f"{method}: {right} of {pairs} found ({wrong} wrong)"


def _together(story: Story, one: DeviceKey, other: DeviceKey) -> bool:
    return any(one in group and other in group for group in story.groups)
