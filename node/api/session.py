"""One way to ask, whether a node runs or not: join it through its socket, else be it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from node.api.client import ANSWER_S, Client, Event, NodeGone, NotRunning
from node.api.operations import A, Operation, Q
from node.api.settings import NodeSettings
from schemas.errors import Fault

if TYPE_CHECKING:
    from node.api.host import InProcessNode

_JOIN_S: Final = 15.0  # for the other process to open its socket, or to let go of the home
_LOOK_S: Final = 0.1
_ENDING: Final = frozenset({"engine-crashed", "engine-stopped"})  # its socket is about to go


class Following:
    """Ends `Session.events` from another thread, wherever it waits."""

    def __init__(self) -> None:
        self.ended = False
        self._wire: socket.socket | None = None

    def opened(self, wire: socket.socket) -> None:
        self._wire = wire
        if self.ended:
            self.end()

    def end(self) -> None:
        self.ended = True
        if self._wire is not None:
            with contextlib.suppress(OSError):
                self._wire.shutdown(socket.SHUT_RDWR)


class Session:
    """Asks the home's node, and runs it in this process for as long as nobody else does.

    As a context manager: leaving it gives deliveries up to 3 s, unless by an exception. Threads
    may share it.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._client = Client(settings.home)
        self._own: InProcessNode | None = None
        self._becoming = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._own is not None:
            interrupted = kind is not None and not issubclass(kind, Exception)
            self._own.finish(linger=not interrupted)
            self._own = None

    def call(self, operation: Operation[Q, A], request: Q, *, timeout_s: float = ANSWER_S) -> A:
        """The answer. Raises the Fault that refuses it, and those of starting a node."""
        deadline = time.monotonic() + _JOIN_S
        while True:
            try:
                return self._client.call(operation, request, timeout_s=timeout_s)
            except NotRunning:
                self._be_or_wait(deadline)
            except NodeGone:
                if operation.method != "GET" or time.monotonic() > deadline:
                    raise
                self._be_or_wait(deadline)
            except Fault as fault:
                late = operation.method != "GET" or time.monotonic() > deadline
                if late or fault.code not in _ENDING:
                    raise
                time.sleep(_LOOK_S)
                self._be_or_wait(deadline)

    def events(
        self,
        deadline: float | None = None,
        *,
        cursor: str = "",
        following: Following | None = None,
    ) -> Generator[Event, None, None]:
        """Events until `deadline` (of `time.monotonic`), whoever runs the node meanwhile.

        `subscribed` comes first, and again after each change of hands: look at the state then,
        as well as after `lagged`. A named cursor has one follower at a time: Fault
        `cursor-in-use`.
        """
        following = following or Following()
        patience = time.monotonic() + _JOIN_S
        while deadline is None or time.monotonic() < deadline:
            try:
                for event in self._client.events(deadline, cursor=cursor, opened=following.opened):
                    patience = time.monotonic() + _JOIN_S
                    yield event
                return
            except (NotRunning, NodeGone):
                if following.ended:
                    return
                self._be_or_wait(patience)

    def _be_or_wait(self, deadline: float) -> None:
        """Start a node here, or give the process that has the home a moment to serve."""
        with self._becoming:
            if self._own is None or not self._own.alive:
                self._become_or_wait(deadline)

    def _become_or_wait(self, deadline: float) -> None:
        from node.api.host import InProcessNode

        if self._own is not None:
            own, self._own = self._own, None
            own.raise_fault()
        own = InProcessNode(self._settings)
        try:
            own.start()
        except Fault as fault:
            if fault.code != "already-running" or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_S)
        else:
            self._own = own
