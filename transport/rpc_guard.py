"""Before an object that the peer may call: counts its calls, keeps its exceptions at home."""

from __future__ import annotations

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
        self._counters = book.counters

    def __getattr__(self, name: str) -> Callable[[Untyped], Awaitable[None]]:
        # pycapnp asks for `<method>_context` first; answering that always keeps its own reading of
        # the parameters, with its own tracebacks, out of the way.
        method = name.removesuffix("_context")
        if method == name or method not in self.schema.method_names_inherited:
            raise AttributeError(name)

        async def call(context: Untyped) -> None:
            self._book.enter()
            try:
                await self._call(method, context)
            finally:
                self._book.leave()

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
