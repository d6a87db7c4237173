"""relayStatement over real QUIC: published by whoever has it, believed for its signature alone."""

from __future__ import annotations

import dataclasses

from identity.keys import KeyPair
from identity.relay_statement import open_relay_statement_untrusted
from identity.signing import sign
from relay.server import Relay
from schemas import limits
from schemas.addresses import Address, RelayAddress
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import RelayStatement, Signed, SignedType, read_signed
from tests.relay.support import Client, client_of, new_device, new_identity

ME = new_identity()
HERE = RelayAddress(Address("relay.example", 7000), DeviceKey(b"r" * 32))


def statement(number: int, *relays: RelayAddress, identity: KeyPair[IdentityKey] = ME) -> Signed:
    content = RelayStatement(identity.public, number, relays)
    return sign(SignedType.RELAY_STATEMENT, identity, content.encode())


async def publish(client: Client, signed: Signed, identity: IdentityKey = ME.public) -> str:
    return await client.code("relayStatement", identity=identity, statement=signed)


async def shown(client: Client, identity: IdentityKey = ME.public) -> RelayStatement | None:
    answer = await client.call("relayStatement", identity=identity)
    if answer.error.code:
        assert answer.error.code == "not-found"
        return None
    return open_relay_statement_untrusted(read_signed(answer.statement, limits.RELAY_STATEMENT))


async def test_what_one_publishes_others_are_shown(relay: Relay) -> None:
    async with client_of(relay, new_device()) as mine, client_of(relay) as other:
        assert await shown(other) is None
        assert await publish(mine, statement(4, HERE)) == ""
        assert await shown(other) == RelayStatement(ME.public, 4, (HERE,))
        assert await publish(mine, statement(5)) == ""
        assert await shown(other) == RelayStatement(ME.public, 5, ())


async def test_forged_ones_are_refused_and_counted(relay: Relay) -> None:
    mal = new_identity()
    async with client_of(relay) as client:
        good = statement(9, HERE)
        by_mal = sign(SignedType.RELAY_STATEMENT, mal, good.payload)
        other_kind = sign(SignedType.BUNDLE_CORE, ME, good.payload)
        changed = dataclasses.replace(good, payload=statement(9).payload)
        assert await publish(client, by_mal) == "wrong-signer"
        assert await publish(client, other_kind) == "bad-signature"
        assert await publish(client, changed) == "bad-signature"
        assert await publish(client, statement(9, HERE, identity=mal)) == "wrong-signer"
        noise = sign(SignedType.RELAY_STATEMENT, ME, b"noise")
        assert (await publish(client, noise)).startswith("malformed")
        assert await shown(client) is None
        refused = relay.service.refusals
        assert (refused["wrong-signer"], refused["bad-signature"]) == (2, 2)


async def test_replayed_and_older_ones_move_nobody_back(relay: Relay) -> None:
    old, new = statement(7, HERE), statement(8)
    async with client_of(relay) as mine, client_of(relay) as mal:
        assert await publish(mine, old) == ""
        assert await publish(mine, new) == ""
        assert await publish(mal, new) == "", "the same again is harmless"
        assert await publish(mal, old) == "stale"
        assert await publish(mal, statement(8, HERE)) == "stale", "not by another of one number"
        assert await shown(mal) == RelayStatement(ME.public, 8, ())


async def test_oversized_ones_are_refused(relay: Relay) -> None:
    names = [f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{n}" for n in range(9)]
    relays = tuple(RelayAddress(Address(name, 7000), HERE.device) for name in names)
    async with client_of(relay) as client:
        assert await publish(client, statement(1, *relays)) == "malformed-relay-statement"
        padded = sign(SignedType.RELAY_STATEMENT, ME, bytes(limits.RELAY_STATEMENT + 1))
        assert await publish(client, padded) == "malformed-request"
        assert await shown(client) is None
