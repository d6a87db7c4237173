"""A real relay on the simulated network, which may be told to withhold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from relay.config import load_config
from relay.server import open_relay
from relay.store.contract import MailboxName
from relay.store.sqlite.store import SqliteStore
from schemas.ids import DeviceKey
from schemas.node_service import Mailbox
from simulation.wire.loop import VirtualLoop
from simulation.wire.network import Network
from transport import kj_loop

HOST: Final = "10.255.0.1"
_LISTEN: Final = f"{HOST}:7000"


class SimulatedRelay:
    """Started by `start`; nodes use it at `address`."""

    address: str

    def __init__(self, folder: Path, network: Network, clock: Callable[[], float]) -> None:
        self._config = load_config({"listen": _LISTEN, "data_dir": str(folder)}, {}, None)
        self._network = network
        self._clock = clock
        self._withheld: frozenset[DeviceKey] = frozenset()
        self._stopping = asyncio.Event()
        self._store: SqliteStore
        self._life: asyncio.Task[None]

    async def start(self) -> None:
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(started), name="relay")
        await asyncio.wait({started, self._life}, return_when="FIRST_COMPLETED")
        if self._life.done():
            self._life.result()

    async def stop(self) -> None:
        self._stopping.set()
        await self._life

    async def _live(self, started: asyncio.Future[None]) -> None:
        async with (
            kj_loop(),
            open_relay(
                self._config,
                clock=self._clock,
                certificate_clock=self._clock,
                bind=self._network.bind,
            ) as relay,
        ):
            self.address = str(relay.address)
            self._store = cast(SqliteStore, relay.store)
            self._take_hold()
            started.set_result(None)
            await self._stopping.wait()

    def _take_hold(self) -> None:
        """Of the two places where it writes to disk and where it looks into mailboxes."""
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        writer = self._store.database.writer
        submit, peek = writer.submit, self._store.peek

        def submit_and_wait(*what: Any, **how: Any) -> asyncio.Future[Any]:
            done = submit(*what, **how)
            loop.wait_for_thread(done)
            return done

        async def peek_unless_withheld(name: MailboxName, **how: Any) -> Mailbox:
            mailbox = await peek(name, **how)
            if name.recipient in self._withheld:
                return Mailbox((), 0, 0, mailbox.refused_since)
            return mailbox

        writer.submit = submit_and_wait  # type: ignore[method-assign]
        self._store.peek = peek_unless_withheld  # type: ignore[method-assign]

    def withhold(self, recipients: frozenset[DeviceKey]) -> None:
        """Their mailboxes look empty to whoever reads them, until `release`."""
        self._withheld |= recipients

    def release(self) -> None:
        shown, self._withheld = self._withheld, frozenset()
        for device in shown:
            self._store.arrivals.announce(MailboxName(device))
