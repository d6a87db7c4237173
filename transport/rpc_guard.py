"""Before an object that the peer may call: counts its calls, keeps its exceptions at home."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from capnp.lib.capnp import fill_context

from schemas.errors import Malformed

from .kj import KjException, Untyped

log = logging.getLogger(__name__)


class RpcError(Exception):
    """All that a peer learns of an exception here: its code.

    pycapnp sends `traceback.format_exception(type, exception, exception.__traceback__)`; without a
    traceback and a cause that is one line with no path in it.
    """

    __module__ = "builtins"  # or the line starts with this module's name

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        return None


class CallBook(Protocol):
    """What a guard needs of its session."""

    counters: Counter[str]

    def enter(self) -> None: ...
    def leave(self) -> None: ...


class ServerGuard:
    """What KJ calls instead of `server`, an object with the methods of `schema`."""

    def __init__(self, schema: Untyped, server: Untyped, book: CallBook) -> None:
        self.schema = schema
        self._server = server
        self._book = book

    def __getattr__(self, name: str) -> Callable[[Untyped], Awaitable[None]]:
        # pycapnp asks for `<method>_context` first; answering that always keeps its own reading of
        # the parameters, with its own tracebacks, out of the way.
        method = name.removesuffix("_context")
        if method == name or method not in self.schema.method_names_inherited:
            raise AttributeError(name)
        call = _guarded(method, self._server, self._book)
        setattr(self, name, call)  # the next call finds it there
        return call


# Not a method: what a guard keeps must not hold the guard, whose end `RpcSession.export` awaits.
def _guarded(method: str, server: Untyped, book: CallBook) -> Callable[[Untyped], Awaitable[None]]:
    run = getattr(server, f"{method}_context", None)
    if run is None:
        run = functools.partial(_call_by_name, method, server, book.counters)

    async def call(context: Untyped) -> None:
        book.enter()
        try:
            await run(context)
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer learns a code
            raise _told(error, method, book.counters) from None
        finally:
            book.leave()

    return call


async def _call_by_name(
    method: str, server: Untyped, counters: Counter[str], context: Untyped
) -> None:
    """Call a method that takes its parameters by their names and returns its results."""
    function = getattr(server, method, None)
    if function is None:
        counters["rpc-unimplemented"] += 1
        raise RpcError("unimplemented")
    params = context.params
    fields = {name: getattr(params, name) for name in params.schema.fieldnames}
    fill_context(method, context, await function(**fields, _context=context))


def _told(error: Exception, method: str, counters: Counter[str]) -> RpcError:
    """What the peer learns of `error`, which is counted and logged here."""
    match error:
        case RpcError():
            return error
        case Malformed():
            counters[f"rpc-{error.code}"] += 1
            return RpcError(error.code)
        case KjException():
            # A pointer out of bounds, a traversal limit: the peer's bytes, or our results.
            counters["rpc-malformed"] += 1
            log.info("call of %s: malformed Cap'n Proto", method)
            return RpcError("malformed")
    counters["rpc-method-crashed"] += 1
    log.error("method %s crashed", method, exc_info=error)
    return RpcError("internal-error")
