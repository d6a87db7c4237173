"""Runs a node with its control server: for `run`, and inside a command when none is running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.api.client import Client, NodeGone, NotRunning
from node.api.operations import NODE
from node.api.server import ControlServer, control_server
from node.api.service import ServedNode, Service
from node.api.settings import NodeSettings
from node.api.shapes import Nothing
from node.encryption import is_encrypted
from node.engine.values import Event
from node.home import create_home, require_account
from node.node import Node, NodeConfig
from schemas.addresses import Address
from schemas.errors import Blame, Fault
from transport.kj import kj_loop

LINGER_S: Final = 3.0  # for deliveries, after the last change
_LINGER_MOST_S: Final = 30.0  # however many commands join meanwhile
_TAKE_OVER_S: Final = 10.0  # `run` waits for a command that has the home to end
_LOOK_S: Final = 0.2
_FLUSH_S: Final = 1.0  # when told to end: for what waits and can leave now
_STOP_S: Final = 15.0  # then it ends whatever hangs: all that was accepted is on disk


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hosted:
    """A node and its control server, both running."""

    node: ServedNode
    server: ControlServer


def new_home(home: Path, name: str, passphrase: bytes | None = None) -> None:
    """A new account in a new home. Raises Fault `home-exists`, `bad-name` and others."""
    create_home(home, name, passphrase)


def passphrase_for(settings: NodeSettings) -> bytes | None:
    """Asked of the user, in the calling thread, when the home needs one."""
    return settings.passphrase() if is_encrypted(settings.home) else None


@asynccontextmanager
async def hosting(
    settings: NodeSettings, *, lasting: bool, passphrase: bytes | None = None
) -> AsyncIterator[Hosted]:
    """The node of a home and its control server, until the context is left.

    The order matters: the node takes the lock before the socket is bound, and lets go of it after
    the socket is removed. Raises the Faults of Node.running and of the control socket.
    """
    require_account(settings.home)  # before the lock: a mistyped home is not made
    config = NodeConfig(
        home=settings.home,
        passphrase=passphrase,
        listen=None if settings.listen is None else Address.parse(settings.listen),
        relays=settings.relays,
        mdns=settings.mdns,
        mdns_interfaces=settings.mdns_interfaces,
        lan_visibility=settings.lan_visibility,
        port_mapping=settings.port_mapping,
        dht=settings.dht,
        dht_visibility=settings.dht_visibility,
        bootstrap=settings.bootstrap,
        post_quantum_only=settings.post_quantum_only,
    )
    async with (
        kj_loop(),
        Node.running(config) as node,
        control_server(settings.home, Service(node, lasting=lasting)) as server,
    ):
        yield Hosted(node, server)


async def _linger(hosted: Hosted) -> None:
    """Until nothing waits that could leave now, or LINGER_S after the last change.

    A command that only looked does not wait for what an earlier one could not deliver.
    """
    end = time.monotonic() + _LINGER_MOST_S
    before = 0
    while hosted.server.changes != before and (left := end - time.monotonic()) > 0:
        before = hosted.server.changes
        await hosted.node.drained(min(LINGER_S, left))


class InProcessNode:
    """A node in a thread of this process, for the length of a command."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._passphrase = passphrase_for(settings)
        self._ready = threading.Event()
        self._fault: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._lingering = False
        self._linger_task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name="node", daemon=True)

    def start(self) -> None:
        """Returns when the socket is served. Raises Fault `already-running` and others."""
        self._thread.start()
        self._ready.wait()
        if self._fault is not None:
            self._thread.join()
            raise self._fault

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def finish(self, *, linger: bool) -> None:
        """End the node; with `linger` give deliveries their time first. What is not delivered
        stays on disk."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
                self._loop.call_soon_threadsafe(self._end, linger)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            if linger:
                self.finish(linger=False)
            raise

    def _end(self, linger: bool) -> None:
        self._lingering = linger
        self._stop.set()
        if not linger and self._linger_task is not None:
            self._linger_task.cancel()

    def raise_fault(self) -> None:
        """What ended the node before it was told to end, if something did."""
        if self._fault is not None:
            raise self._fault

    def _main(self) -> None:
        try:
            asyncio.run(self._host())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that started us
            self._fault = the_fault(error)
        finally:
            self._ready.set()

    async def _host(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with hosting(self._settings, lasting=False, passphrase=self._passphrase) as hosted:
            self._ready.set()
            await self._stop.wait()
            if self._lingering:
                self._linger_task = asyncio.create_task(_linger(hosted))
                await asyncio.wait({self._linger_task})
                if not self._linger_task.cancelled():
                    self._linger_task.result()


def run(
    settings: NodeSettings,
    *,
    ready: Callable[[dict[str, object]], None],
    event: Callable[[dict[str, object]], None],
    waiting: Callable[[str], None],
) -> None:
    """Run the node of a home until SIGINT, SIGTERM or SIGHUP; a second ends the process at once.

    The first gives what can leave now a second, and the whole end has a deadline.

    `ready` is called once with listen, web and device; `event` with each event; `waiting` with a
    sentence when the home is in use by a command that is about to end. Raises the Faults of
    `hosting`.
    """
    try:
        asyncio.run(_run(settings, passphrase_for(settings), ready, event, waiting))
    except BaseExceptionGroup as group:
        raise the_fault(group) from None


async def _run(
    settings: NodeSettings,
    passphrase: bytes | None,
    ready: Callable[[dict[str, object]], None],
    event: Callable[[dict[str, object]], None],
    waiting: Callable[[str], None],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        overdue = threading.Timer(_STOP_S, _give_up)  # a thread: the loop may be what hangs
        overdue.daemon = True
        overdue.start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(number, on_signal)
    deadline, told = loop.time() + _TAKE_OVER_S, False
    while not stop.is_set():
        try:
            async with hosting(settings, lasting=True, passphrase=passphrase) as hosted:
                with hosted.node.subscribe() as events:
                    listen, device = str(hosted.node.listen), hosted.node.device.hex()
                    ready({"event": "ready", "listen": listen, "web": None, "device": device})
                    stopping = asyncio.create_task(stop.wait())
                    telling = asyncio.create_task(_tell(events, event))
                    done, rest = await asyncio.wait(
                        {stopping, telling}, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in rest:
                        task.cancel()
                    await asyncio.gather(*rest, return_exceptions=True)
                    for task in done:
                        task.result()
                await hosted.node.drained(_FLUSH_S)
            return
        except Fault as fault:
            if fault.code != "already-running" or loop.time() > deadline:
                raise
            if await asyncio.to_thread(_is_lasting, settings.home):
                raise
        if not told:
            waiting("a command uses this home; waiting for it to end")
            told = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await stop.wait()


def _give_up() -> None:
    log.critical("the node did not end within %g s of being told to", _STOP_S)
    os._exit(1)


async def _tell(events: AsyncIterator[Event], tell: Callable[[dict[str, object]], None]) -> None:
    async for event in events:
        tell({"event": event.kind, **event.fields})


def _is_lasting(home: Path) -> bool:
    try:
        return Client(home).call(NODE, Nothing(), timeout_s=2.0).lasting
    except (NotRunning, NodeGone, Fault):
        return False


def the_fault(error: BaseException) -> BaseException:
    """The one Fault inside the groups that task groups make; a bug becomes one (`internal`)."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        faults = error.subgroup(Fault)
        if faults is not None and faults.exceptions:
            return the_fault(faults.exceptions[0])
    if isinstance(error, Exception) and not isinstance(error, (Fault, BrokenPipeError)):
        fault = Fault(
            "internal",
            f"this program failed: {error!r}",
            blame=Blame.CALLER,
            hint="please report it; --verbose shows more",
        )
        fault.__cause__ = error
        return fault
    return error
