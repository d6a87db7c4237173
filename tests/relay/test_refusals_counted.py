"""Whatever is refused is in `refused_total`, also what never became a call."""

from __future__ import annotations

from pathlib import Path

import pytest

import transport
from relay.limits import RelayLimits
from relay.server import open_relay
from schemas.addresses import Address
from schemas.errors import Fault
from tests.relay.support import Clock, client_of, config_for, new_device
from tests.relay.test_http import get
from transport import TransportLimits
from transport.admission import REFUSALS


async def test_connections_streams_and_messages(kj: None, clock: Clock, tmp_path: Path) -> None:
    limits = RelayLimits(connections_per_device=1, streams_per_connection=1)
    config = config_for(tmp_path, metrics=Address("127.0.0.1", 0), limits=limits)
    device = new_device()
    async with open_relay(config, clock=clock) as relay, client_of(relay, device) as client:
        with pytest.raises(Fault):
            async with client_of(relay, device) as second:
                await second.call("health")
        stream = await client.connection.open_stream()
        await stream.write(b"\0")
        with pytest.raises(transport.StreamReset):
            await stream.read()
        assert await client.code("fetchKeyPackage") == "malformed-request"
        _, page = await get(relay, "/metrics")
    for reason in ("too-many-connections", "too-many-streams", "malformed-request"):
        line = f'quicnprotochat_refused_total{{reason="{reason}"}} 1.0'
        assert line in page.decode(), reason


async def test_what_the_transport_refuses(kj: None, clock: Clock, tmp_path: Path) -> None:
    """Whoever asks again with a proven address, while all places of its prefix are taken."""
    config = config_for(tmp_path, metrics=Address("127.0.0.1", 0), dht=False)
    limits = TransportLimits(max_half_open_per_prefix=0, retry_from_half_open=0)
    async with open_relay(config, clock=clock, limits=limits) as relay:
        endpoint = await transport.Endpoint.open(
            new_device().private,
            transport.Address("127.0.0.1", 0),
            handlers={},
            limits=TransportLimits(dial_deadline_s=0.5),
        )
        with pytest.raises(Fault):
            await endpoint.dial(
                [transport.Address(*relay.listen)], expected=relay.device, alpn="capnp"
            )
        await endpoint.close()
        _, page = await get(relay, "/metrics")
    assert 'quicnprotochat_refused_total{reason="prefix-full"}' in page.decode()
    assert set(REFUSALS) >= {"half-open-full", "prefix-full", "connections-full"}
