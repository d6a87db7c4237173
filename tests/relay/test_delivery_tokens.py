"""setDeliveryTokens, and parcels that come with a token, over the wire."""

from __future__ import annotations

import os
from pathlib import Path

from relay.callers import Callers
from relay.limits import RelayLimits
from relay.server import Relay, open_relay
from relay.store.delivery_tokens import token_hash
from schemas.limits import DELIVERY_TOKENS
from tests.relay.support import Clock, client_of, config_for, new_device, parcel


async def test_a_stranger_brings_with_a_token_what_it_cannot_without(relay: Relay) -> None:
    bob, token = new_device(), os.urandom(32)
    async with client_of(relay, bob) as owner, client_of(relay) as stranger:
        assert not await owner.code("setDeliveryTokens", hashes=[token_hash(token)])
        refused = await stranger.enqueue(parcel(bob.public))
        assert refused.result.error.code == "delivery-token-refused"
        taken = await stranger.enqueue(parcel(bob.public, token=token))
        assert not taken.result.error.code
        assert len((await owner.peek()).parcels) == 1
        good, bad = parcel(bob.public, token=token), parcel(bob.public, token=os.urandom(32))
        answer = await stranger.call("batchEnqueue", items=[good, bad])
        assert [each.error.code for each in answer.results] == ["", "delivery-token-refused"]
        assert relay.desk.refusals["delivery-token-refused"] == 2
        assert not await owner.code("setDeliveryTokens", hashes=[])
        late = await stranger.enqueue(parcel(bob.public, token=token))
        assert late.result.error.code == "delivery-token-refused", "revoked at once"


async def test_sets_that_cannot_be_are_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        many = [os.urandom(32) for _ in range(DELIVERY_TOKENS)]
        assert not await client.code("setDeliveryTokens", hashes=many)
        for hashes in ([*many, os.urandom(32)], [os.urandom(31)], [b""]):
            assert await client.code("setDeliveryTokens", hashes=hashes) == "malformed-request"
        bad = await client.enqueue(parcel(client.device.public, token=b"short"))
        assert bad.error.code == "malformed-request"
        held = await relay.store.delivery_tokens.of(client.device.public)
        assert held == frozenset(many)


async def test_parcels_with_one_token_have_a_rate(kj: None, clock: Clock, tmp_path: Path) -> None:
    limits = RelayLimits(token_parcels_burst=3, token_parcels_rate=1)
    bob, token, other = new_device(), os.urandom(32), os.urandom(32)
    config = config_for(tmp_path / "relay", limits=limits)
    async with open_relay(config, clock=clock) as relay, client_of(relay, bob) as owner:
        await owner.call("setDeliveryTokens", hashes=[token_hash(token), token_hash(other)])
        codes = []
        for _ in range(6):  # a key for each: the token is what counts
            async with client_of(relay) as stranger:
                answer = await stranger.enqueue(parcel(bob.public, token=token))
                codes.append(str(answer.result.error.code))
                assert bool(answer.result.error.retryAfterMs) is bool(codes[-1])
        assert codes[:3] == ["", "", ""]
        assert codes[4:] == ["try-later", "try-later"]
        async with client_of(relay) as stranger:
            answer = await stranger.enqueue(parcel(bob.public, token=other))
            assert not answer.result.error.code


async def test_a_flood_without_a_token_does_not_shut_a_guarded_mailbox(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    limits = RelayLimits(
        mailbox_parcels_burst=20,
        mailbox_parcels_rate=1,
        token_parcels_burst=20,
        token_parcels_rate=1,
    )
    bob, token = new_device(), os.urandom(32)
    config = config_for(tmp_path / "relay", limits=limits)
    async with (
        open_relay(config, clock=clock) as relay,
        client_of(relay, bob) as owner,
        client_of(relay) as stranger,
        client_of(relay) as friend,
    ):
        await owner.call("setDeliveryTokens", hashes=[token_hash(token)], optional=False)
        for tried in (b"", os.urandom(32)):
            items = [parcel(bob.public, size=1, token=tried) for _ in range(50)]
            answer = await stranger.call("batchEnqueue", items=items)
            told = {str(each.error.code) for each in answer.results}
            assert told == {"delivery-token-refused"}
        for _ in range(10):
            answer = await friend.enqueue(parcel(bob.public, token=token))
            assert not answer.result.error.code


async def test_throw_away_keys_grow_no_table(relay: Relay) -> None:
    """They come and go by the thousand."""
    bob, token = new_device(), os.urandom(32)
    async with client_of(relay, bob) as owner:
        await owner.call("setDeliveryTokens", hashes=[token_hash(token)])
        before = relay.store.usage
        for _ in range(3):
            async with client_of(relay) as stranger:
                own = bytes(stranger.device.public)
                for item in (parcel(bob.public, token=token), parcel(bob.public)):
                    await stranger.enqueue(item)
                for method in ("resolveEndpoint", "fetchHybridKey"):
                    await stranger.call(method, identityKey=bytes(bob.public))
                await stranger.call("resolveIdentity", identity=own)
        callers: Callers = relay.service.callers
        assert set(callers._seen) == {bob.public}, "none of them was introduced"
        after = relay.store.usage
        assert (after.mailboxes, after.directory_bytes) == (
            before.mailboxes,
            before.directory_bytes,
        )
        assert after.parcels == 3
