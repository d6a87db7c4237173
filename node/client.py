"""A node for Python programs: `async with connect() as node`, and a bot is ten lines.

It asks the node that runs on a home, through its control socket; while none runs, it is one. What
is answered are the values of `node.api.shapes`; what is refused raises a `Fault` with a code, and
`Unreachable` when there was no network path. docs/bots.md has a whole example.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

from node.api import operations as op
from node.api import shapes as s
from node.api.configure import node_settings
from node.api.reading import seen
from node.api.session import Following, Session
from node.api.shapes import Account, Contact, Group, Invitation, LedgerRow, Message, Sent, WhyRow
from node.paths import home_of
from schemas.errors import Blame, Fault, Refused, Unreachable

__all__ = [
    "Account",
    "Blame",
    "Contact",
    "Fault",
    "Group",
    "Invitation",
    "LedgerRow",
    "Message",
    "Node",
    "Refused",
    "Sent",
    "Unreachable",
    "WhyRow",
    "connect",
]

R = TypeVar("R")
Event = dict[str, Any]

_CALLS: Final = 8  # at once, and as many followers of events besides
_WAITING_EVENTS: Final = 10_000  # of a program that does not take them
_BATCH: Final = 100
_NOT_NEWS: Final = frozenset({"heartbeat", "ledger", "contact-changed"})


@asynccontextmanager
async def connect(
    home: str | os.PathLike[str] | None = None,
    *,
    relays: Sequence[str] | None = None,
    mdns: bool | None = None,
    passphrase: Callable[[], bytes | None] = lambda: None,
) -> AsyncIterator[Node]:
    """The node of `home` (as for the command line: QUICNPROTOCHAT_HOME, else the default).

    `relays`, `mdns` and `passphrase` matter only when no node runs there yet. Leaving gives
    deliveries of a node of our own up to 3 s. Raises Fault `no-account`, `database-newer` and
    others of starting a node, with the first thing that is asked.
    """
    where = home_of(os.environ, None if home is None else os.fspath(home))
    settings = node_settings(
        where,
        os.environ,
        relays=tuple(relays) if relays else None,
        mdns=mdns,
        passphrase=passphrase,
    )
    async with using(Session(settings)) as node:
        yield node


@asynccontextmanager
async def using(opening: AbstractContextManager[Session]) -> AsyncIterator[Node]:
    """As `connect`, over a session that was made already; it is ended with the context."""
    loop = asyncio.get_running_loop()
    node = Node(await loop.run_in_executor(None, opening.__enter__))
    try:
        yield node
    except BaseException as error:
        node._end()
        await loop.run_in_executor(None, opening.__exit__, type(error), error, None)
        raise
    else:
        node._end()
        await loop.run_in_executor(None, opening.__exit__, None, None, None)


class Node:
    """What a program can ask. A GROUP is an id, a prefix of one or a name; so is a PERSON, and a
    card.

    A call that is cancelled may have taken effect.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls = ThreadPoolExecutor(_CALLS, "node-client")
        self._followers = ThreadPoolExecutor(_CALLS, "node-events")
        self._following: set[Following] = set()

    def _end(self) -> None:
        for following in tuple(self._following):
            following.end()
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._followers.shutdown(wait=False, cancel_futures=True)

    async def ask(self, operation: op.Operation[op.Q, op.A], request: op.Q) -> op.A:
        """Any operation of `node.api.operations`. Raises the Fault that refuses it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._calls, lambda: self._session.call(operation, request)
        )

    # --- people and groups

    async def whoami(self) -> Account:
        return await self.ask(op.WHOAMI, s.Nothing())

    async def contacts(self) -> list[Contact]:
        return await self.ask(op.CONTACTS, s.Nothing())

    async def add_contact(self, card: str) -> Contact:
        return await self.ask(op.ADD_CONTACT, s.AddContact(card))

    async def groups(self) -> list[Group]:
        """Those we are in, and (`accepted` False) those we are invited to."""
        return await self.ask(op.GROUPS, s.Nothing())

    async def group(self, group: str) -> Group:
        return await self.ask(op.GROUP, s.ByGroup(group))

    async def create_group(self, name: str, *, suite: str = "hybrid") -> Group:
        return await self.ask(op.CREATE_GROUP, s.CreateGroup(name, suite))

    async def invite(
        self, group: str, *people: str, role: str = "member", again: bool = False
    ) -> s.Invited:
        return await self.ask(op.INVITE, s.Invite(group, list(people), role, again))

    async def direct(self, person: str) -> Group:
        """The one-to-one group with a person, made if there is none."""
        return await self.ask(op.DIRECT, s.ByPerson(person))

    async def requests(self) -> list[Invitation]:
        """Invitations, and first messages of strangers."""
        return await self.ask(op.REQUESTS, s.Nothing())

    async def join(self, group: str) -> Group:
        return await self.ask(op.JOIN, s.ByGroup(group))

    async def leave(self, group: str) -> Group:
        return await self.ask(op.LEAVE, s.ByGroup(group))

    # --- messages

    async def send(self, group: str, text: str) -> Sent:
        """Queue a message to a group; it is on disk when this returns."""
        return await self.ask(op.SEND, s.Send(text, group=group))

    async def send_to(self, person: str, text: str) -> Sent:
        """As `send`, in the one-to-one group with a person, made if there is none."""
        return await self.ask(op.SEND, s.Send(text, person=person))

    async def ledger(self, message: str) -> list[LedgerRow]:
        """Where a message of ours is, per recipient device."""
        return await self.ask(op.LEDGER, s.ByMessage(message))

    async def why(self, message: str) -> list[WhyRow]:
        """Why it is not everywhere yet."""
        return await self.ask(op.WHY, s.ByMessage(message))

    async def history(self, group: str, *, after: int = 0, limit: int = 50) -> list[Message]:
        """The last messages of a group past an arrival number, our own too; moves no cursor."""
        return await self.ask(op.HISTORY, s.ReadHistory(group, after, limit))

    async def messages(
        self, group: str = "", *, cursor: str = "bot"
    ) -> AsyncGenerator[Message, None]:
        """Others' messages, of one group or all, for ever: each at least once per cursor.

        A message is acknowledged when the next one is asked for: what was being handled when the
        program died, or left the loop, comes again. A cursor has one reader at a time. Raises
        Fault `cursor-in-use`.
        """
        async with aclosing(self.events(cursor=cursor)) as events:
            async for event in events:
                if event["event"] in _NOT_NEWS:
                    continue
                request = s.ReadMessages(cursor, group, _BATCH)
                while batch := await self.ask(op.READ_MESSAGES, request):
                    for number, message in enumerate(batch, 1):
                        yield message
                        if far := seen(batch[:number], batch[number:]):
                            await self.ask(op.MOVE_CURSOR, s.MoveCursor(cursor, far))

    async def events(self, *, cursor: str = "") -> AsyncGenerator[Event, None]:
        """What happens from now on, as `quicnprotochat run --json` tells it, for ever.

        `subscribed` comes first, and again when another process took the node over: look at the
        state then, as well as after `lagged`.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        following = Following()

        def put(item: Event | BaseException | None) -> None:
            if isinstance(item, dict) and waiting.qsize() >= _WAITING_EVENTS:
                while not waiting.empty():
                    waiting.get_nowait()
                item = {"event": "lagged"}
            waiting.put_nowait(item)

        def follow() -> None:
            last: BaseException | None = None
            try:
                for event in self._session.events(cursor=cursor, following=following):
                    loop.call_soon_threadsafe(put, event)
            except BaseException as error:  # noqa: BLE001 - handed to the program's task
                last = error
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(put, last)

        self._following.add(following)
        self._followers.submit(follow)
        try:
            while (item := await waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._following.discard(following)
            following.end()
