"""Delivery tokens in every store: what opens a mailbox, how much of it, and for how long."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from relay.refusals import TryLater
from relay.store.contract import MailboxName, Quotas, RelayStore
from relay.store.delivery_tokens import Bringer, token_hash
from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued, EnqueueItem
from tests.relay.store.stores import Opener
from tests.relay.support import DAY, NOW, parcel

REFUSED, SHARE_USED = "delivery-token-refused", "delivery-token-full"
STRANGER = Bringer(DeviceKey(b"s" * 32))
NOBODY = replace(STRANGER, admitted=False)


@pytest.fixture
def bob() -> DeviceKey:
    return DeviceKey(os.urandom(32))


def token() -> bytes:
    return os.urandom(32)


async def allow(
    store: RelayStore, device: DeviceKey, *tokens: bytes, optional: bool = False
) -> None:
    hashes = [token_hash(each) for each in tokens]
    await store.delivery_tokens.set(device, hashes, optional=optional, now=NOW)


async def bring(store: RelayStore, item: EnqueueItem, by: Bringer = STRANGER) -> str:
    """The code of the refusal, or that it is there."""
    [outcome] = await store.enqueue([item], now=NOW, by=by)
    if isinstance(outcome, Enqueued):
        return "there"
    assert isinstance(outcome, Refused)
    assert isinstance(outcome, TryLater) is (outcome.code == SHARE_USED)
    return outcome.code


def with_token(recipient: DeviceKey, token: bytes, size: int = 100) -> EnqueueItem:
    return replace(parcel(recipient, size=size), token=token)


async def test_a_guarded_mailbox_takes_what_comes_with_a_token_or_from_its_owner(
    store: RelayStore, bob: DeviceKey
) -> None:
    good = token()
    await allow(store, bob, good)
    assert await bring(store, parcel(bob)) == REFUSED
    assert await bring(store, with_token(bob, token())) == REFUSED
    assert await bring(store, with_token(bob, good)) == "there"
    assert await bring(store, parcel(bob), Bringer(bob)) == "there"
    state = await store.mailbox_state(MailboxName(bob))
    assert state.parcels == 2
    assert state.refused_since is None, "it was not full"


async def test_a_token_lets_in_whom_the_relay_does_not_admit(
    store: RelayStore, bob: DeviceKey
) -> None:
    good = token()
    await allow(store, bob, good, optional=True)
    assert await bring(store, with_token(bob, good), NOBODY) == "there"
    assert await bring(store, parcel(bob), STRANGER) == "there", "a token is optional"


async def test_whether_there_is_a_mailbox_shows_in_no_refusal(
    store: RelayStore, bob: DeviceKey
) -> None:
    """Else anybody could ask a closed relay who is a member."""
    unknown, unguarded = DeviceKey(os.urandom(32)), DeviceKey(os.urandom(32))
    await allow(store, bob, token())
    await store.open_mailbox(MailboxName(unguarded), now=NOW)
    for item in (parcel, lambda device: with_token(device, token())):
        outcomes = await store.enqueue(
            [item(device) for device in (bob, unguarded, unknown)], now=NOW, by=NOBODY
        )
        assert all(isinstance(each, Refused) for each in outcomes)
        assert len({(e.code, e.message, e.hint) for e in outcomes if isinstance(e, Refused)}) == 1
    await store.probe(now=NOW)
    assert store.usage.mailboxes == 2, "and none was made for a stranger"


async def test_what_is_not_set_again_is_revoked_at_once_and_the_others_stay(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen()
    ada, mal = token(), token()
    await allow(store, bob, ada, mal)
    await bring(store, with_token(bob, mal))
    await allow(store, bob, ada)
    assert await bring(store, with_token(bob, mal)) == REFUSED
    assert await bring(store, with_token(bob, ada)) == "there"
    store = await reopen()
    assert await store.delivery_tokens.of(bob) == {token_hash(ada)}
    assert await bring(store, with_token(bob, mal)) == REFUSED
    await allow(store, bob, optional=True)
    assert await bring(store, parcel(bob)) == "there", "as before it had tokens"


async def test_a_token_that_leaked_fills_its_share_and_no_more(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen(Quotas(mailbox_parcels=10, token_share=0.5))
    leaked, ada = token(), token()
    await allow(store, bob, leaked, ada)
    outcomes = [await bring(store, with_token(bob, leaked)) for _ in range(7)]
    assert outcomes == ["there"] * 5 + [SHARE_USED] * 2
    assert await bring(store, with_token(bob, ada)) == "there"
    await allow(store, bob, ada, leaked)
    assert await bring(store, with_token(bob, leaked)) == SHARE_USED, "counts outlive a new set"
    state = await store.mailbox_state(MailboxName(bob))
    assert state.refused_since == NOW, "the owner learns that mail was refused"
    assert await store.acknowledge(MailboxName(bob), [1, 2]) == 2
    assert [await bring(store, with_token(bob, leaked)) for _ in range(3)] == [
        "there",
        "there",
        SHARE_USED,
    ]


async def test_a_share_counts_bytes_too_and_expiry_gives_them_back(
    reopen: Opener, bob: DeviceKey
) -> None:
    store = await reopen(Quotas(mailbox_bytes=1_000, token_share=0.5))
    leaked = token()
    await allow(store, bob, leaked)
    assert await bring(store, with_token(bob, leaked, size=500)) == "there"
    assert await bring(store, with_token(bob, leaked, size=1)) == SHARE_USED
    assert await store.sweep(now=NOW + 2 * DAY)
    assert await bring(store, with_token(bob, leaked, size=500)) == "there"


async def test_a_repeated_parcel_counts_once(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen(Quotas(mailbox_parcels=4, token_share=0.5))
    good = token()
    await allow(store, bob, good)
    item = with_token(bob, good)
    assert [await bring(store, item) for _ in range(5)] == ["there"] * 5
    assert await bring(store, with_token(bob, good)) == "there"
    assert await bring(store, with_token(bob, good)) == SHARE_USED


async def test_the_store_keeps_no_token(store: RelayStore, bob: DeviceKey, tmp_path: Path) -> None:
    good = token()
    await allow(store, bob, good)
    await bring(store, with_token(bob, good))
    await store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert token_hash(good) in kept or not kept, "where it is looked for"
    assert good not in kept


async def test_where_tokens_are_optional_a_used_up_share_shuts_nobody_out(
    reopen: Opener, bob: DeviceKey
) -> None:
    """Who may bring parcels without a token may do so with one, uncounted."""
    store = await reopen(Quotas(mailbox_parcels=8, token_share=0.5))
    good = token()
    await allow(store, bob, good, optional=True)
    assert [await bring(store, with_token(bob, good)) for _ in range(6)] == ["there"] * 6
    assert await bring(store, with_token(bob, good), NOBODY) == SHARE_USED
    await allow(store, bob, good)
    assert await bring(store, with_token(bob, good)) == SHARE_USED
    assert await bring(store, with_token(bob, good), Bringer(bob)) == "there", "the owner's own"


async def test_expired_parcels_make_room_in_a_share(reopen: Opener, bob: DeviceKey) -> None:
    store = await reopen(Quotas(mailbox_parcels=8, token_share=0.5))
    good = token()
    await allow(store, bob, good)
    old = [replace(with_token(bob, good), expires=NOW - 1) for _ in range(4)]
    assert [await bring(store, each) for each in old] == ["there"] * 4
    assert await bring(store, with_token(bob, good)) == "there"
    assert (await store.mailbox_state(MailboxName(bob))).refused_since is None
