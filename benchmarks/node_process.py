"""A real node in a process of its own, for measurements; times are CLOCK_MONOTONIC seconds.

The parent calls, the child runs the coroutine of that name in `_Child` and sends back what it
answers. CLOCK_MONOTONIC is one clock for all processes of a machine, so that times compare.
"""

from __future__ import annotations

import asyncio
import cProfile
import multiprocessing
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from node.engine import commands as c
from node.engine.values import Event
from node.home import create_home
from node.node import Node, NodeConfig
from schemas.addresses import Address
from schemas.ids import GroupId, IdentityKey
from storage.sqlite import open_database, transaction
from transport.kj import kj_loop

PROFILE = "PROFILE_NODES"  # a folder: each process leaves the profiles of its two threads there
_ANSWER_S = 120.0


class NodeProcess:
    """The parent's handle; `call` waits for the answer, `start` and `finish` do it in two steps."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_main, args=(home, name, theirs), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self.finish()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join(10)
        self._process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def call(self, method: str, *arguments: Any) -> Any:
        self.start(method, *arguments)
        return self.finish()

    def start(self, method: str, *arguments: Any) -> None:
        self._pipe.send((method, arguments))

    def finish(self) -> Any:
        if not self._pipe.poll(_ANSWER_S):
            raise TimeoutError(f"{self.name} does not answer")
        worked, answer = self._pipe.recv()
        if not worked:
            raise RuntimeError(f"{self.name}: {answer}")
        return answer


def _main(home: Path, name: str, pipe: Connection) -> None:
    folder = os.environ.get(PROFILE)
    if folder is None:
        asyncio.run(_serve(home, name, pipe))
        return
    profiled = partial(_profiled, folder, name)
    threading.Thread.run = _profiled_run(threading.Thread.run, profiled)  # type: ignore[method-assign, assignment]
    profiled("loop", lambda: asyncio.run(_serve(home, name, pipe)))


def _profiled(folder: str, name: str, what: str, work: Callable[[], None]) -> None:
    profile = cProfile.Profile()
    profile.runcall(work)
    profile.dump_stats(f"{folder}/{name}.{what}.prof")


def _profiled_run(
    run: Callable[[threading.Thread], None], profiled: Callable[[str, Callable[[], None]], None]
) -> Callable[[threading.Thread], None]:
    def profiled_run(thread: threading.Thread) -> None:
        if thread.name == "engine":
            profiled("engine", lambda: run(thread))
        else:
            run(thread)

    return profiled_run


async def _serve(home: Path, name: str, pipe: Connection) -> None:
    create_home(home / name, name)
    config = NodeConfig(home / name, listen=Address("127.0.0.1", 0), mdns=False)
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.add_reader(pipe.fileno(), called.set)
    async with kj_loop(), Node.running(config) as node, _child(node, home) as child:
        pipe.send((True, None))
        while True:
            await called.wait()
            called.clear()
            while pipe.poll():
                request = pipe.recv()
                if request is None:
                    loop.remove_reader(pipe.fileno())
                    return
                method, arguments = request
                try:
                    answer = await getattr(child, method)(*arguments)
                except Exception as error:  # noqa: BLE001 - the parent raises it
                    pipe.send((False, repr(error)))
                else:
                    pipe.send((True, answer))


@asynccontextmanager
async def _child(node: Node, home: Path) -> AsyncIterator[_Child]:
    with node.subscribe() as events:
        child = _Child(node, home)
        reading = asyncio.create_task(child.read(events))
        try:
            yield child
        finally:
            reading.cancel()


class _Child:
    """What the parent may call. Messages are named by their ids in hex."""

    def __init__(self, node: Node, home: Path) -> None:
        self._node = node
        self._bare = open_database(home / f"{node.name}-bare.db")
        self._bare.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body BLOB)")
        self._arrived: dict[str, float] = {}
        self._came = asyncio.Event()

    async def read(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if event.kind == "message":
                self._arrived[str(event.fields["message"])] = time.monotonic()
                self._came.set()
            elif event.kind == "lagged":
                raise RuntimeError("the benchmark missed events")

    async def card(self) -> str:
        return (await self._node.ask(c.WhoAmI())).card

    async def add(self, card: str) -> str:
        return (await self._node.add_contact(card)).identity.hex()

    async def direct(self, identity: str, suite: int) -> str:
        return (
            await self._node.direct_group(IdentityKey.from_hex(identity), suite=suite)
        ).group.hex()

    async def join(self, group: str) -> None:
        while group not in {g.group.hex() for g in await self._node.ask(c.ListGroups())}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await self._node.ask(c.Join(GroupId.from_hex(group)))

    async def send(self, group: str, text: str) -> tuple[str, float, float]:
        """(message, when the call was made, when it was accepted)."""
        called = time.monotonic()
        sent = await self._node.ask(c.Send(GroupId.from_hex(group), text))
        return sent.message.hex(), called, time.monotonic()

    async def send_many(self, group: str, text: str, count: int, at_once: int) -> tuple[float, str]:
        """Keeps `at_once` sends under way; (when the first was called, the last message)."""
        left, last = count, ""
        target = GroupId.from_hex(group)

        async def one_by_one() -> None:
            nonlocal left, last
            while left > 0:
                left -= 1
                last = (await self._node.ask(c.Send(target, text))).message.hex()

        began = time.monotonic()
        await asyncio.gather(*(one_by_one() for _ in range(at_once)))
        return began, last

    async def arrived(self, message: str) -> float:
        """When its event was here."""
        async with asyncio.timeout(10):
            while message not in self._arrived:
                self._came.clear()
                await self._came.wait()
        return self._arrived[message]

    async def arrived_count(self, count: int) -> float:
        """When the `count`th event since the last call of this was here."""
        async with asyncio.timeout(100):
            while len(self._arrived) < count:
                self._came.clear()
                await self._came.wait()
        last = max(self._arrived.values())
        self._arrived.clear()
        return last

    async def settled(self) -> None:
        """Until nothing is owed or under way."""
        await self._node.drained(10)
        await asyncio.sleep(0.3)

    async def forget(self) -> None:
        self._arrived.clear()

    async def commit_row(self, size: int) -> float:
        """Seconds for one durable row of a bare database."""
        began = time.monotonic()
        with transaction(self._bare):
            self._bare.execute("INSERT INTO rows (body) VALUES (?)", (os.urandom(size),))
        return time.monotonic() - began

    async def ping(self, identity: str) -> float:
        """Seconds for a round trip of two frames on the link."""
        return (await self._node.ping(identity)).rtt_ms / 1000

    async def cpu(self) -> float:
        """CPU seconds of this process so far."""
        return time.process_time()

    async def counters(self) -> dict[str, int]:
        return dict(self._node.counters)
