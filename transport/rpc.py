"""Cap'n Proto RPC on one bidirectional stream, with the bounds that the library lacks.

Calls in flight are bounded at both ends: a server reads nothing more while it works on
`rpc_calls_in_flight` calls (so a method may not wait for something that the same peer has yet to
send on the same stream), a client waits for a free slot. Every call has a deadline. No exception's
text, traceback or path crosses to the peer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import capnp
from capnp.lib.capnp import fill_context

from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable
from schemas.limits import traversal_words

from .errors import ConnectionLost, StreamReset
from .kj import KjException, KjTransport, Untyped, kj_loop
from .limits import DEFAULT_LIMITS, TransportLimits
from .stream import Stream

__all__ = ["RpcClient", "RpcService", "connect_rpc", "kj_loop", "serve_rpc"]

log = logging.getLogger(__name__)

_MAX_REMOTE_TEXT = 200
_DEFAULT_DEADLINE = -1.0


async def serve_rpc(
    stream: Stream,
    bootstrap: Untyped,
    *,
    limits: TransportLimits = DEFAULT_LIMITS,
    counters: Counter[str] | None = None,
) -> None:
    """Serve `bootstrap` (an instance of a pycapnp `Server`) until the stream or connection ends.

    Methods are coroutines, `name(self, param, …, _context)` or `name_context(self, context)`; one
    that raises fails that call only, is logged here and counted as `rpc-method-crashed`. Returns
    when the peer ended, also abruptly; a peer that sent no Cap'n Proto is counted as
    `rpc-malformed`. Running methods are cancelled at the end.
    """
    counters = Counter() if counters is None else counters
    transport = KjTransport(stream, limits)
    guard = _ServerGuard(bootstrap, transport, limits, counters)
    server: Untyped = capnp.TwoPartyServer(
        transport.io,
        bootstrap=guard,
        traversal_limit_in_words=traversal_words(limits.rpc_message),
        nesting_limit=limits.rpc_nesting,
    )
    try:
        fault = await transport.run(server.on_disconnect)
        if fault is not None and not isinstance(fault, ConnectionLost | StreamReset):
            raise fault
    finally:
        transport.lose("the server ends")
        server.close()
        stream.cancel()
        await guard.drained(limits.close_grace_s)


@asynccontextmanager
async def connect_rpc(
    stream: Stream, *, limits: TransportLimits = DEFAULT_LIMITS
) -> AsyncIterator[RpcClient]:
    """The client's end; leaving the context ends the stream and fails what is still in flight."""
    transport = KjTransport(stream, limits)
    client: Untyped = capnp.TwoPartyClient(
        transport.io,
        traversal_limit_in_words=traversal_words(limits.rpc_message),
        nesting_limit=limits.rpc_nesting,
    )
    pump = asyncio.create_task(transport.run(client.on_disconnect), name="rpc client")
    rpc = RpcClient(client, pump, limits)
    try:
        yield rpc
    finally:
        transport.lose("the client ends")
        client.close()
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        stream.cancel()


class RpcClient:
    """A connected client; `cast_as` gives the peer's bootstrap capability as one interface."""

    def __init__(
        self, client: Untyped, pump: asyncio.Task[Fault | None], limits: TransportLimits
    ) -> None:
        self._client = client
        self._pump = pump
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.rpc_calls_in_flight)

    def cast_as(
        self, interface: Untyped, *, deadline_s: float | None = _DEFAULT_DEADLINE
    ) -> Untyped:
        """The bootstrap capability as `interface`, an RpcService.

        `deadline_s` bounds each call; the default is `rpc_call_deadline_s`, None is no bound.
        """
        if deadline_s == _DEFAULT_DEADLINE:
            deadline_s = self._limits.rpc_call_deadline_s
        return RpcService(self, self._client.bootstrap().cast_as(interface), deadline_s)

    async def run(
        self, call: Callable[[], Awaitable[Untyped]], deadline_s: float | None
    ) -> Untyped:
        """Make one call in a slot of its own."""
        try:
            async with asyncio.timeout(deadline_s), self._slots:
                return await call()
        except TimeoutError as error:
            raise Unreachable(
                "rpc-deadline", f"The peer did not answer a call for {deadline_s:g} s"
            ) from error
        except KjException as error:
            raise await self._fault(error) from error

    async def _fault(self, error: Exception) -> Fault:
        kind = getattr(error, "type", "FAILED")
        if kind == "DISCONNECTED":
            # KJ notices in the same turn as the pump; the pump knows why.
            done, _ = await asyncio.wait({self._pump}, timeout=self._limits.close_grace_s)
            if done and not self._pump.cancelled() and self._pump.exception() is None:
                fault = self._pump.result()
                if isinstance(fault, ConnectionLost):
                    return fault
            return ConnectionLost(
                "rpc-disconnected", "The peer ended the RPC stream", blame=Blame.ENVIRONMENT
            )
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


