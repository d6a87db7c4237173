"""Accounts over real QUIC: registration, login, devices, and what each attack gets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.accounts import SESSION_S
from relay.config import RelayConfig
from relay.limits import RelayLimits
from relay.logins import PENDING_S
from relay.metrics import RelayMetrics
from relay.server import Relay, open_relay
from schemas.accounts import framed
from schemas.ids import DeviceKey
from schemas.records import Signed
from tests.relay.people import (
    PASSWORD,
    Person,
    auth,
    begin_login,
    credential,
    login,
    person,
    register,
)
from tests.relay.support import (
    NOW,
    SUITE,
    Client,
    Clock,
    bundle,
    client_of,
    config_for,
    counting_loopback,
    new_device,
    parcel,
    within,
)
from tests.relay.test_subscribe import Sink, subscriber


@pytest.fixture(params=["postgres", "sqlite"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RelayConfig:
    """Of a relay on either store."""
    if request.param == "sqlite":
        return config_for(tmp_path / "relay")
    return shared(tmp_path / "relay", request.getfixturevalue("database_url"))


def shared(folder: Path, url: str) -> RelayConfig:
    return config_for(folder, store_backend="postgres", database_url=url, dht=False)


@pytest.fixture
async def relay(kj: None, clock: Clock, config: RelayConfig) -> AsyncIterator[Relay]:
    async with open_relay(config, clock=clock) as relay:
        yield relay


async def test_a_person_registers_and_logs_in_after_a_restart(
    kj: None, clock: Clock, config: RelayConfig
) -> None:
    ann, laptop = person("Ann"), new_device()
    async with (
        open_relay(config, clock=clock) as relay,
        client_of(relay, laptop) as client,
    ):
        assert await register(client, ann) == ""
        found = await client.call("resolveUser", name="ANN")
        assert bytes(found.identity) == ann.identity.public
        assert await client.code("resolveUser", name="bob") == "not-found"
        assert await client.code("resolveUser", name="a b") == "bad-name"
    async with open_relay(config, clock=clock) as relay, client_of(relay) as phone:
        token = await login(phone, relay.device, ann)
        assert len(token) == 32
        listed = await phone.call("listDevices", auth=auth(phone, token))
        assert [(bytes(d.device), d.name) for d in listed.devices] == [(laptop.public, "laptop")]
        await relay.service.accounts.count()
        counts = relay.service.accounts.counts
        assert (counts.accounts, counts.devices, counts.sessions) == (1, 1, 1)


async def test_a_name_belongs_to_one_identity(relay: Relay) -> None:
    ann, thief = person("ann"), person("ANN")
    async with client_of(relay) as client, client_of(relay) as another:
        assert await register(client, ann) == ""
        assert await register(another, thief) == "name-taken"
        forged = {
            "not hers": credential(ann.identity, client.device.public),
            "no signature": Signed(
                bytes(another.device.public), bytes(ann.identity.public), bytes(64)
            ),
        }
        for what, by in forged.items():
            assert await register(another, person("bob"), by=by) == "bad-credential", what
        assert await register(another, person("bob")) == ""
        assert await register(another, person("eve")) == "device-taken"
        async with client_of(relay) as third:
            assert await register(third, Person("anna", ann.identity)) == "identity-taken"
    found = await relay.store.accounts.owner("ann")
    assert found == ann.identity.public


async def test_registrations_of_one_name_at_once_make_one_account(relay: Relay) -> None:
    people = [person("ann") for _ in range(4)]
    clients = [client_of(relay) for _ in people]
    opened = [await each.__aenter__() for each in clients]
    try:
        codes = await asyncio.gather(
            *(register(client, who) for client, who in zip(opened, people, strict=True))
        )
        assert sorted(codes) == ["", "name-taken", "name-taken", "name-taken"]
    finally:
        for each in clients:
            await each.__aexit__(None, None, None)


@pytest.mark.parametrize("name", ["", "a", "a" * 40, "a b", "ann\u202e", "payp\u0430l"])
async def test_odd_names_are_refused_by_every_method(relay: Relay, name: str) -> None:
    async with client_of(relay) as client:
        methods: dict[str, dict[str, Any]] = {
            "opaqueRegisterStart": {"request": framed(1, bytes(32))},
            "opaqueRegisterFinish": {"upload": framed(1, bytes(192))},
            "opaqueLoginStart": {"request": framed(1, bytes(96))},
            "resolveUser": {},
        }
        for method, fields in methods.items():
            assert await client.code(method, name=name, **fields) == "bad-name", method


async def test_bytes_that_are_no_opaque_are_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        by = credential(person("x").identity, client.device.public)
        for length in (0, 32, 33, 97, 193):
            for data in (bytes(length), b"\xff" * length, (b"\1" + b"\xff" * length)[:length]):
                methods: dict[str, dict[str, Any]] = {
                    "opaqueRegisterStart": {"request": data},
                    "opaqueRegisterFinish": {"upload": data, "credential": by},
                    "opaqueLoginStart": {"request": data},
                }
                for method, fields in methods.items():
                    code = await client.code(method, name="ann", **fields)
                    assert code in ("malformed-request", "unsupported-ksf"), (method, length)
        assert relay.desk.refusals["internal"] == 0
        assert await relay.store.accounts.account("ann") is None
        future = await client.call(
            "opaqueLoginStart", name="ann", request=framed(99, os.urandom(96))
        )
        assert future.error.code == "unsupported-ksf"
        assert future.error.hint


# Login


async def test_login_messages_work_once_and_on_their_own_connection(
    relay: Relay, clock: Clock
) -> None:
    ann = person("ann")
    async with client_of(relay) as client, client_of(relay) as thief:
        assert await register(client, ann) == ""
        halfway = await begin_login(client, relay.device, "ann", PASSWORD)
        finish = {"login": halfway.login, "finalization": halfway.finalization}
        assert await thief.code("opaqueLoginFinish", **finish) == "login-failed"
        assert await client.code("opaqueLoginFinish", **finish) == ""
        assert await client.code("opaqueLoginFinish", **finish) == "login-failed", "replayed"
        forged = await begin_login(client, relay.device, "ann", PASSWORD)
        wrong = {"login": forged.login, "finalization": framed(1, os.urandom(64))}
        assert await client.code("opaqueLoginFinish", **wrong) == "login-failed"
        right = {"login": forged.login, "finalization": forged.finalization}
        assert await client.code("opaqueLoginFinish", **right) == "login-failed", "one try each"
        made_up = {"login": os.urandom(16), "finalization": halfway.finalization}
        assert await client.code("opaqueLoginFinish", **made_up) == "login-failed"


async def test_a_login_for_another_relay_or_device_gets_no_further(relay: Relay) -> None:
    """Whoever passes a login's messages on, between two connections, has nothing."""
    ann = person("ann")
    async with client_of(relay) as client:
        assert await register(client, ann) == ""
        elsewhere = DeviceKey(os.urandom(32))
        assert (await begin_login(client, elsewhere, "ann", PASSWORD)).finalization is None


