"""Each method of NodeService over real QUIC, as nodes call it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from identity.envelope import generate_hybrid
from identity.keys import KeyPair
from identity.signing import prefixed
from relay.mailbox_methods import REPLY_BYTES
from relay.server import Relay, open_relay
from relay.store.contract import MAX_NUMBER, Quotas
from schemas import limits
from schemas.capnp_codec import blaming_the_peer
from schemas.frames import ErrorFrame
from schemas.ids import DeviceKey, IdentityKey
from schemas.node_service import Enqueued, read_enqueue_result, read_mailbox
from schemas.records import Signed, SignedType, read_signed
from tests.relay.support import (
    DAY,
    NOW,
    SUITE,
    Clock,
    bundle,
    client_of,
    config_for,
    endpoint_record,
    new_device,
    new_identity,
    parcel,
)


def enqueued(result: object) -> Enqueued:
    outcome = read_enqueue_result(result)
    assert isinstance(outcome, Enqueued), outcome
    return outcome


async def test_health_needs_no_authentication(relay: Relay) -> None:
    async with client_of(relay) as client:
        health = await client.call("health")
        assert (health.status, health.error.code) == ("ok", "")
        assert health.version.count(".") == 2


# Mail


async def test_mail_for_an_absent_device_waits_for_it_also_over_a_restart(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    bob = new_device()
    item = parcel(bob.public)
    async with open_relay(config_for(tmp_path), clock=clock) as relay, client_of(relay) as alice:
        first_device = relay.device
        result = enqueued((await alice.enqueue(item)).result)
        assert result == Enqueued(1, item.expires)
    async with open_relay(config_for(tmp_path), clock=clock) as relay:
        assert relay.device == first_device, "nodes pin the relay's key"
        async with client_of(relay, bob) as client:
            with blaming_the_peer("mailbox"):
                mailbox = read_mailbox(await client.peek())
            assert [p.sealed for p in mailbox.parcels] == [item.sealed]
            assert mailbox.parcels[0].id == item.id
            assert (await client.ack(1)).acknowledged == 1
    async with (
        open_relay(config_for(tmp_path), clock=clock) as relay,
        client_of(relay, bob) as client,
    ):
        emptied = await client.peek()
        assert (len(emptied.parcels), emptied.lowest, emptied.highest) == (0, 0, 0)
        assert enqueued((await client.enqueue(parcel(bob.public))).result).sequence == 2


async def test_the_relay_keeps_mail_for_its_own_limit_at_most(relay: Relay, clock: Clock) -> None:
    async with client_of(relay) as client:
        me = client.device.public
        kept = enqueued((await client.enqueue(parcel(me, expires=NOW + 30 * DAY))).result)
        assert kept.expires == NOW + 7 * DAY
        clock.now += 7 * DAY
        assert len((await client.peek()).parcels) == 0


async def test_expired_and_oversized_mail_is_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        me = client.device.public
        for expires in (NOW, 0, -(2**63)):
            refused = await client.enqueue(parcel(me, expires=expires))
            assert refused.error.code == refused.result.error.code == "parcel-expired"
        assert (await client.enqueue(parcel(me, size=limits.PARCEL + 1))).error.code
        assert not (await client.enqueue(parcel(me, size=limits.PARCEL))).error.code


async def test_a_batch_has_an_outcome_for_each_item(relay: Relay) -> None:
    async with client_of(relay) as client:
        me = client.device.public
        good, late = parcel(me), parcel(me, expires=NOW)
        malformed = {"recipientKey": b"short", "expires": NOW + 1}
        answer = await client.call("batchEnqueue", items=[good, late, malformed, good, parcel(me)])
        assert answer.error.code == ""
        outcomes = [read_enqueue_result(result) for result in answer.results]
        assert outcomes[0] == outcomes[3] == Enqueued(1, good.expires)
        assert isinstance(outcomes[4], Enqueued)
        refusals = [outcome.code for outcome in outcomes if isinstance(outcome, ErrorFrame)]
        assert refusals == ["parcel-expired", "malformed-parcel"]
        assert len((await client.peek()).parcels) == 2
        assert await client.code("batchEnqueue", items=[]) == ""
        many = [parcel(me, size=0)] * (limits.BATCH_ITEMS + 1)
        assert await client.code("batchEnqueue", items=many) == "malformed-request"


async def test_a_full_mailbox_tells_the_sender_when_to_come_again(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    config = config_for(tmp_path, quotas=Quotas(mailbox_parcels=2))
    async with open_relay(config, clock=clock) as relay, client_of(relay) as client:
        batch = [parcel(client.device.public) for _ in range(3)]
        answer = await client.call("batchEnqueue", items=batch)
        assert [result.error.code for result in answer.results] == ["", "", "mailbox-full"]
        assert answer.results[2].error.retryAfterMs > 0
        single = await client.enqueue(parcel(client.device.public))
        assert single.error.code == single.result.error.code == "mailbox-full"
        assert single.error.retryAfterMs > 0
        assert single.error.hint
        assert relay.desk.refusals["mailbox-full"] == 2


async def test_a_mailbox_opens_to_its_own_device_only(relay: Relay) -> None:
    async with client_of(relay) as client:
        other = bytes(new_device().public)
        assert await client.code("peek", recipientKey=other) == "not-your-mailbox"
        assert await client.code("ack", recipientKey=other, sequences=[1]) == "not-your-mailbox"
        assert await client.code("peek", recipientKey=b"") == "malformed-request"
        own = bytes(client.device.public)
        assert await client.code("peek", recipientKey=own, channelId=b"x") == "malformed-request"
        unknown = bytes(16)
        assert await client.code("peek", recipientKey=own, channelId=unknown) == "channel-not-found"


async def test_a_look_stays_within_what_a_transport_reads(relay: Relay) -> None:
    async with client_of(relay) as client:
        for _ in range(4):
            await client.enqueue(parcel(client.device.public, size=limits.PARCEL))
        seen: list[int] = []
        while parcels := (await client.peek(after=seen[-1] if seen else 0)).parcels:
            assert sum(len(p.sealed) for p in parcels) <= REPLY_BYTES
            seen += [p.sequence for p in parcels]
        assert seen == [1, 2, 3, 4]
        assert len((await client.peek(limit=1)).parcels) == 1


async def test_a_full_look_of_small_parcels_arrives(relay: Relay) -> None:
    async with client_of(relay) as client:
        for _ in range(4):
            batch = [parcel(client.device.public, size=900) for _ in range(250)]
            assert await client.code("batchEnqueue", items=batch) == ""
        parcels = (await client.peek()).parcels
        assert len(parcels) == 1000
        assert (await client.ack(*(p.sequence for p in parcels))).acknowledged == 1000


async def test_numbers_of_any_size_are_answered(relay: Relay) -> None:
    async with client_of(relay) as client:
        await client.enqueue(parcel(client.device.public))
        assert len((await client.peek(after=2**64 - 1)).parcels) == 0
        assert (await client.ack(2**64 - 1, MAX_NUMBER, 0)).acknowledged == 0
        assert (await client.ack()).acknowledged == 0
        assert (await client.ack(*range(1001))).error.code == "malformed-request"


# Key packages


async def test_key_packages_are_uploaded_by_their_device_and_consumed_by_anybody(
    relay: Relay,
) -> None:
    async with client_of(relay) as bob, client_of(relay) as alice:
        key = bytes(bob.device.public)
        common = {"identityKey": key, "suite": SUITE}
        for stock, package in enumerate((b"one", b"two"), 1):
            done = await bob.call("uploadKeyPackage", package=package, **common)
            assert done.error.code == ""
            assert done.stock == stock
            assert done.fingerprint == hashlib.sha256(package).digest()
        done = await bob.call("uploadKeyPackage", package=b"last", lastResort=True, **common)
        assert done.stock == 2
        request = os.urandom(16)
        answers = [
            await alice.call("fetchKeyPackage", requestId=request, **common) for _ in range(2)
        ]
        assert [(bytes(a.package), a.lastResort) for a in answers] == [(b"one", False)] * 2
        taken = await asyncio.gather(
            *(alice.call("fetchKeyPackage", requestId=os.urandom(16), **common) for _ in range(4))
        )
        assert sorted(bytes(answer.package) for answer in taken) == [b"last"] * 3 + [b"two"]
        assert sorted(answer.lastResort for answer in taken) == [False, True, True, True]
        other = {"identityKey": key, "suite": 65100}
        assert await alice.code("fetchKeyPackage", requestId=request, **other) == "no-key-package"


async def test_key_packages_that_are_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        own = {"identityKey": bytes(client.device.public), "suite": SUITE}
        other = {"identityKey": bytes(new_device().public), "suite": SUITE}
        assert await client.code("uploadKeyPackage", package=b"x", **other) == "not-your-key"
        assert await client.code("uploadKeyPackage", package=b"", **own) == "malformed-request"
        big = bytes(limits.KEY_PACKAGE + 1)
        assert await client.code("uploadKeyPackage", package=big, **own) == "malformed-request"
        for request in (b"", bytes(15)):
            code = await client.code("fetchKeyPackage", requestId=request, **own)
            assert code == "malformed-request"


# Hybrid keys


def signed_hybrid_key(device: KeyPair[DeviceKey]) -> dict[str, bytes]:
    key = generate_hybrid().public
    signature = device.sign(prefixed(SignedType.HYBRID_KEY, key))
    return {"hybridKey": key, "signature": signature}


async def test_hybrid_keys_are_checked_and_found(relay: Relay) -> None:
    async with client_of(relay) as bob, client_of(relay) as alice:
        mine, key = signed_hybrid_key(bob.device), bytes(bob.device.public)
        assert await bob.code("uploadHybridKey", identityKey=key, **mine) == ""
        found = await alice.call("fetchHybridKey", identityKey=key)
        assert (found.error.code, found.key.hybridKey) == ("", mine["hybridKey"])
        assert found.key.signature == mine["signature"]
        stranger = bytes(new_device().public)
        assert await alice.code("fetchHybridKey", identityKey=stranger) == "not-found"
        both = await alice.call("fetchHybridKeys", identityKeys=[stranger, key])
        assert both.error.code == ""
        assert [entry.error.code for entry in both.keys] == ["not-found", ""]
        assert both.keys[1].hybridKey == mine["hybridKey"]


async def test_forged_hybrid_keys_are_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        key = bytes(client.device.public)
        forged = signed_hybrid_key(new_device())
        assert await client.code("uploadHybridKey", identityKey=key, **forged) == "bad-signature"
        other = new_device()
        assert (
            await client.code(
                "uploadHybridKey", identityKey=other.public, **signed_hybrid_key(other)
            )
            == "not-your-key"
        )
        short = {"hybridKey": b"x", "signature": bytes(64)}
        assert await client.code("uploadHybridKey", identityKey=key, **short) == "malformed-request"
        assert await client.code("fetchHybridKey", identityKey=key) == "not-found"


# Bundles


async def test_the_newest_bundle_of_a_person_is_found(relay: Relay) -> None:
    person = new_identity()
    async with client_of(relay) as client, client_of(relay) as reader:
        identity = bytes(person.public)
        assert await reader.code("resolveIdentity", identity=identity) == "not-found"
        first, second = (bundle(person, client.device, number) for number in (1, 2))
        for each in (first, second, second):
            assert await client.code("publishBundle", bundle=each) == ""
        assert await client.code("publishBundle", bundle=first) == "stale"
        found = await reader.call("resolveIdentity", identity=identity)
        assert read_signed(found.bundle, limits.BUNDLE) == second


async def test_forged_bundles_are_refused(relay: Relay) -> None:
    person = new_identity()
    async with client_of(relay) as client:
        good = bundle(person, client.device)
        forged = {
            "bad-signature": Signed(good.payload, good.signer, bytes(64)),
            "wrong-signer": bundle_signed_by_another(good),
            "not-your-key": bundle(person, new_device()),
            "malformed-bundle": nonsense_bundle(person),
        }
        codes = {name: await client.code("publishBundle", bundle=forged[name]) for name in forged}
        assert codes == {name: name for name in forged}
        identity = bytes(person.public)
        assert await client.code("resolveIdentity", identity=identity) == "not-found"
        huge = bundle(person, client.device, 2**63)  # above what a database holds
        assert await client.code("publishBundle", bundle=huge) == "malformed-bundle"
        assert await client.code("publishBundle") == "malformed-request"


def bundle_signed_by_another(good: Signed) -> Signed:
    other = new_identity()
    signature = other.sign(prefixed(SignedType.BUNDLE_CORE, good.payload))
    return Signed(good.payload, bytes(other.public), signature)


def nonsense_bundle(person: KeyPair[IdentityKey]) -> Signed:
    payload = b"nonsense"
    signature = person.sign(prefixed(SignedType.BUNDLE_CORE, payload))
    return Signed(payload, bytes(person.public), signature)


# Endpoint records


async def test_the_newest_endpoint_record_is_found_until_it_expires(
    relay: Relay, clock: Clock
) -> None:
    async with client_of(relay) as client, client_of(relay) as reader:
        key = bytes(client.device.public)
        old, new = (endpoint_record(client.device, number) for number in (1, 2))
        assert await client.code("publishEndpoint", identityKey=key, record=new) == ""
        assert await client.code("publishEndpoint", identityKey=key, record=old) == "stale"
        found = await reader.call("resolveEndpoint", identityKey=key)
        assert read_signed(found.record, limits.ENDPOINT_RECORD) == new
        clock.now += DAY
        assert await reader.code("resolveEndpoint", identityKey=key) == "not-found"


async def test_forged_endpoint_records_are_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        me, key = client.device, bytes(client.device.public)
        good = endpoint_record(me)
        forged = {
            "bad-signature": Signed(good.payload, good.signer, bytes(64)),
            "expired": endpoint_record(me, issued=NOW - DAY, lifetime_s=DAY),
            "issued-in-future": endpoint_record(me, issued=NOW + DAY),
            "malformed-endpoint-record": endpoint_record(me, 2**63),
            "not-your-key": endpoint_record(new_device()),
            "malformed-request": Signed(bytes(limits.ENDPOINT_RECORD + 1), good.signer, bytes(64)),
        }
        codes = {
            name: await client.code("publishEndpoint", identityKey=key, record=forged[name])
            for name in forged
        }
        assert codes == {name: name for name in forged}
        other = new_device()
        assert (
            await client.code(
                "publishEndpoint", identityKey=other.public, record=endpoint_record(other)
            )
            == "not-your-key"
        )
        assert await client.code("resolveEndpoint", identityKey=key) == "not-found"


# Auth


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"version": 0}, "unsupported-auth"),
        ({"version": 2}, "unsupported-auth"),
        ({"version": 1, "deviceId": bytes(32)}, "not-your-key"),
        ({"version": 1, "deviceId": b"short"}, "not-your-key"),
        ({"version": 1}, ""),
    ],
)
async def test_auth_is_checked(relay: Relay, auth: dict[str, object], code: str) -> None:
    async with client_of(relay) as client:
        own = bytes(client.device.public)
        assert await client.code("peek", auth=auth, recipientKey=own) == code
        answer = await client.call("batchEnqueue", auth=auth, items=[])
        assert answer.error.code == code
        assert bool(answer.error.hint) == bool(code)
