"""Accounts, devices, sessions and invites, as every store keeps them."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from relay.store.accounts import (
    REVOKED_PER_ACCOUNT,
    SESSIONS_PER_ACCOUNT,
    Account,
    Standing,
    about_account,
)
from relay.store.contract import RelayStore
from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey
from tests.relay.support import DAY, NOW

MOST = 8


def device() -> DeviceKey:
    return DeviceKey(os.urandom(32))


def account(name: str) -> Account:
    return Account(name, IdentityKey(os.urandom(32)), b"\1" + os.urandom(192))


def token() -> bytes:
    return hashlib.sha256(os.urandom(32)).digest()


async def register(
    store: RelayStore,
    name: str,
    first: DeviceKey | None = None,
    *,
    invite: bytes | None = None,
    most: int = 100,
    now: int = NOW,
) -> Account:
    made = account(name)
    first = device() if first is None else first
    await store.accounts.register(made, first, "laptop", invite=invite, most=most, now=now)
    return made


async def refusal(work: object) -> str:
    with pytest.raises(Refused) as raised:
        await work  # type: ignore[misc] # any awaitable
    return raised.value.code


async def events(store: RelayStore) -> list[tuple[str, str | None]]:
    return [(row.event, row.subject) for row in await store.audit.rows(limit=1000)]


async def test_the_set_up_is_made_once(store: RelayStore) -> None:
    kept = await asyncio.gather(
        *(store.accounts.server_setup(bytes([number]) * 129) for number in range(4))
    )
    assert len(set(kept)) == 1
    assert await store.accounts.server_setup(b"another") == kept[0]


async def test_an_account_is_found_by_its_name_and_its_device(store: RelayStore) -> None:
    laptop = device()
    ann = await register(store, "ann", laptop)
    assert await store.accounts.account("ann") == ann
    assert await store.accounts.owner("ann") == ann.identity
    assert await store.accounts.account("bob") is None
    assert await store.accounts.owner("bob") is None
    assert await store.accounts.standing(laptop) == Standing(ann.identity, revoked=False)
    assert await store.accounts.standing(device()) is None
    [entry] = await store.accounts.devices(ann.identity)
    assert (entry.device, entry.name, entry.registered) == (laptop, "laptop", NOW)
    assert await events(store) == [
        ("account-made", "account:ann"),
        ("device-registered", about_account("ann", laptop)),
    ]


async def test_names_identities_and_devices_are_taken_once(store: RelayStore) -> None:
    laptop = device()
    ann = await register(store, "ann", laptop)
    before = await events(store)

    async def again(name: str, identity: IdentityKey, by: DeviceKey) -> str:
        work = store.accounts.register(
            Account(name, identity, b"\1"), by, "x", invite=None, most=100, now=NOW
        )
        return await refusal(work)

    assert await again("ann", IdentityKey(os.urandom(32)), device()) == "name-taken"
    assert await again("bob", ann.identity, device()) == "identity-taken"
    assert await again("bob", IdentityKey(os.urandom(32)), laptop) == "device-taken"
    assert await store.accounts.account("ann") == ann, "nobody takes an account over"
    assert await store.accounts.account("bob") is None
    assert await events(store) == before
    assert await refusal(register(store, "bob", most=1)) == "accounts-full"


async def test_one_of_many_at_once_gets_a_name(store: RelayStore) -> None:
    outcomes = await asyncio.gather(
        *(register(store, "ann") for _ in range(20)), return_exceptions=True
    )
    made = [each for each in outcomes if isinstance(each, Account)]
    assert len(made) == 1
    assert await store.accounts.account("ann") == made[0]
    assert (await store.accounts.counts(now=NOW)).accounts == 1
    assert (await store.accounts.counts(now=NOW)).devices == 1


# Sessions


async def test_a_device_has_one_session(store: RelayStore) -> None:
    ann, laptop = await register(store, "ann"), device()
    first, second = token(), token()
    for each in (first, second):
        assert await store.accounts.start_session(ann, laptop, each, issued=NOW, expires=NOW + DAY)
    session = await store.accounts.session(laptop)
    assert session is not None
    assert (session.name, session.identity, session.token) == ("ann", ann.identity, second)
    assert (session.issued, session.expires) == (NOW, NOW + DAY)
    assert await store.accounts.session(device()) is None
    await store.accounts.end_session(laptop)
    assert await store.accounts.session(laptop) is None


async def test_the_oldest_session_of_an_account_ends(store: RelayStore) -> None:
    ann = await register(store, "ann")
    devices = [device() for _ in range(SESSIONS_PER_ACCOUNT + 2)]
    for number, each in enumerate(devices):
        issued = NOW + number
        assert await store.accounts.start_session(
            ann, each, token(), issued=issued, expires=issued + DAY
        )
    kept = [await store.accounts.session(each) is not None for each in devices]
    assert kept == [False, False] + [True] * SESSIONS_PER_ACCOUNT


async def test_a_login_to_an_account_that_is_gone_starts_nothing(store: RelayStore) -> None:
    ann = await register(store, "ann")
    await store.accounts.delete(ann.identity, now=NOW)
    laptop = device()

    async def start(account: Account) -> bool:
        return await store.accounts.start_session(
            account, laptop, token(), issued=NOW, expires=NOW + DAY
        )

    assert not await start(ann)
    again = Account("ann", ann.identity, b"\1" + os.urandom(192))
    await store.accounts.register(again, device(), "x", invite=None, most=9, now=NOW)
    assert not await start(ann), "the account has another password now"
    assert await start(again)


async def test_what_has_expired_is_swept(store: RelayStore) -> None:
    ann, laptop = await register(store, "ann"), device()
    await store.accounts.start_session(ann, laptop, token(), issued=NOW, expires=NOW + DAY)
    await store.accounts.make_invite(token(), uses=1, expires=NOW + DAY, now=NOW)
    assert (await store.accounts.counts(now=NOW)).sessions == 1
    assert (await store.accounts.counts(now=NOW)).invites == 1
    assert (await store.accounts.counts(now=NOW + DAY)).sessions == 0
    await store.sweep(now=NOW + DAY - 1)
    assert await store.accounts.session(laptop) is not None
    await store.sweep(now=NOW + DAY)
    assert await store.accounts.session(laptop) is None
    assert len(await store.accounts.invites()) == 1, "the operator still sees who came by it"
    await store.sweep(now=NOW + 32 * DAY)
    assert await store.accounts.invites() == []


# Devices


async def test_devices_come_and_go(store: RelayStore) -> None:
    laptop, phone = device(), device()
    ann = await register(store, "ann", laptop)
    bob = await register(store, "bob")
    await store.accounts.add_device(ann.identity, phone, "phone", most=MOST, now=NOW + 1)
    await store.accounts.add_device(ann.identity, phone, "mobile", most=MOST, now=NOW + 2)
    names = [(each.device, each.name) for each in await store.accounts.devices(ann.identity)]
    assert names == [(laptop, "laptop"), (phone, "mobile")]
    work = store.accounts.add_device(bob.identity, phone, "mine now", most=MOST, now=NOW)
    assert await refusal(work) == "device-taken"
    work = store.accounts.add_device(ann.identity, device(), "x", most=2, now=NOW)
    assert await refusal(work) == "too-many-devices"
    nobody = IdentityKey(bytes(32))
    work = store.accounts.add_device(nobody, device(), "x", most=2, now=NOW)
    assert await refusal(work) == "no-account"
    assert await store.accounts.registered([laptop, phone, device()]) == {laptop, phone}


async def test_a_revoked_device_stays_out_until_its_owner_brings_it_back(
    store: RelayStore,
) -> None:
    laptop, phone = device(), device()
    ann = await register(store, "ann", laptop)
    bob = await register(store, "bob")
    await store.accounts.add_device(ann.identity, phone, "phone", most=MOST, now=NOW)
    await store.accounts.start_session(ann, phone, token(), issued=NOW, expires=NOW + DAY)
    revoke = store.accounts.revoke_device
    assert not await revoke(bob.identity, phone, now=NOW), "somebody else's"
    assert await revoke(ann.identity, phone, now=NOW)
    assert not await revoke(ann.identity, phone, now=NOW)
    assert await store.accounts.standing(phone) == Standing(ann.identity, revoked=True)
    assert await store.accounts.session(phone) is None
    assert await store.accounts.registered([laptop, phone]) == {laptop}
    assert [each.device for each in await store.accounts.devices(ann.identity)] == [laptop]
    for work in (
        store.accounts.add_device(bob.identity, phone, "x", most=MOST, now=NOW),
        register(store, "thief", phone),
    ):
        assert await refusal(work) == "device-taken"
    await store.accounts.add_device(ann.identity, phone, "found again", most=MOST, now=NOW + 5)
    assert await store.accounts.standing(phone) == Standing(ann.identity, revoked=False)
    assert ("device-revoked", about_account("ann", phone)) in await events(store)


async def test_revoked_devices_are_remembered_up_to_a_number(store: RelayStore) -> None:
    ann = await register(store, "ann")
    devices = [device() for _ in range(REVOKED_PER_ACCOUNT + 1)]
    for number, each in enumerate(devices):
        await store.accounts.add_device(ann.identity, each, "x", most=MOST, now=NOW)
        await store.accounts.revoke_device(ann.identity, each, now=NOW + number)
    assert await store.accounts.standing(devices[0]) is None
    assert await store.accounts.standing(devices[1]) is not None


async def test_a_deleted_account_is_nobody(store: RelayStore) -> None:
    laptop, phone = device(), device()
    ann = await register(store, "ann", laptop)
    anna = await register(store, "anna")
    await store.accounts.add_device(ann.identity, phone, "phone", most=MOST, now=NOW)
    await store.accounts.revoke_device(ann.identity, phone, now=NOW)
    await store.accounts.start_session(ann, laptop, token(), issued=NOW, expires=NOW + DAY)
    assert set(await store.accounts.delete(ann.identity, now=NOW)) == {laptop, phone}
    assert await store.accounts.account("ann") is None
    assert await store.accounts.session(laptop) is None
    assert await store.accounts.standing(laptop) is await store.accounts.standing(phone) is None
    assert await refusal(store.accounts.delete(ann.identity, now=NOW)) == "no-account"
    subjects = [subject for _, subject in await events(store) if subject is not None]
    assert subjects
    assert all(subject.startswith("account:anna") for subject in subjects), "erased, and only hers"
    assert await store.accounts.account("anna") == anna
    await register(store, "ann", laptop)


# Invites


async def test_an_invite_makes_as_many_accounts_as_it_says(store: RelayStore) -> None:
    invite = token()
    made = await store.accounts.make_invite(invite, uses=2, expires=NOW + DAY, now=NOW)
    assert made.id == invite.hex()[:8]
    assert await store.accounts.invite_holds(invite, now=NOW)
    for name in ("ann", "bob"):
        await register(store, name, invite=invite)
    assert not await store.accounts.invite_holds(invite, now=NOW)
    assert await refusal(register(store, "eve", invite=invite)) == "bad-invite"
    assert await store.accounts.account("eve") is None
    [held] = await store.accounts.invites()
    assert (held.uses, held.used, set(held.names)) == (2, 2, {"ann", "bob"})


async def test_an_invite_is_used_once_by_many_at_once(store: RelayStore) -> None:
    invite = token()
    await store.accounts.make_invite(invite, uses=1, expires=NOW + DAY, now=NOW)
    names = [f"name{number}" for number in range(20)]
    outcomes = await asyncio.gather(
        *(register(store, name, invite=invite) for name in names), return_exceptions=True
    )
    assert sum(isinstance(each, Account) for each in outcomes) == 1
    assert (await store.accounts.counts(now=NOW)).accounts == 1


async def test_a_refused_registration_uses_no_invite_up(store: RelayStore) -> None:
    await register(store, "ann")
    invite = token()
    await store.accounts.make_invite(invite, uses=1, expires=NOW + DAY, now=NOW)
    assert await refusal(register(store, "ann", invite=invite)) == "name-taken"
    assert await store.accounts.invite_holds(invite, now=NOW)
    await register(store, "bob", invite=invite)


async def test_invites_that_do_not_hold(store: RelayStore) -> None:
    expired, revoked, never = token(), token(), token()
    for each in (expired, revoked):
        await store.accounts.make_invite(each, uses=9, expires=NOW + DAY, now=NOW)
    assert await store.accounts.revoke_invite(revoked.hex()[:8], now=NOW)
    assert not await store.accounts.revoke_invite(revoked.hex()[:8], now=NOW)
    assert not await store.accounts.revoke_invite("%", now=NOW)
    for invite, now in ((expired, NOW + DAY), (revoked, NOW), (never, NOW)):
        assert not await store.accounts.invite_holds(invite, now=now)
        assert await refusal(register(store, "ann", invite=invite, now=now)) == "bad-invite"
    told = await events(store)
    assert [event for event, _ in told] == ["invite-made", "invite-made", "invite-revoked"]
    assert all(invite.hex() not in str(told) for invite in (expired, revoked))


async def test_an_operator_sees_all_accounts_and_ends_them_by_a_word_of_their_own(
    store: RelayStore,
) -> None:
    laptop, phone = device(), device()
    invite = token()
    made = await store.accounts.make_invite(invite, uses=1, expires=NOW + DAY, now=NOW)
    ann = await register(store, "ann", laptop, invite=invite, now=NOW + 1)
    bob = await register(store, "bob", now=NOW)
    await store.accounts.add_device(ann.identity, phone, "phone", most=MOST, now=NOW + 2)
    for issued in (NOW + 3, NOW + 5):
        await store.accounts.start_session(ann, phone, token(), issued=issued, expires=NOW + DAY)
    first, second = await store.accounts.entries()
    assert (first.name, first.identity, first.logged_in, first.invite) == (
        "bob", bob.identity, None, None,
    )  # fmt: skip
    assert (second.name, second.made, second.logged_in, second.invite) == (
        "ann", NOW + 1, NOW + 5, made.id,
    )  # fmt: skip
    assert [(each.device, each.name) for each in second.devices] == [
        (laptop, "laptop"), (phone, "phone"),
    ]  # fmt: skip
    assert await store.accounts.revoke_device(ann.identity, phone, now=NOW, by_operator=True)
    [_, second] = await store.accounts.entries()
    assert [each.device for each in second.devices] == [laptop]
    await store.accounts.delete(bob.identity, now=NOW, by_operator=True)
    assert [each.name for each in await store.accounts.entries()] == ["ann"]
    assert (await events(store))[-2:] == [
        ("device-revoked-by-operator", about_account("ann", phone)),
        ("account-deleted-by-operator", None),
    ]