async def test_half_a_login_is_gone_after_five_minutes(
    kj: None, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = person("ann")
    pending = relay.service.accounts.pending
    async with client_of(relay) as client:
        assert await register(client, ann) == ""
        halfway = await begin_login(client, relay.device, "ann", PASSWORD)
        assert len(pending) == 1
        now = pending._clock()
        monkeypatch.setattr(pending, "_clock", lambda: now + PENDING_S)
        finish = {"login": halfway.login, "finalization": halfway.finalization}
        assert await client.code("opaqueLoginFinish", **finish) == "login-failed"
        assert len(pending) == 0
        assert pending.counters["expired"] == 1


async def test_a_deleted_account_cannot_be_logged_into_any_more(relay: Relay) -> None:
    ann = person("ann")
    async with client_of(relay) as client, client_of(relay) as phone:
        assert await register(client, ann) == ""
        token = await login(client, relay.device, ann)
        halfway = await begin_login(phone, relay.device, "ann", PASSWORD)
        assert await client.code("deleteAccount", auth=auth(client, token)) == ""
        finish = {"login": halfway.login, "finalization": halfway.finalization}
        assert await phone.code("opaqueLoginFinish", **finish) == "login-failed"


# Sessions


async def test_tokens_that_are_forged_replayed_or_expired_open_nothing(
    relay: Relay, clock: Clock
) -> None:
    ann, eve = person("ann"), person("eve")
    async with client_of(relay) as client, client_of(relay) as thief:
        assert await register(client, ann) == ""
        assert await register(thief, eve) == ""
        token = await login(client, relay.device, ann)
        own = await login(thief, relay.device, eve)
        for tried in (b"", bytes(32), os.urandom(32), token[:-1], token + b"x"):
            assert await client.code("listDevices", auth=auth(client, tried)) == "not-logged-in"
        assert await thief.code("listDevices", auth=auth(thief, token)) == "not-logged-in"
        assert await thief.code("listDevices", auth=auth(thief, own)) == ""
        kept = await relay.store.accounts.session(client.device.public)
        assert kept is not None
        assert token not in (kept.token, bytes(kept.token))
        clock.now = NOW + SESSION_S - 1
        assert await client.code("listDevices", auth=auth(client, token)) == ""
        clock.now = NOW + SESSION_S
        assert await client.code("listDevices", auth=auth(client, token)) == "not-logged-in"
        clock.now = NOW
        assert await client.code("listDevices", auth=auth(client, token)) == "not-logged-in", (
            "a clock that goes back does not bring it back"
        )


async def test_a_clock_set_back_ends_a_session_made_in_the_future(
    relay: Relay, clock: Clock
) -> None:
    """Else a token of a wrong year would hold until then."""
    ann = person("ann")
    async with client_of(relay) as client:
        assert await register(client, ann) == ""
        clock.now = NOW + 10 * 365 * 86_400
        token = await login(client, relay.device, ann)
        clock.now = NOW
        assert await client.code("listDevices", auth=auth(client, token)) == "not-logged-in"


# Devices


async def test_devices_are_registered_listed_and_revoked_by_their_owner(relay: Relay) -> None:
    ann, eve = person("ann"), person("eve")
    phone_key = new_device()
    async with client_of(relay) as laptop, client_of(relay) as other:
        assert await register(laptop, ann) == ""
        assert await register(other, eve) == ""
        async with client_of(relay, phone_key) as phone:
            token = await login(phone, relay.device, ann)
            common = {"name": "phone", "auth": auth(phone, token)}
            mine = credential(ann.identity, phone_key.public)
            hers = credential(eve.identity, phone_key.public)
            own = bytes(phone_key.public)
            for device, by, code in (
                (bytes(other.device.public), mine, "not-your-key"),
                (own, hers, "not-your-identity"),
                (own, credential(ann.identity, laptop.device.public), "bad-credential"),
                (own, mine, ""),
            ):
                got = await phone.code("registerDevice", device=device, credential=by, **common)
                assert got == code
            listed = await phone.call("listDevices", auth=auth(phone, token))
            assert {d.name for d in listed.devices} == {"laptop", "phone"}
            await phone.enqueue(parcel(phone_key.public))
            await phone.peek()
            evil = await login(other, relay.device, eve)
            revoke = {"device": own}
            code = await other.code("revokeDevice", auth=auth(other, evil), **revoke)
            assert code == "no-such-device"
            by_laptop = await login(laptop, relay.device, ann)
            code = await laptop.code("revokeDevice", auth=auth(laptop, by_laptop), **revoke)
            assert code == ""
            await within(phone.connection.wait_closed())
        listed = await laptop.call("listDevices", auth=auth(laptop, by_laptop))
        assert [d.name for d in listed.devices] == ["laptop"]
        async with client_of(relay, phone_key) as phone:
            assert await phone.code("listDevices", auth=auth(phone, token)) == "not-logged-in"
            assert (await phone.peek()).error.code == "device-revoked", "also where all may come"
            package = {"identityKey": own, "suite": SUITE, "package": b"x"}
            assert await phone.code("uploadKeyPackage", **package) == "device-revoked"
            again = await login(phone, relay.device, ann)
            common = {"name": "phone", "auth": auth(phone, again)}
            again_in = await phone.code("registerDevice", device=own, credential=mine, **common)
            assert again_in == ""
            mailbox = await phone.peek()
            assert (mailbox.error.code, len(mailbox.parcels)) == ("", 0), "what was there is gone"


async def test_a_device_may_revoke_itself_and_hears_that_it_worked(relay: Relay) -> None:
    ann = person("ann")
    async with client_of(relay) as client:
        assert await register(client, ann) == ""
        token = await login(client, relay.device, ann)
        own = bytes(client.device.public)
        assert await client.code("revokeDevice", device=own, auth=auth(client, token)) == ""
        assert await client.code("listDevices", auth=auth(client, token)) == "not-logged-in"
        assert (await client.peek()).error.code == "device-revoked"


async def test_nothing_is_pushed_to_a_revoked_device_any_more(relay: Relay) -> None:
    ann, sink = person("ann"), Sink()
    async with subscriber(relay) as laptop, client_of(relay) as friend:
        client = Client(laptop.device, laptop.service, laptop.connection)
        assert await register(client, ann) == ""
        assert await laptop.subscribe(sink) == ""
        token = await login(client, relay.device, ann)
        own = bytes(client.device.public)
        assert await client.code("revokeDevice", device=own, auth=auth(client, token)) == ""
        assert relay.service.subscriptions.counters["device-revoked"] == 1
        await friend.enqueue(parcel(client.device.public))
        assert await laptop.subscribe(sink) == "device-revoked"
        assert sink.batches == []


async def test_a_deleted_account_takes_everything_along(relay: Relay) -> None:
    ann = person("ann")
    phone_key = new_device()
    async with client_of(relay) as laptop, client_of(relay) as reader:
        assert await register(laptop, ann) == ""
        token = await login(laptop, relay.device, ann)
        async with client_of(relay, phone_key) as phone:
            by = await login(phone, relay.device, ann)
            added = await phone.code(
                "registerDevice",
                device=bytes(phone_key.public),
                name="phone",
                credential=credential(ann.identity, phone_key.public),
                auth=auth(phone, by),
            )
            assert added == ""
            assert (
                await laptop.code("publishBundle", bundle=bundle(ann.identity, laptop.device)) == ""
            )
            await reader.enqueue(parcel(phone_key.public))
            assert len((await phone.peek()).parcels) == 1
            assert await laptop.code("deleteAccount", auth=auth(laptop, token)) == ""
            await within(phone.connection.wait_closed())
        assert await laptop.code("deleteAccount", auth=auth(laptop, token)) == "not-logged-in"
        assert await reader.code("resolveUser", name="ann") == "not-found"
        identity = bytes(ann.identity.public)
        assert await reader.code("resolveIdentity", identity=identity) == "not-found"
        async with client_of(relay, phone_key) as phone:
            assert len((await phone.peek()).parcels) == 0
        assert await register(laptop, person("ann")) == "", "the name is free"


async def test_what_another_process_revoked_is_hung_up_on(relay: Relay) -> None:
    """Several processes share one database; each looks again every minute."""
    ann = person("ann")
    async with client_of(relay) as client, client_of(relay) as stranger:
        assert await register(client, ann) == ""
        await client.peek()
        await stranger.peek()
        assert await relay.service.admission.look_again() == 0
        await relay.store.accounts.revoke_device(ann.identity.public, client.device.public, now=NOW)
        assert await relay.service.admission.look_again() == 1
        await within(client.connection.wait_closed())
        assert await stranger.code("health") == ""


async def test_a_device_that_was_here_before_another_process_registered_it_is_hung_up_on(
    relay: Relay,
) -> None:
    ann, phone = person("ann"), new_device()
    async with client_of(relay) as client, client_of(relay, phone) as before:
        await before.peek()
        assert await register(client, ann) == ""
        accounts = relay.store.accounts  # as another process would
        await accounts.add_device(ann.identity.public, phone.public, "phone", most=8, now=NOW)
        assert await relay.service.admission.look_again() == 0
        await accounts.revoke_device(ann.identity.public, phone.public, now=NOW)
        assert await relay.service.admission.look_again() == 1
        await within(before.connection.wait_closed())


async def test_several_processes_are_one_relay(
    kj: None, clock: Clock, tmp_path: Path, database_url: str
) -> None:
    """A name goes to one of all who ask at once, a login counts everywhere, and so does its end."""
    async with (
        open_relay(shared(tmp_path / "one", database_url), clock=clock) as one,
        open_relay(shared(tmp_path / "two", database_url), clock=clock) as two,
        client_of(one) as here,
        client_of(two) as there,
    ):
        assert one.device == two.device
        ann, rival = person("ann"), person("ann")
        codes = await asyncio.gather(register(here, ann), register(there, rival))
        assert sorted(codes) == ["", "name-taken"]
        client, relay, other, who = (
            (here, one, two, ann) if codes[0] == "" else (there, two, one, rival)
        )
        token = await login(client, relay.device, who)
        async with client_of(other, client.device) as moved:
            assert await moved.code("listDevices", auth=auth(moved, token)) == ""
            assert (await moved.peek()).error.code == ""
            assert await client.code("deleteAccount", auth=auth(client, token)) == ""
            assert await moved.code("listDevices", auth=auth(moved, token)) == "not-logged-in"
            assert await other.service.admission.look_again() == 1
            await within(moved.connection.wait_closed())


# Floods


_GUESS = framed(1, bytes(96))  # charged like a good one, and cheaper


async def guess(relay: Relay, name: str, host: str, times: int = 1) -> list[str]:
    """Begin logins, never to finish them: by the answer a client knows whether it was right."""
    codes = []
    for _ in range(times):
        async with client_of(relay, host=host) as client:
            codes.append(await client.code("opaqueLoginStart", name=name, request=_GUESS))
    return codes


async def test_guesses_of_one_password_are_limited_from_wherever_they_come(
    kj: None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting_loopback(monkeypatch)
    limits = RelayLimits(
        prefix_name_logins_burst=3,
        prefix_name_logins_per_hour=1,
        name_logins_burst=7,
        name_logins_per_hour=1,
    )
    async with open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay:
        async with client_of(relay) as client:
            assert await register(client, person("ann")) == ""
        for name in ("ann", "nobody"):
            codes = [await guess(relay, name, f"127.0.0.{place}", 5) for place in range(5, 9)]
            one, two, *others = [each.count("try-later") for each in codes]
            assert 1 <= one <= 2, "a place has its three; the bucket gives one more for the first"
            assert 1 <= two <= 2
            assert sum(others) >= 8, "all of them together have seven"


async def test_strangers_guesses_shut_nobody_out_of_a_login(
    kj: None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting_loopback(monkeypatch)
    limits = RelayLimits(
        prefix_name_logins_burst=3,
        prefix_name_logins_per_hour=1,
        name_logins_burst=8,
        name_logins_per_hour=1,
    )
    ann, phone = person("ann"), new_device()
    async with open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay:
        async with client_of(relay, phone, host="127.0.0.2") as client:
            assert await register(client, ann) == ""
        assert (await guess(relay, "ann", "127.0.0.5", 8))[-1] == "try-later"
        async with client_of(relay, host="127.0.0.3") as tablet:
            for _ in range(6):  # what succeeds costs nothing
                await login(tablet, relay.device, ann)
        for place in range(6, 9):
            assert (await guess(relay, "ann", f"127.0.0.{place}", 8))[-1] == "try-later"
        assert await guess(relay, "ann", "127.0.0.99") == ["try-later"], "new places, all together"
        async with client_of(relay, host="127.0.0.3") as laptop:
            await login(laptop, relay.device, ann)  # from where she logged in before
        async with client_of(relay, phone, host="127.0.0.5") as client:
            await login(client, relay.device, ann)  # her own device, from anywhere


async def test_accounts_sessions_and_half_logins_are_counted(relay: Relay) -> None:
    metrics = RelayMetrics()
    metrics.watch(relay.service, relay.store, dict)
    who = person("zebedee")
    async with client_of(relay) as client:
        assert await register(client, who) == ""
        await login(client, relay.device, who)
        await begin_login(client, relay.device, "nobody", PASSWORD)
        await relay.service.look_again()
        shown = metrics.text().decode()
        for line in (
            "accounts 1.0", "account_devices 1.0", "sessions 1.0", "logins_pending 1.0",
            'logins_total{event="begun"} 2.0',
        ):  # fmt: skip
            assert f"\nquicnprotochat_{line}\n" in shown
        assert "zebedee" not in shown