class RpcService:
    """A capability of the peer whose calls are bounded in number and time.

    `await service.method(param=…)` or `request = service.method_request()`, fill it in, `await
    request.send()`; results are pycapnp's readers. Raises Fault `rpc-failed`, Unreachable
    `rpc-deadline`, ConnectionLost, Refused `unimplemented`. `capability` is the bare object.
    """

    def __init__(self, client: RpcClient, capability: Untyped, deadline_s: float | None) -> None:
        self._client = client
        self.capability = capability
        self._deadline_s = deadline_s

    def __getattr__(self, name: str) -> Untyped:
        bare = getattr(self.capability, name)
        if name.endswith("_request"):
            return lambda **fields: _Request(self._client, bare(**fields), self._deadline_s)

        async def call(*args: Untyped, **fields: Untyped) -> Untyped:
            return await self._client.run(lambda: bare(*args, **fields), self._deadline_s)

        return call


class _Request:
    """A pycapnp request whose `send` is bounded like a call."""

    def __init__(self, client: RpcClient, request: Untyped, deadline_s: float | None) -> None:
        object.__setattr__(self, "_bound", (client, request, deadline_s))

    def __getattr__(self, name: str) -> Untyped:
        return getattr(self._bound[1], name)

    def __setattr__(self, name: str, value: Untyped) -> None:
        setattr(self._bound[1], name, value)

    async def send(self) -> Untyped:
        client, request, deadline_s = self._bound
        return await client.run(request.send, deadline_s)


class RpcError(Exception):
    """All that a peer learns of an exception here: its code.

    pycapnp sends `traceback.format_exception(type, exception, exception.__traceback__)`; without a
    traceback and a cause that is one line with no path in it.
    """

    __module__ = "builtins"  # or the line starts with this module's name

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        return None


class _ServerGuard:
    """Stands before a pycapnp server object: bounds its calls and keeps its exceptions at home."""

    def __init__(
        self,
        server: Untyped,
        transport: KjTransport,
        limits: TransportLimits,
        counters: Counter[str],
    ) -> None:
        self.schema = server.schema
        self._server = server
        self._transport = transport
        self._limit = limits.rpc_calls_in_flight
        self._counters = counters
        self._calls = 0
        self._slots = asyncio.Semaphore(self._limit)
        self._idle = asyncio.Event()
        self._idle.set()

    def __getattr__(self, name: str) -> Untyped:
        # pycapnp asks for `<method>_context` first; answering that always keeps its own reading of
        # the parameters, with its own tracebacks, out of the way.
        method = name.removesuffix("_context")
        if method == name or method not in self.schema.method_names_inherited:
            raise AttributeError(name)

        async def call(context: Untyped) -> None:
            self._enter()
            try:
                async with self._slots:
                    await self._call(method, context)
            finally:
                self._leave()

        return call

    async def _call(self, method: str, context: Untyped) -> None:
        try:
            by_context = getattr(self._server, f"{method}_context", None)
            if by_context is not None:
                await by_context(context)
                return
            function = getattr(self._server, method, None)
            if function is None:
                self._counters["rpc-unimplemented"] += 1
                raise RpcError("unimplemented")
            params = context.params
            fields = {name: getattr(params, name) for name in params.schema.fieldnames}
            fill_context(method, context, await function(**fields, _context=context))
        except RpcError:
            raise
        except Malformed as fault:
            self._counters[f"rpc-{fault.code}"] += 1
            raise RpcError(fault.code) from None
        except KjException:
            # A pointer out of bounds, a traversal limit: the peer's bytes, or our results.
            self._counters["rpc-malformed"] += 1
            log.info("call of %s: malformed Cap'n Proto", method)
            raise RpcError("malformed") from None
        except Exception:
            self._counters["rpc-method-crashed"] += 1
            log.exception("method %s crashed", method)
            raise RpcError("internal-error") from None

    async def drained(self, grace_s: float) -> None:
        """Wait until no method runs; KJ has cancelled them when its end was closed."""
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            self._counters["rpc-method-stuck"] += 1
            log.error("%d methods ignore their cancellation", self._calls)

    def _enter(self) -> None:
        self._calls += 1
        self._idle.clear()
        if self._calls >= self._limit:
            self._transport.allow_feeding(False)

    def _leave(self) -> None:
        self._calls -= 1
        if self._calls < self._limit:
            self._transport.allow_feeding(True)
        if not self._calls:
            self._idle.set()
