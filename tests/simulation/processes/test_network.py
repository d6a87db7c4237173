"""The switch between namespaces: what it delays is late, what it cuts does not arrive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from simulation.processes.network import Network, Place, Trouble, reason_against

PORT = 9
ECHO = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", {PORT}))
    print("ready", flush=True)
    while True:
        sock.sendto(*sock.recvfrom(2000))
"""
ASK = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(float(sys.argv[3]))
    for number in range(int(sys.argv[2])):
        begun = time.monotonic()
        sock.sendto(bytes(1200), (sys.argv[1], PORT))
        try:
            sock.recv(2000)
            print(time.monotonic() - begun)
        except TimeoutError:
            print("inf")
""".replace("PORT", str(PORT))


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := reason_against():
        pytest.skip(reason)
    with Network(seed=1) as found:
        yield found


@pytest.fixture
def places(network: Network) -> Iterator[list[Place]]:
    """Three; the second answers every datagram."""
    found = [network.add() for _ in range(3)]
    with subprocess.Popen(
        [*found[1].enter, sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
    ) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        yield found
        echo.kill()


def rounds(here: Place, there: Place, count: int, timeout_s: float = 0.5) -> list[float]:
    """Round trips in seconds; infinite for what is lost."""
    done = subprocess.run(
        [*here.enter, sys.executable, "-c", ASK, there.address, str(count), str(timeout_s)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(line) for line in done.stdout.splitlines()]


def test_frames_take_their_time(network: Network, places: list[Place]) -> None:
    rounds(places[0], places[1], 1)  # who has that address is asked first
    network.trouble = Trouble(latency_s=(0.05, 0.06))
    assert all(0.1 <= each < float("inf") for each in rounds(places[0], places[1], 3))


def test_some_are_lost(network: Network, places: list[Place]) -> None:
    rounds(places[0], places[1], 1)
    network.trouble = Trouble(loss=0.3)
    found = rounds(places[0], places[1], 25, timeout_s=0.1)
    assert 0 < found.count(float("inf")) < 25
    assert network.lost > 0


def test_a_partition_holds_until_it_is_healed(network: Network, places: list[Place]) -> None:
    ada, bob, cy = places
    network.part([[ada], [bob, cy]])
    assert rounds(ada, bob, 1) == [float("inf")]
    assert rounds(cy, bob, 1) < [float("inf")]
    network.heal()
    assert rounds(ada, bob, 2)[-1] < float("inf")


def test_a_link_can_be_cut_one_way(network: Network, places: list[Place]) -> None:
    ada, bob, _ = places
    rounds(ada, bob, 1)
    network.cut(bob, ada)
    refused = network.refused
    assert rounds(ada, bob, 1) == [float("inf")]
    assert network.refused > refused


def test_no_process_stays_behind() -> None:
    if reason := reason_against():
        pytest.skip(reason)
    with Network() as network:
        place = network.add()
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*place.enter, "true"], check=True, capture_output=True)
