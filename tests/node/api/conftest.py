"""A control server over a fake node, on a loop in a thread of its own, as commands meet it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.api.client import Client
from node.api.server import control_server
from node.api.service import Service
from tests.node.api.fake_node import FakeNode


@dataclass
class Served:
    """`end` stops the server and waits for it."""

    home: Path
    node: FakeNode
    client: Client
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    thread: threading.Thread

    def on_loop(self, function: Any, *args: Any) -> None:
        self.loop.call_soon_threadsafe(function, *args)

    def end(self) -> None:
        if self.thread.is_alive():
            self.on_loop(self.stop.set)
            self.thread.join(20)
        assert not self.thread.is_alive(), "the server does not end"


def serve(home: Path, *, heartbeat_s: float | None = None) -> Served:
    node, stop = FakeNode(), asyncio.Event()
    started = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    problems: list[BaseException] = []

    async def main() -> None:
        service = Service(node, lasting=True)
        async with control_server(home, service, heartbeat_s=heartbeat_s):
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - shown by the test
            problems.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(20)
    if problems:
        raise problems[0]
    return Served(home, node, Client(home), loops[0], stop, thread)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = serve(tmp_path)
    yield server
    server.end()
