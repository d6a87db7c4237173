"""The relay in the DHT: nodes begin there, relays find each other, and metrics tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.dht.contact import DhtContact
from discovery.dht.quic import QuicRpc
from relay.config import load_config
from relay.server import open_relay
from schemas.addresses import Address, BootstrapAddress
from schemas.errors import Refused, Unreachable
from schemas.ids import DeviceKey
from tests.discovery.dht.quic_support import KEY, LOOPBACK, open_anonymous
from tests.relay.support import config_for, within
from tests.relay.test_http import get
from transport import Endpoint

METRICS = Address("127.0.0.1", 0)


@pytest.fixture
async def rpc(kj: None) -> AsyncIterator[QuicRpc]:
    endpoint = await Endpoint.open(Ed25519PrivateKey.generate(), LOOPBACK, handlers={})
    rpc = QuicRpc(endpoint, open_anonymous)
    yield rpc
    await rpc.close()
    await endpoint.close()


async def devices_told(rpc: QuicRpc, contact: DhtContact) -> list[DeviceKey]:
    told = await within(rpc.find_node(contact, KEY, announce=False))
    return [each.device for each in told]


async def test_relays_find_each_other_and_nodes_begin_with_either(
    rpc: QuicRpc, tmp_path: Path
) -> None:
    async with open_relay(config_for(tmp_path / "a", metrics=METRICS)) as first:
        begin = (BootstrapAddress(first.listen, None),)
        async with open_relay(config_for(tmp_path / "b", dht_bootstrap=begin)) as second:
            at_first = await within(rpc.meet(first.listen))
            at_second = await within(rpc.meet(second.listen, second.device))
            async with asyncio.timeout(10):
                while await devices_told(rpc, at_first) != [second.device]:
                    await asyncio.sleep(0.01)
                while await devices_told(rpc, at_second) != [first.device]:
                    await asyncio.sleep(0.01)
            _, body = await get(first, "/metrics")
            assert b"quicnprotochat_dht_contacts 1.0" in body


async def test_a_relay_that_is_told_not_to_takes_no_part(rpc: QuicRpc, tmp_path: Path) -> None:
    async with open_relay(config_for(tmp_path, dht=False)) as relay:
        with pytest.raises(Unreachable) as caught:
            await within(rpc.meet(relay.listen, relay.device))
    assert caught.value.code == "dial-wrong-alpn"


def test_settings() -> None:
    text = f"dht.example.org, 192.0.2.7:7001#{'ab' * 32}"
    config = load_config({"dht_bootstrap": text, "dht": "false"}, {}, None)
    assert [str(each) for each in config.dht_bootstrap] == [
        "dht.example.org:7000",
        f"192.0.2.7:7001#{'ab' * 32}",
    ]
    assert not config.dht
    assert load_config({}, {}, None).dht
    for wrong in ({"dht_bootstrap": "a:b:c"}, {"dht": "perhaps"}):
        with pytest.raises(Refused) as caught:
            load_config(wrong, {}, None)
        assert caught.value.code == "bad-setting"
