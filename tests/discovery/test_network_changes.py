"""A node hears at once that its machine is on another network."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest

from discovery import network_changes
from simulation.processes.namespace import Namespace, reason_against_namespaces

WATCH = """
import asyncio
from discovery.network_changes import told_of_changes

async def main():
    changed = asyncio.Event()
    with told_of_changes(changed.set):
        print("ready", flush=True)
        while True:
            await changed.wait()
            changed.clear()
            print("changed", flush=True)

asyncio.run(main())
"""


def test_an_address_that_comes_or_goes_is_told() -> None:
    if reason := reason_against_namespaces():
        pytest.skip(reason)
    with Namespace() as namespace:
        watching = subprocess.Popen(
            [*namespace.enter, sys.executable, "-c", WATCH], stdout=subprocess.PIPE, text=True
        )
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline() == "ready\n"
            for change in ("addr add 10.1.2.3/8 dev lo", "addr del 10.1.2.3/8 dev lo"):
                namespace.ip(change)
                assert watching.stdout.readline() == "changed\n"
            namespace.ip("addr add fd12::1/64 dev lo")
            assert watching.stdout.readline() == "changed\n"
        finally:
            watching.kill()
            watching.communicate()


async def test_where_the_system_does_not_tell_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    with network_changes.told_of_changes(lambda: None):
        await asyncio.sleep(0)


async def test_a_system_that_forbids_it_is_one_that_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refuse)
    with network_changes.told_of_changes(lambda: None):
        await asyncio.sleep(0)
