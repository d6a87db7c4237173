"""Wakes who waits for mail when any process commits some, by LISTEN and NOTIFY.

A notice is part of the transaction that brought the mail: it comes when that is visible, and not
otherwise. It holds who sent it, and the beginning of each recipient's key: whoever is woken for
nothing finds nothing. A listener that was cut off may have missed some, so it wakes everybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import asyncpg

from relay.store.arrivals import PREFIX_LENGTH, Arrivals
from relay.store.postgres.connecting import CONNECT_S, Connection
from relay.store.postgres.failures import blaming_the_server
from relay.upkeep import Upkeep
from schemas.errors import Fault
from schemas.ids import DeviceKey

log = logging.getLogger(__name__)

CHANNEL: Final = "relay_mail"
WORK: Final = "wakeups"
ORIGIN_LENGTH: Final = 8  # characters
_WORD: Final = 8  # characters of a prefix
WORDS: Final = 900  # per notice; PostgreSQL takes less than 8,000 bytes
LOOK_AFTER_S: Final = 20.0  # a network that swallows everything is noticed then
DOUBT_S: Final = 60.0  # a commit whose answer was lost is over by then
AGAIN_S: Final = (0.05, 5.0)  # the first pause before another try, and the longest


def notices(origin: str, recipients: Iterable[DeviceKey]) -> list[str]:
    """What tells other processes of mail for these."""
    words = sorted({b64encode(bytes(each)[:PREFIX_LENGTH]).decode() for each in recipients})
    return [origin + "".join(words[at : at + WORDS]) for at in range(0, len(words), WORDS)]


class Wakeups:
    """Listens until it is closed; `on_lost` hears why it cannot, `on_back` that it can again."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        arrivals: Arrivals,
        origin: str,
        on_lost: Callable[[Fault], None],
        on_back: Callable[[], Awaitable[None]],
        upkeep: Upkeep,
    ) -> None:
        self._connect = connect
        self._arrivals = arrivals
        self._origin = origin
        self._on_lost = on_lost
        self._on_back = on_back
        self._upkeep = upkeep
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_doubt_until = 0.0  # by time.monotonic

    async def open(self) -> None:
        """Returns once it listens. Raises as `connect`."""
        self._connection = await self._listen()
        self._task = self._upkeep.start(WORK, self._work)

    async def close(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._let_go()

    def heed_own(self) -> None:
        """For DOUBT_S, notices of this process wake as others' do: it may not know of a commit."""
        self._in_doubt_until = time.monotonic() + DOUBT_S

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _listen(self) -> Connection:
        connection = await self._connect()
        try:
            with blaming_the_server():
                await connection.add_listener(CHANNEL, self._heard)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _work(self) -> None:
        try:
            await self._keep_listening()
        except Exception:
            self._let_go()  # beginning anew, it listens anew, and wakes everybody
            raise

    async def _keep_listening(self) -> None:
        pause, longest = AGAIN_S
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._listen()
                    self._arrivals.wake_all()
                    await self._on_back()
                    log.warning("the database is back")
                    self._upkeep.got_through(WORK)
                pause = AGAIN_S[0]
                with blaming_the_server():
                    await _until_lost(self._connection)
            except Fault as fault:
                self._on_lost(fault)
                self._let_go()
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    def _heard(self, _: Connection, pid: int, channel: str, notice: str) -> None:
        if not notice.startswith(self._origin) or time.monotonic() < self._in_doubt_until:
            words = notice[ORIGIN_LENGTH:]
            for at in range(0, len(words), _WORD):
                self._arrivals.announce_prefix(b64decode(words[at : at + _WORD]))


async def _until_lost(connection: Connection) -> None:
    """Raises what ended it."""
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _: ended.set())
    while not ended.is_set():
        try:
            async with asyncio.timeout(LOOK_AFTER_S):
                await ended.wait()
        except TimeoutError:
            await connection.fetchval("SELECT 1", timeout=CONNECT_S)
    raise asyncpg.ConnectionDoesNotExistError("the listening connection ended")
