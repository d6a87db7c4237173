"""The one wrapper around every method: no exception, path or traceback leaves this process.

What a pycapnp server method raises reaches the client with the server's traceback in its text. So
nothing raises: a Fault becomes the result's `error` as far as callers are to know it, anything else
the code `internal`; an id in the message leads to the details in the relay's log.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from relay.call import Call, Line
from relay.memory import busy
from relay.refusals import error_frame, is_for_callers
from relay.service import HEALTH, METHODS, Handler, RelayService, draining_refusal
from schemas.errors import Fault, Refused
from schemas.frames import ErrorFrame, fill_error
from schemas.node_service import UNIMPLEMENTED, NodeService
from telemetry.correlation import Trace, new_call

log = logging.getLogger(__name__)

_LAST_ANSWERS_S = 0.1  # an answer that is filled in has yet to pass KJ, QUIC and the socket


class CallDesk:
    """All calls of all connections: answers them, counts refusals by reason, drains at the end.

    `observe` hears of each call that is over: method, seconds.
    """

    def __init__(
        self, service: RelayService, observe: Callable[[str, float], None] = lambda *_: None
    ) -> None:
        self._service = service
        self._observe = observe
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    @property
    def refusals(self) -> Counter[str]:
        """What was refused, by code; an item of a batch counts like a call."""
        return self._service.refusals

    @property
    def running(self) -> int:
        """Calls that are being answered."""
        return self._running

    @property
    def stopping(self) -> bool:
        return self._stopping

    def server_for(self, line: Line) -> NodeServer:
        """The bootstrap capability of an RPC stream."""
        return NodeServer(self, line)

    async def stop(self, deadline_s: float) -> None:
        """Refuse new calls, and give those that run until the deadline to be answered."""
        self._stopping = True
        try:
            async with asyncio.timeout(deadline_s):
                await self._service.drain()
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d calls are cut off", self._running)
        await asyncio.sleep(_LAST_ANSWERS_S)

    async def answer(self, method: str, line: Line, context: Any) -> None:
        """Run one method and see to it that its results say how it went."""
        begun = time.perf_counter()
        self._running += 1
        self._idle.clear()
        with new_call(line.trace) as trace:
            try:
                handler = self._admit(method, line)
                await handler(self._service, Call(line, context.params, context.results))
            except Fault as fault:
                error = error_frame(fault)
                if is_for_callers(fault):
                    log.debug("%s: %s", method, fault.code)
                else:
                    error = _with_log(error, trace)
                    log.warning("%s: %s; the caller was told %s", method, fault, error.message)
                self._refuse(context, error)
            except Exception:
                log.exception("%s failed; the caller was told %s", method, trace)
                error = ErrorFrame(
                    "internal",
                    "the relay failed",
                    "try again; tell the relay's operator if it stays",
                )
                self._refuse(context, _with_log(error, trace))
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()
                took = time.perf_counter() - begun
                self._observe(method, took)
                log.debug("%s took %.1f ms", method, took * 1000)

    def _admit(self, method: str, line: Line) -> Handler:
        """What answers the call, if it may be made now."""
        if self._stopping and method != HEALTH:
            raise draining_refusal()
        if line.caller.memory.full and method != HEALTH:
            raise busy()
        line.caller.admit()
        handler = METHODS.get(method)
        if handler is None:
            raise Refused(
                UNIMPLEMENTED, f"this relay does not have {method}", hint="upgrade the relay"
            )
        return handler

    def _refuse(self, context: Any, error: ErrorFrame) -> None:
        self.refusals[error.code] += 1
        fill_error(context.results.init("error"), error)


def _with_log(error: ErrorFrame, trace: Trace) -> ErrorFrame:
    return replace(error, message=f"{error.message}; its log has the details under {trace}")


class NodeServer:
    """What pycapnp calls: every method of the interface, built or not, goes to the desk."""

    schema = NodeService.schema

    def __init__(self, desk: CallDesk, line: Line) -> None:
        self._desk = desk
        self._line = line

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[None]]:
        method = name.removesuffix("_context")
        if method == name or method not in self.schema.method_names_inherited:
            raise AttributeError(name)
        return functools.partial(self._desk.answer, method, self._line)
