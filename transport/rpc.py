"""Cap'n Proto RPC on one bidirectional stream, with the bounds that the library lacks.

Calls in flight are bounded at both ends and in both directions: whoever serves more than
`rpc_calls_in_flight` calls reads nothing more (so a method may not wait for something that the same
peer has yet to send on the same stream), a caller waits for a free slot. Every call has a deadline.
No exception's text, traceback or path crosses to the peer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import capnp

from schemas.limits import traversal_words

from .kj import KjTransport, Untyped, kj_loop
from .limits import DEFAULT_LIMITS, TransportLimits
from .rpc_session import RpcService, RpcSession
from .stream import Stream

__all__ = ["RpcClient", "RpcService", "RpcSession", "connect_rpc", "kj_loop", "serve_rpc"]

log = logging.getLogger(__name__)

_DEFAULT_DEADLINE = -1.0


async def serve_rpc(
    stream: Stream,
    bootstrap: Untyped,
    *,
    limits: TransportLimits = DEFAULT_LIMITS,
    counters: Counter[str] | None = None,
    session: RpcSession | None = None,
) -> None:
    """Serve `bootstrap` (an instance of a pycapnp `Server`) until the stream or connection ends.

    Methods are coroutines, `name(self, param, …, _context)` or `name_context(self, context)`; one
    that raises fails that call only, is logged here and counted as `rpc-method-crashed`. Returns
    when the peer ended, also abruptly; a peer that sent no Cap'n Proto is counted as
    `rpc-malformed`. Running methods are cancelled at the end. `session` (whose limits and counters
    then hold) is for methods that call back what they were given.
    """
    session = RpcSession(limits, counters) if session is None else session
    limits = session.limits
    transport = KjTransport(stream, limits, session.tables)
    session.live(transport)
    server: Untyped = capnp.TwoPartyServer(
        transport.io,
        bootstrap=session.guard(bootstrap.schema, bootstrap),
        traversal_limit_in_words=traversal_words(limits.rpc_message),
        nesting_limit=limits.rpc_nesting,
    )
    try:
        session.judge(await transport.run())
    finally:
        session.over()
        transport.lose("the server ends")
        server.close()
        stream.cancel()
        await _drain(session)


@asynccontextmanager
async def connect_rpc(
    stream: Stream,
    *,
    limits: TransportLimits = DEFAULT_LIMITS,
    counters: Counter[str] | None = None,
) -> AsyncIterator[RpcClient]:
    """The client's end; leaving the context ends the stream and fails what is still in flight.

    `counters` counts what the server's calls into exported objects did wrong.
    """
    session = RpcSession(limits, counters)
    transport = KjTransport(stream, limits, session.tables)
    session.live(transport)
    client: Untyped = capnp.TwoPartyClient(
        transport.io,
        traversal_limit_in_words=traversal_words(limits.rpc_message),
        nesting_limit=limits.rpc_nesting,
    )
    pump = asyncio.create_task(_pump(transport, session), name="rpc client")
    try:
        yield RpcClient(client, session)
    finally:
        session.over()
        transport.lose("the client ends")
        client.close()
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        stream.cancel()
        await _drain(session)


async def _pump(transport: KjTransport, session: RpcSession) -> None:
    session.judge(await transport.run())


async def _drain(session: RpcSession) -> None:
    """KJ has cancelled the methods when its end was closed; they are given a moment."""
    if stuck := await session.drained(session.limits.close_grace_s):
        log.error("%d methods ignore their cancellation", stuck)


class RpcClient:
    """A connected client; `cast_as` gives the peer's bootstrap capability as one interface."""

    def __init__(self, client: Untyped, session: RpcSession) -> None:
        self._client = client
        self.session = session

    def cast_as(
        self, interface: Untyped, *, deadline_s: float | None = _DEFAULT_DEADLINE
    ) -> RpcService:
        """The bootstrap capability as `interface`; `deadline_s` as for `RpcSession.service`."""
        bare = self._client.bootstrap().cast_as(interface)
        return self.session.service(bare, deadline_s=deadline_s)

    def export(self, interface: Untyped, server: object) -> Untyped:
        """An object of ours as a parameter that the peer may call; see `RpcSession.export`."""
        return self.session.export(interface, server)
