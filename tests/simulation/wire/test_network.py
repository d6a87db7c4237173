"""The simulated network: what arrives, in which order, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.addresses import Address
from schemas.errors import Unreachable
from simulation.wire.loop import run
from simulation.wire.network import MTU, Conditions, Network, SimulatedSocket
from transport import Connection, Endpoint

A, B = "10.0.0.1", "10.0.0.2"
ALPN = "echo"


def exchange(
    network: Network, count: int, *, size: int = 100, before: Sequence[object] = ()
) -> tuple[list[int], list[float]]:
    """`count` numbered datagrams from A to B, a millisecond apart: what B got, and when."""

    async def main() -> tuple[list[int], list[float]]:
        loop = asyncio.get_running_loop()
        source, target = (network.bind(Address(host, 1), 0) for host in (A, B))
        got: list[int] = []
        when: list[float] = []

        def read() -> None:
            data, sender = target.recvfrom(65_535)
            assert sender == (A, 1)
            got.append(int.from_bytes(data[:4], "big"))
            when.append(loop.time())

        loop.add_reader(target, read)
        for number in range(count):
            source.sendto(number.to_bytes(4, "big") + bytes(size - 4), (B, 1))
            await asyncio.sleep(0.001)
        await asyncio.sleep(10)
        loop.remove_reader(target)
        return got, when

    return run(main())


def test_everything_arrives_in_order_within_the_latency() -> None:
    got, when = exchange(Network(1, Conditions(latency_s=(0.02, 0.05))), 500)
    assert got == list(range(500))
    delays = [at - number / 1000 for number, at in enumerate(when)]
    assert min(delays) >= 0.02
    assert max(delays) <= 0.0501


def test_a_part_is_lost_and_a_part_comes_twice() -> None:
    network = Network(1, Conditions(loss=0.3, duplicates=0.2))
    got, _ = exchange(network, 2000)
    assert 0.65 < len(set(got)) / 2000 < 0.75
    assert 0.15 < (len(got) - len(set(got))) / len(set(got)) < 0.25
    assert network.counters["lost"] + len(set(got)) == 2000


def test_what_reordering_strikes_is_overtaken_and_nothing_else() -> None:
    got, _ = exchange(Network(1, Conditions(reorder=0.1)), 1000)
    assert sorted(got) == list(range(1000))
    overtaken = [n for place, n in enumerate(got) if any(later < n for later in got[place:])]
    assert overtaken
    late = [number for place, number in enumerate(got) if any(m > number for m in got[:place])]
    assert 50 < len(late) < 150


def test_a_seed_repeats_what_happens_to_each_datagram() -> None:
    bad = Conditions(loss=0.2, duplicates=0.2, reorder=0.2)
    assert exchange(Network(7, bad), 200) == exchange(Network(7, bad), 200)
    assert exchange(Network(7, bad), 200) != exchange(Network(8, bad), 200)


def test_sides_do_not_reach_each_other_until_healed() -> None:
    network = Network(1)
    network.partition([[A], [B]])
    assert exchange(network, 10) == ([], [])
    assert network.counters == {"unreachable": 10}
    one_side = Network(1)
    one_side.partition([[A, B], ["10.0.0.3"]])
    assert len(exchange(one_side, 10)[0]) == 10
    healed = Network(1)
    healed.partition([[A], [B]])
    healed.heal()
    assert len(exchange(healed, 10)[0]) == 10


def test_a_cut_works_one_way_only() -> None:
    network = Network(1)
    network.cut(B, A)
    assert len(exchange(network, 10)[0]) == 10
    network = Network(1)
    network.cut(A, B)
    assert exchange(network, 10)[0] == []


def test_who_is_isolated_reaches_the_hub_alone() -> None:
    network = Network(1)
    network.isolate("10.0.0.3")
    assert exchange(network, 10)[0] == []
    network = Network(1)
    network.isolate(B)
    assert len(exchange(network, 10)[0]) == 10


def test_an_unplugged_host_hears_and_says_nothing() -> None:
    for host in (A, B):
        network = Network(1)
        network.unplug(host)
        assert exchange(network, 10)[0] == []


def test_what_the_network_cannot_carry_whole_is_dropped() -> None:
    assert len(exchange(Network(1), 5, size=MTU)[0]) == 5
    network = Network(1)
    assert exchange(network, 5, size=MTU + 1)[0] == []
    assert network.counters == {"too-large": 5}


def test_an_address_is_one_sockets_until_it_is_closed() -> None:
    network = Network(1)
    first = network.bind(Address(A, 1), 0)
    with pytest.raises(OSError, match="is taken"):
        network.bind(Address(A, 1), 0)
    first.close()
    assert isinstance(network.bind(Address(A, 1), 0), SimulatedSocket)


async def echo(connection: Connection) -> None:
    stream = await connection.accept_stream()
    while data := await stream.read(65_536):
        await stream.write(data)


async def two(network: Network) -> tuple[Endpoint, Endpoint]:
    server, client = [
        await Endpoint.open(
            Ed25519PrivateKey.generate(), Address(host, 7), handlers={ALPN: echo}, bind=network.bind
        )
        for host in (A, B)
    ]
    return server, client


def test_quic_gets_a_megabyte_through_a_bad_network() -> None:
    async def main() -> bytes:
        network = Network(3, Conditions((0.01, 0.08), loss=0.05, duplicates=0.05, reorder=0.1))
        server, client = await two(network)
        connection = await client.dial([server.address], expected=server.device, alpn=ALPN)
        stream = await connection.open_stream()
        sent = bytes(range(256)) * 4096
        writing = asyncio.ensure_future(stream.write(sent))
        got = b""
        while len(got) < len(sent):
            got += await stream.read(65_536)
        await writing
        await client.close()
        await server.close()
        assert network.counters["lost"] > 20
        return got

    assert run(main()) == bytes(range(256)) * 4096


def test_nobody_answers_across_a_partition_and_the_dial_ends_at_its_deadline() -> None:
    async def main() -> float:
        network = Network(3)
        server, client = await two(network)
        network.partition([[A], [B]])
        begun = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable):
            await client.dial([server.address], expected=server.device, alpn=ALPN, deadline_s=5)
        took = asyncio.get_running_loop().time() - begun
        await client.close()
        await server.close()
        return took

    assert run(main()) == pytest.approx(5, abs=0.1)
