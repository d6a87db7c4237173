"""Who may have things kept by a relay that is not open to anybody."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from identity.keys import KeyPair
from relay.server import Relay, open_relay
from schemas.ids import DeviceKey
from tests.relay.people import auth, credential, login, person, register
from tests.relay.process import run_relay
from tests.relay.support import (
    DAY,
    NOW,
    SUITE,
    Client,
    Clock,
    bundle,
    client_of,
    config_for,
    endpoint_record,
    new_device,
    new_identity,
    parcel,
)
from tests.relay.test_methods import signed_hybrid_key

SECRET = "a secret of the village"


@asynccontextmanager
async def closed_relay(folder: Path, clock: Clock, mode: str) -> AsyncIterator[Relay]:
    secret = SECRET if mode == "token" else None
    config = config_for(folder, admission=mode, auth_token=secret)
    async with open_relay(config, clock=clock) as relay:
        yield relay


async def make_invite(relay: Relay, *, uses: int = 1, expires: int = NOW + DAY) -> bytes:
    token = os.urandom(32)
    hashed = hashlib.sha256(token).digest()
    await relay.store.accounts.make_invite(hashed, uses=uses, expires=expires, now=NOW)
    return token


def keeping(device: KeyPair[DeviceKey]) -> dict[str, dict[str, Any]]:
    """Every method by which a relay would keep something for its caller."""
    key = bytes(device.public)
    blob = os.urandom(8)
    return {
        "peek": {"recipientKey": key},
        "fetch": {"recipientKey": key},
        "fetchWait": {"recipientKey": key, "timeoutMs": 1},
        "uploadKeyPackage": {"identityKey": key, "suite": SUITE, "package": b"x"},
        "uploadHybridKey": {"identityKey": key, **signed_hybrid_key(device)},
        "publishEndpoint": {"identityKey": key, "record": endpoint_record(device)},
        "publishBundle": {"bundle": bundle(new_identity(), device)},
        "setDeliveryTokens": {"hashes": [], "optional": True},
        "uploadBlob": {
            "blob": hashlib.sha256(blob).digest(), "offset": 0, "chunk": blob, "total": 8,
        },
        "createChannel": {"peerKey": key},
    }  # fmt: skip


async def codes(client: Client, token: bytes = b"") -> set[str]:
    return {
        await client.code(method, **fields, auth=auth(client, token))
        for method, fields in keeping(client.device).items()
    }


async def test_by_invitation_only_members_have_anything_kept(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    async with closed_relay(tmp_path, clock, "invite") as relay:
        ann, stranger = person("ann"), new_device()
        async with client_of(relay) as client, client_of(relay, stranger) as outside:
            assert await codes(outside) == {"not-admitted"}
            invite = await make_invite(relay)
            assert await register(client, ann, token=invite) == ""
            assert await codes(client) == {""}
            assert await codes(outside, invite) == {"not-admitted"}, "an invite is no token"
            assert await outside.code("resolveUser", name="ann") == "not-admitted"
            assert await client.code("resolveUser", name="ann") == ""
            for_ann = parcel(client.device.public)
            refused = await outside.enqueue(for_ann)
            assert refused.error.code == "delivery-token-refused"
            assert (await client.enqueue(for_ann)).error.code == ""
            to_nobody = await client.enqueue(parcel(stranger.public))
            assert to_nobody.error.code == "no-mailbox", "made-up recipients get nothing either"
            own = await outside.enqueue(parcel(stranger.public))
            assert own.error.code == "no-mailbox"
            identity = bytes(ann.identity.public)
            assert await outside.code("resolveIdentity", identity=identity) == "not-found"
            key = {"identityKey": bytes(client.device.public)}
            assert await outside.code("resolveEndpoint", **key) == "", "found by whoever has a card"


async def test_a_member_stays_one_by_its_key_alone_for_months(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    ann, device = person("ann"), new_device()
    async with closed_relay(tmp_path, clock, "invite") as relay, client_of(relay, device) as client:
        assert await register(client, ann, token=await make_invite(relay)) == ""
    clock.now += 200 * DAY
    async with closed_relay(tmp_path, clock, "invite") as relay:
        async with client_of(relay, device) as client:
            assert (await client.peek()).error.code == ""
        async with client_of(relay) as phone:
            assert (await phone.peek()).error.code == "not-admitted"
            token = await login(phone, relay.device, ann)
            assert (await phone.peek()).error.code == "not-admitted", "a login is not a device"
            added = await phone.code(
                "registerDevice",
                device=bytes(phone.device.public),
                name="phone",
                credential=credential(ann.identity, phone.device.public),
                auth=auth(phone, token),
            )
            assert added == ""
            assert (await phone.peek()).error.code == ""


async def test_an_invite_holds_as_often_as_it_says_and_until_it_expires(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    async with closed_relay(tmp_path, clock, "invite") as relay:
        once, late = await make_invite(relay), await make_invite(relay, expires=NOW + 10)
        async with client_of(relay) as ann, client_of(relay) as bob:
            for wrong in (b"", os.urandom(32), hashlib.sha256(once).digest(), once[:-1]):
                assert await register(ann, person("ann"), token=wrong) == "bad-invite"
            assert await register(ann, person("ann"), token=once) == ""
            assert await register(bob, person("bob"), token=once) == "bad-invite"
            clock.now += 10
            assert await register(bob, person("bob"), token=late) == "bad-invite"
            assert await register(bob, person("ann"), token=once) == "bad-invite", "no name is told"


async def test_a_revoked_member_is_out_at_once(kj: None, clock: Clock, tmp_path: Path) -> None:
    async with closed_relay(tmp_path, clock, "invite") as relay:
        ann = person("ann")
        async with client_of(relay) as client:
            assert await register(client, ann, token=await make_invite(relay)) == ""
            assert await codes(client) == {""}
            token = await login(client, relay.device, ann)
            assert await client.code("deleteAccount", auth=auth(client, token)) == ""
            assert await codes(client) == {"not-admitted"}


async def test_with_a_token_whoever_shows_it(kj: None, clock: Clock, tmp_path: Path) -> None:
    async with closed_relay(tmp_path, clock, "token") as relay:
        async with client_of(relay) as client:
            for wrong in (b"", SECRET.encode()[:-1], SECRET.encode() + b"\0", bytes(64)):
                assert await codes(client, wrong) == {"not-admitted"}
                assert await register(client, person("ann"), token=wrong) == "not-admitted"
            own = {"recipientKey": bytes(client.device.public)}
            shown = auth(client, SECRET.encode())
            assert await client.code("peek", auth=shown, **own) == ""
            assert await codes(client) == {""}, "once per connection is enough"
        async with client_of(relay) as member:
            assert await register(member, person("ann"), token=SECRET.encode()) == ""
            assert await codes(member) == {""}


async def test_the_token_is_in_no_error_log_or_setting_shown(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    config = config_for(tmp_path, admission="token", auth_token=SECRET)
    assert SECRET not in repr(config)
    async with open_relay(config, clock=clock) as relay, client_of(relay) as client:
        answer = await client.call("peek", recipientKey=bytes(client.device.public))
        assert SECRET not in str(answer)
        assert SECRET not in repr(vars(relay.service.admission))


@pytest.mark.parametrize("secret", [SECRET, "devtoken"])
def test_doctor_tells_the_mode_and_a_weak_token_but_never_the_token(
    tmp_path: Path, secret: str
) -> None:
    done = run_relay(
        "doctor", "--data-dir", str(tmp_path), "--json", QUICNPROTOCHAT_AUTH_TOKEN=secret
    )
    found = {
        line["name"]: line for line in map(json.loads, done.out.splitlines()) if "name" in line
    }
    assert found["admission"]["ok"] == (secret == SECRET)
    assert secret not in done.out + done.err
