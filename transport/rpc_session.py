"""Calls to the peer and capabilities for it, bounded in number and time; either end has one.

A session is one RPC stream's book: how many calls of ours wait at the peer, how many of the peer's
run here, which objects the peer may call. `serve_rpc` and `connect_rpc` make it live.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable

from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable

from .compact import Signal
from .errors import ConnectionLost, StreamReset
from .kj import KjException, KjTransport, Untyped, new_capability
from .limits import DEFAULT_LIMITS, TransportLimits
from .rpc_guard import ServerGuard
from .rpc_tables import NoteHeld, RpcTables

__all__ = ["RpcService", "RpcSession"]

log = logging.getLogger(__name__)

_MAX_REMOTE_TEXT = 200
_DEFAULT_DEADLINE = -1.0


class RpcSession:
    """One RPC stream as seen from this end.

    A server makes it before `serve_rpc`, so that its methods can call back capabilities that they
    were given; a client finds it as `RpcClient.session`.
    """

    def __init__(
        self,
        limits: TransportLimits = DEFAULT_LIMITS,
        counters: Counter[str] | None = None,
        note_held: NoteHeld = lambda _: True,
    ) -> None:
        self.limits = limits
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._slots = asyncio.Semaphore(limits.rpc_calls_in_flight)
        self._transport: KjTransport | None = None
        self._over = False
        self._exported = 0
        self.tables = RpcTables(limits, note_held)
        self._idle = Signal(is_set=True)

    def service(
        self, capability: Untyped, *, deadline_s: float | None = _DEFAULT_DEADLINE
    ) -> RpcService:
        """A capability of the peer, to be called within this session's bounds.

        It may be kept after the method that received it has returned; it ends with the stream.
        `deadline_s` bounds each call; the default is `rpc_call_deadline_s`, None is no bound.
        """
        if deadline_s == _DEFAULT_DEADLINE:
            deadline_s = self.limits.rpc_call_deadline_s
        return RpcService(self, capability, deadline_s)

    def export(self, interface: Untyped, server: object) -> Untyped:
        """`server` as a capability to hand to the peer in a parameter or a result.

        `server` needs no base class; its methods are as for `serve_rpc`, and so are the bounds.
        Raises Fault `too-many-exports` while the peer holds `rpc_exports` of them.
        """
        if self._exported >= self.limits.rpc_exports:
            raise Fault(
                "too-many-exports", "More objects than the peer may call", blame=Blame.CALLER
            )
        guard = self.guard(interface.schema, server)
        self._exported += 1
        weakref.finalize(guard, self._released)  # KJ holds it until the peer lets it go
        return new_capability(interface, guard)

    async def run(
        self, call: Callable[[], Awaitable[Untyped]], deadline_s: float | None
    ) -> Untyped:
        """Make one call in a slot of its own."""
        if self._over:
            raise await self._disconnected()
        try:
            async with asyncio.timeout(deadline_s), self._slots:
                return await call()
        except TimeoutError as error:
            raise Unreachable(
                "rpc-deadline", f"The peer did not answer a call for {deadline_s:g} s"
            ) from error
        except KjException as error:
            raise await self._fault(error) from error

    async def answered(self, deadline_s: float) -> None:
        """Wait until all that ended methods answer is written to the stream (see `Stream.drain`).

        Raises Unreachable `deadline`.
        """
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(deadline_s):
                await self._transport.answered()
        except TimeoutError as error:
            raise Unreachable(
                "deadline", f"Answers could not be written for {deadline_s:g} s"
            ) from error

    # Called by serve_rpc and connect_rpc

    def guard(self, schema: Untyped, server: Untyped) -> ServerGuard:
        """What KJ calls instead of `server`."""
        return ServerGuard(schema, server, self)

    def live(self, transport: KjTransport) -> None:
        if self._transport is not None:
            raise RuntimeError("an RpcSession is for one stream")
        self._transport = transport

    def over(self) -> None:
        """The stream is ending: calls from now on fail at once."""
        self._over = True

    def judge(self, fault: Fault | None) -> None:
        """Why the stream ended; counted if the peer broke a rule. Raises what nobody expects."""
        match fault:
            case None | ConnectionLost() | StreamReset():
                pass
            case Malformed() | Refused():
                self.counters[fault.code] += 1
                log.info("an RPC stream is ended: %s", fault.code)
            case _:
                raise fault

    async def drained(self, grace_s: float) -> int:
        """Wait until no method runs; returns how many still do after `grace_s`."""
        self.tables.over()
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            self.counters["rpc-method-stuck"] += 1
        return self.tables.methods

    # Called by guards

    def enter(self) -> None:
        """A method begins."""
        self.tables.methods += 1
        if self._transport is not None:
            self._transport.method_began()
        self._idle.clear()

    def leave(self) -> None:
        self.tables.methods -= 1
        if self._transport is not None:
            self._transport.room_for_calls()
        if not self.tables.methods:
            self._idle.set()

    # Inside

    def _released(self) -> None:
        self._exported -= 1

    async def _fault(self, error: Exception) -> Fault:
        kind = getattr(error, "type", "FAILED")
        if kind == "DISCONNECTED":
            return await self._disconnected()
        if kind == "UNIMPLEMENTED":
            return Refused(
                "unimplemented",
                "The peer does not know this method",
                blame=Blame.INCOMPATIBLE,
                hint="One of the two needs an update.",
            )
        if kind == "OVERLOADED":
            return Unreachable("overloaded", "The peer is overloaded", hint="Try again later.")
        lines = str(error).splitlines() or [""]
        said = "".join(c for c in lines[0] if c.isprintable())[-_MAX_REMOTE_TEXT:]
        return Fault("rpc-failed", f"The peer failed the call: {said}", blame=Blame.PEER)

    async def _disconnected(self) -> Fault:
        # KJ notices in the same turn as the pump; the pump knows why.
        if self._transport is not None:
            fault = await self._transport.why_over(self.limits.close_grace_s)
            if isinstance(fault, ConnectionLost):
                return fault
        return ConnectionLost(
            "rpc-disconnected", "The peer ended the RPC stream", blame=Blame.ENVIRONMENT
        )


class RpcService:
    """A capability of the peer whose calls are bounded in number and time.

    `await service.method(param=…)` or `request = service.method_request()`, fill it in, `await
    request.send()`; results are pycapnp's readers. Raises Fault `rpc-failed`, Unreachable
    `rpc-deadline`, ConnectionLost, Refused `unimplemented`. `capability` is the bare object.
    """

    def __init__(self, session: RpcSession, capability: Untyped, deadline_s: float | None) -> None:
        self._session = session
        self.capability = capability
        self._deadline_s = deadline_s

    def __getattr__(self, name: str) -> Untyped:
        bare = getattr(self.capability, name)
        if name.endswith("_request"):
            return lambda **fields: _Request(self._session, bare(**fields), self._deadline_s)

        async def call(*args: Untyped, **fields: Untyped) -> Untyped:
            if "name" in fields:  # pycapnp takes that word for its own
                request = getattr(self, f"{name}_request")()
                for field, value in fields.items():
                    setattr(request, field, value)
                return await request.send()
            return await self._session.run(lambda: bare(*args, **fields), self._deadline_s)

        return call


class _Request:
    """A pycapnp request whose `send` is bounded like a call."""

    def __init__(self, session: RpcSession, request: Untyped, deadline_s: float | None) -> None:
        object.__setattr__(self, "_bound", (session, request, deadline_s))

    def __getattr__(self, name: str) -> Untyped:
        return getattr(self._bound[1], name)

    def __setattr__(self, name: str, value: Untyped) -> None:
        setattr(self._bound[1], name, value)

    async def send(self) -> Untyped:
        session, request, deadline_s = self._bound
        return await session.run(request.send, deadline_s)
