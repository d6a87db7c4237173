"""The promises of a RelayStore about mail, key packages and the directory."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from relay.refusals import TryLater
from relay.store.contract import (
    LAST_RESORT_SUITES,
    REQUEST_MEMORY_S,
    SWEEP_ROWS,
    TAKEN_MEMORY_S,
    MailboxName,
    Quotas,
    RelayStore,
    StoredHybridKey,
)
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey, IdentityKey, ParcelId
from schemas.node_service import Enqueued, EnqueueItem, Mailbox
from schemas.records import Signed
from tests.relay.store.stores import Opener
from tests.relay.support import DAY, NOW, SUITE, parcel


async def put(store: RelayStore, *items: EnqueueItem, now: int = NOW) -> list[Enqueued]:
    outcomes = await store.enqueue(items, now=now)
    assert all(isinstance(outcome, Enqueued) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Enqueued)]


async def look(
    store: RelayStore,
    recipient: DeviceKey,
    *,
    channel: bytes = b"",
    after: int = 0,
    limit: int = 1000,
    max_bytes: int = 2**20,
    now: int = NOW,
) -> Mailbox:
    name = MailboxName(recipient, channel)
    return await store.peek(name, after=after, limit=limit, max_bytes=max_bytes, now=now)


# Mailboxes


async def test_what_was_accepted_is_read_in_order_and_stays_until_acknowledged(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen()
    sent = [parcel(bob) for _ in range(5)]
    numbers = [outcome.sequence for outcome in await put(store, *sent)]
    assert numbers == [1, 2, 3, 4, 5]
    for _ in range(2):  # reading takes nothing away, nor does a restart
        mailbox = await look(store, bob)
        assert [(p.sequence, p.id, p.sealed) for p in mailbox.parcels] == [
            (number, item.id, item.sealed) for number, item in zip(numbers, sent, strict=True)
        ]
        assert (mailbox.lowest, mailbox.highest) == (1, 5)
        store = await reopen()
    assert await store.acknowledge(MailboxName(bob), [1, 2, 4]) == 3
    assert await store.acknowledge(MailboxName(bob), [1, 2, 4]) == 0
    store = await reopen()
    mailbox = await look(store, bob)
    assert [p.sequence for p in mailbox.parcels] == [3, 5]
    assert (mailbox.lowest, mailbox.highest) == (3, 5)


async def test_numbers_never_go_back_after_acknowledgement_and_restart(
    reopen: Opener, bob: DeviceKey
) -> None:
    seen: list[int] = []
    for _ in range(4):
        store = await reopen()
        seen += [outcome.sequence for outcome in await put(store, parcel(bob), parcel(bob))]
        await store.acknowledge(MailboxName(bob), seen)
        assert await look(store, bob) == Mailbox((), 0, 0)
    assert seen == sorted(set(seen))


async def test_numbers_never_go_back_after_expiry_and_sweep(
    store: RelayStore, bob: DeviceKey
) -> None:
    [before] = await put(store, parcel(bob, expires=NOW + 1))
    assert await store.sweep(now=NOW + 1) == 2  # the parcel, and the mailbox nobody ever opened
    [after] = await put(store, parcel(bob), now=NOW + 1)
    assert after.sequence > before.sequence


async def test_a_repeated_parcel_has_its_first_number(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen()
    item = parcel(bob)
    [first] = await put(store, item)
    resealed = parcel(bob, id=item.id)  # a retry is sealed anew, under the same id
    store = await reopen()
    assert await put(store, resealed, item) == [first, first]
    assert [p.sealed for p in (await look(store, bob)).parcels] == [item.sealed]
    state = await store.mailbox_state(MailboxName(bob))
    assert (state.parcels, state.bytes) == (1, len(item.sealed))


async def test_a_repeated_parcel_within_one_batch_is_kept_once(
    store: RelayStore, bob: DeviceKey
) -> None:
    item = parcel(bob)
    first, second = await put(store, item, item)
    assert first == second
    assert len((await look(store, bob)).parcels) == 1


async def test_one_id_in_two_mailboxes_is_two_parcels(store: RelayStore, bob: DeviceKey) -> None:
    carol, same = DeviceKey(os.urandom(32)), ParcelId(os.urandom(16))
    await put(store, parcel(bob, id=same), parcel(carol, id=same))
    assert len((await look(store, bob)).parcels) == len((await look(store, carol)).parcels) == 1


async def test_an_expired_parcel_does_not_shut_out_its_repetition(
    store: RelayStore, bob: DeviceKey
) -> None:
    same = ParcelId(os.urandom(16))
    [first] = await put(store, parcel(bob, id=same, expires=NOW + 1))
    [second] = await put(store, parcel(bob, id=same), now=NOW + 1)
    assert second.sequence > first.sequence
    mailbox = await look(store, bob, now=NOW + 1)
    assert [p.sequence for p in mailbox.parcels] == [second.sequence]
    assert (await store.mailbox_state(MailboxName(bob))).parcels == 1


async def test_channels_are_mailboxes_of_their_own(store: RelayStore, bob: DeviceKey) -> None:
    channel = os.urandom(16)
    await put(store, parcel(bob), parcel(bob, channel=channel), parcel(bob, channel=channel))
    assert (await look(store, bob)).highest == 1
    assert (await look(store, bob, channel=channel)).highest == 2
    assert await store.acknowledge(MailboxName(bob), [1]) == 1
    assert len((await look(store, bob, channel=channel)).parcels) == 2


async def test_expired_mail_is_not_shown_and_is_swept(store: RelayStore, bob: DeviceKey) -> None:
    await put(store, parcel(bob, expires=NOW + 10), parcel(bob, expires=NOW + 20))
    mailbox = await look(store, bob, now=NOW + 10)
    assert [p.sequence for p in mailbox.parcels] == [2]
    assert (mailbox.lowest, mailbox.highest) == (2, 2)
    assert await store.sweep(now=NOW + 10) == 1
    assert await store.sweep(now=NOW + 10) == 0
    state = await store.mailbox_state(MailboxName(bob))
    assert (state.parcels, state.bytes) == (1, 100)


async def test_a_sweep_is_bounded(store: RelayStore, bob: DeviceKey) -> None:
    await put(store, *(parcel(bob, size=1, expires=NOW + 1) for _ in range(SWEEP_ROWS + 7)))
    assert [await store.sweep(now=NOW + 1) for _ in range(3)] == [SWEEP_ROWS, 7 + 1, 0]
    assert (await store.mailbox_state(MailboxName(bob))).bytes == 0


async def test_a_look_is_bounded_in_number_and_bytes_but_always_gets_on(
    store: RelayStore, bob: DeviceKey
) -> None:
    await put(store, *(parcel(bob, size=1000) for _ in range(10)))
    assert len((await look(store, bob, limit=3)).parcels) == 3
    assert len((await look(store, bob, max_bytes=3500)).parcels) == 3
    one = await look(store, bob, after=4, max_bytes=1)
    assert [p.sequence for p in one.parcels] == [5]
    assert (one.lowest, one.highest) == (1, 10)
    assert (await look(store, bob, after=2**63 - 1)).parcels == ()


@pytest.mark.parametrize(
    "quotas", [Quotas(mailbox_parcels=3), Quotas(mailbox_bytes=350)], ids=["parcels", "bytes"]
)
async def test_a_full_mailbox_says_so_and_leaves_a_marker(
    reopen: Opener, bob: DeviceKey, quotas: Quotas
) -> None:
    store = await reopen(quotas)
    items = [parcel(bob) for _ in range(5)]
    outcomes = await store.enqueue(items, now=NOW)
    assert [isinstance(outcome, Enqueued) for outcome in outcomes] == [True] * 3 + [False] * 2
    refusal = outcomes[-1]
    assert isinstance(refusal, TryLater)
    assert refusal.code == "mailbox-full"
    assert refusal.retry_after_ms > 0
    # What is inside is confirmed again even now, for a sender who missed the answer.
    assert await store.enqueue(items[:1], now=NOW) == outcomes[:1]
    await store.enqueue([parcel(bob)], now=NOW + 5)
    store = await reopen(quotas)
    state = await store.mailbox_state(MailboxName(bob))
    assert (state.parcels, state.bytes, state.refused_since) == (3, 300, NOW)
    # Room comes with an acknowledgement, and somebody else's mailbox never was full.
    await store.acknowledge(MailboxName(bob), [1])
    await put(store, parcel(bob), parcel(DeviceKey(os.urandom(32))))


async def test_expired_mail_makes_room(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen(Quotas(mailbox_parcels=2))
    await put(store, parcel(bob, expires=NOW + 1), parcel(bob))
    await put(store, parcel(bob), now=NOW + 1)
    assert (await store.mailbox_state(MailboxName(bob))).refused_since is None


async def test_concurrent_senders_get_distinct_numbers(store: RelayStore, bob: DeviceKey) -> None:
    outcomes = await asyncio.gather(*(put(store, parcel(bob)) for _ in range(200)))
    assert sorted(outcome.sequence for [outcome] in outcomes) == list(range(1, 201))


async def test_an_unknown_mailbox_is_an_empty_one(store: RelayStore, bob: DeviceKey) -> None:
    assert await look(store, bob) == Mailbox((), 0, 0)
    assert await store.acknowledge(MailboxName(bob), [1]) == 0
    assert (await store.mailbox_state(MailboxName(bob))).next_sequence == 1


# Key packages


def request_id() -> bytes:
    return os.urandom(16)


async def test_a_key_package_is_consumed_exactly_once_under_concurrency_and_restart(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen()
    packages = [b"package %d" % number for number in range(20)]
    for stock, package in enumerate(packages, 1):
        assert await store.put_key_package(bob, SUITE, package, last_resort=False, now=NOW) == stock

    async def take() -> bytes:
        answer = await store.take_key_package(bob, SUITE, request_id(), now=NOW)
        assert answer is not None
        assert not answer.last_resort
        return answer.package

    taken = await asyncio.gather(*(take() for _ in range(10)))
    store = await reopen()
    taken += await asyncio.gather(*(take() for _ in range(10)))
    assert sorted(taken) == sorted(packages)
    assert await store.take_key_package(bob, SUITE, request_id(), now=NOW) is None


async def test_a_repeated_request_has_the_same_answer_across_restart(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen()
    for package in (b"one", b"two", b"three"):
        await store.put_key_package(bob, SUITE, package, last_resort=False, now=NOW)
    request = request_id()
    first = await store.take_key_package(bob, SUITE, request, now=NOW)
    store = await reopen()
    again = await store.take_key_package(bob, SUITE, request, now=NOW + REQUEST_MEMORY_S - 1)
    assert first == again
    assert await store.sweep(now=NOW + REQUEST_MEMORY_S) == 1
    later = await store.take_key_package(bob, SUITE, request, now=NOW + REQUEST_MEMORY_S)
    assert later is not None
    assert first is not None
    assert later.package != first.package


async def test_a_request_forgotten_but_not_yet_swept_is_forgotten(
    store: RelayStore, bob: DeviceKey
) -> None:
    for package in (b"one", b"two"):
        await store.put_key_package(bob, SUITE, package, last_resort=False, now=NOW)
    request = request_id()
    first = await store.take_key_package(bob, SUITE, request, now=NOW)
    later = await store.take_key_package(bob, SUITE, request, now=NOW + REQUEST_MEMORY_S)
    again = await store.take_key_package(bob, SUITE, request, now=NOW + REQUEST_MEMORY_S + 1)
    assert first != later == again


async def test_suites_and_devices_have_stocks_of_their_own(
    store: RelayStore, bob: DeviceKey
) -> None:
    assert await store.put_key_package(bob, 1, b"classic", last_resort=False, now=NOW) == 1
    assert await store.put_key_package(bob, 65100, b"hybrid", last_resort=False, now=NOW) == 1
    assert await store.take_key_package(bob, 7, request_id(), now=NOW) is None
    carol = DeviceKey(os.urandom(32))
    assert await store.take_key_package(carol, 1, request_id(), now=NOW) is None
    answer = await store.take_key_package(bob, 65100, request_id(), now=NOW)
    assert answer is not None
    assert answer.package == b"hybrid"


async def test_the_last_resort_is_shown_when_the_stock_is_empty_and_kept(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen()
    assert await store.put_key_package(bob, SUITE, b"last", last_resort=True, now=NOW) == 0
    assert await store.put_key_package(bob, SUITE, b"stock", last_resort=False, now=NOW) == 1
    requests = [request_id() for _ in range(3)]
    for _ in range(2):
        answers = [await store.take_key_package(bob, SUITE, r, now=NOW) for r in requests]
        shown = [(answer.package, answer.last_resort) for answer in answers if answer]
        assert shown == [(b"stock", False), (b"last", True), (b"last", True)]
        store = await reopen()
        # New stock goes to new requests; those that saw the last resort see it again.
        await store.put_key_package(bob, SUITE, b"more stock", last_resort=False, now=NOW)
    await store.put_key_package(bob, SUITE, b"newer last", last_resort=True, now=NOW)
    answers = [await store.take_key_package(bob, SUITE, request_id(), now=NOW) for _ in range(2)]
    assert [answer.package for answer in answers if answer] == [b"more stock", b"newer last"]


async def test_uploads_are_idempotent_and_never_hand_a_package_out_twice(
    store: RelayStore, bob: DeviceKey
) -> None:
    for _ in range(2):
        assert await store.put_key_package(bob, SUITE, b"one", last_resort=False, now=NOW) == 1
    await store.take_key_package(bob, SUITE, request_id(), now=NOW)
    with pytest.raises(Refused) as raised:
        await store.put_key_package(bob, SUITE, b"one", last_resort=False, now=NOW)
    assert raised.value.code == "key-package-used"
    assert await store.sweep(now=NOW + TAKEN_MEMORY_S) == 2  # the package, and the request


async def test_the_stock_is_capped(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen(Quotas(key_packages=3))
    for number in range(3):
        await store.put_key_package(bob, number % 2, b"%d" % number, last_resort=False, now=NOW)
    with pytest.raises(Refused) as raised:
        await store.put_key_package(bob, SUITE, b"more", last_resort=False, now=NOW)
    assert raised.value.code == "key-packages-full"
    await store.put_key_package(bob, SUITE, b"last", last_resort=True, now=NOW)
    await store.take_key_package(bob, SUITE, request_id(), now=NOW)
    await store.put_key_package(bob, SUITE, b"more", last_resort=False, now=NOW)


async def test_last_resorts_are_of_few_suites(store: RelayStore, bob: DeviceKey) -> None:
    for suite in range(LAST_RESORT_SUITES):
        await store.put_key_package(bob, suite, b"%d" % suite, last_resort=True, now=NOW)
    with pytest.raises(Refused) as raised:
        await store.put_key_package(bob, 99, b"99", last_resort=True, now=NOW)
    assert raised.value.code == "too-many-suites"
    await store.put_key_package(bob, 0, b"replaced", last_resort=True, now=NOW)


# The directory


async def test_hybrid_keys_are_replaced(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen()
    old, new = StoredHybridKey(b"old", b"signed"), StoredHybridKey(b"new", b"signed")
    await store.put_hybrid_key(bob, old, now=NOW)
    await store.put_hybrid_key(bob, new, now=NOW)
    store = await reopen()
    stranger = DeviceKey(os.urandom(32))
    assert await store.hybrid_keys([stranger, bob, bob]) == [None, new, new]


def signed(content: bytes) -> Signed:
    return Signed(content, os.urandom(32), hashlib.sha512(content).digest())


async def test_the_newest_bundle_wins(reopen: Opener, bob: DeviceKey) -> None:
    store, ann = await reopen(), IdentityKey(os.urandom(32))
    assert await store.bundle(ann) is None
    first, second = signed(b"1"), signed(b"2")
    await store.put_bundle(ann, 1, first, by=bob, now=NOW)
    await store.put_bundle(ann, 2, second, by=bob, now=NOW)
    await store.put_bundle(ann, 2, second, by=bob, now=NOW)
    for number, other in ((1, first), (2, signed(b"another 2"))):
        with pytest.raises(Refused) as raised:
            await store.put_bundle(ann, number, other, by=bob, now=NOW)
        assert raised.value.code == "stale"
    assert await (await reopen()).bundle(ann) == second


async def test_the_newest_endpoint_wins_until_it_expires(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen()
    first, second = signed(b"1"), signed(b"2")
    await store.put_endpoint(bob, 1, NOW + 2 * DAY, first, now=NOW)
    await store.put_endpoint(bob, 5, NOW + DAY, second, now=NOW)
    with pytest.raises(Refused) as raised:
        await store.put_endpoint(bob, 4, NOW + 2 * DAY, first, now=NOW)
    assert raised.value.code == "stale"
    store = await reopen()
    assert await store.endpoint(bob, now=NOW + DAY - 1) == second
    assert await store.endpoint(bob, now=NOW + DAY) is None
    assert await store.sweep(now=NOW + DAY) == 1


async def test_a_closed_store_says_so(store: RelayStore, bob: DeviceKey) -> None:
    await store.close()
    for work in (store.enqueue([parcel(bob)], now=NOW), look(store, bob)):
        with pytest.raises(Fault) as raised:
            await work
        assert raised.value.code == "store-closed"
