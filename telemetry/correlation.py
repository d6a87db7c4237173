"""Which connection and which call a log line belongs to.

Both ids are made up here, per process, and mean nothing outside its log: they name no device, no
address and no message. A task inherits them from whoever starts it.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Trace(NamedTuple):
    """`call` is 0 outside a call."""

    connection: str
    call: int

    def __str__(self) -> str:
        """As users are told it: `3f2a91c4-17`."""
        return f"{self.connection}-{self.call}" if self.call else self.connection


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)
_calls = itertools.count(1)


def new_connection() -> Trace:
    """The id of a connection, for this task's lines from now on, and its children's."""
    trace = Trace(secrets.token_hex(4), 0)
    _current.set(trace)
    return trace


@contextmanager
def new_call(connection: Trace) -> Iterator[Trace]:
    """The id of a call that came by this connection, for the lines inside the block."""
    trace = Trace(connection.connection, next(_calls))
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)


def fields() -> dict[str, object]:
    """What a log line that is written now says of it."""
    trace = _current.get()
    if trace is None:
        return {}
    return {"connection": trace.connection} | ({"call": trace.call} if trace.call else {})
