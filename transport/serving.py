"""The life of a handler: one coroutine per accepted connection, ended with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from schemas.errors import Fault

from .connection import Connection
from .errors import CloseCode, ConnectionLost

log = logging.getLogger(__name__)

Handler = Callable[[Connection], Awaitable[None]]


async def serve(
    connection: Connection,
    handler: Handler,
    close_grace_s: float,
    count: Callable[[str], None],
) -> None:
    """Run `handler` for the connection's life; a Fault that it raises closes with the code.

    Cancels it `close_grace_s` after the connection's end. Anything else it raises is a crash, and
    raised.
    """
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    grace: list[asyncio.TimerHandle] = []

    def on_over(_: object) -> None:
        if me is not None:
            grace.append(loop.call_later(close_grace_s, me.cancel))

    connection.on_closed(on_over)
    try:
        await handler(connection)
        connection.close_now(CloseCode.HANDLER_DONE)
    except (Fault, ExceptionGroup) as error:
        faults = _faults_of(error)
        if faults is None:
            raise  # a crash: logged and counted by the supervisor
        for fault in faults:
            if not isinstance(fault, ConnectionLost):  # the usual end of a handler
                count(f"handler-{fault.code}")
                log.info("a connection of %s is ended: %s", connection.alpn, fault.code)
                log.debug("it was %r: %s", connection, fault)
                connection.close_now(CloseCode.PROTOCOL, fault.code)
    finally:
        connection.close_now(CloseCode.INTERNAL)
        connection.off_closed(on_over)
        for handle in grace:
            handle.cancel()


def _faults_of(error: Fault | ExceptionGroup[Exception]) -> list[Fault] | None:
    """The Faults that a handler or its TaskGroup raised; None if there is anything else."""
    if isinstance(error, Fault):
        return [error]
    found: list[Fault] = []
    for each in error.exceptions:
        inner = _faults_of(each) if isinstance(each, Fault | ExceptionGroup) else None
        if inner is None:
            return None
        found += inner
    return found
