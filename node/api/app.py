"""The control API as an ASGI application: requests checked and bounded, every failure typed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from node.api.errors import answer_of, status_of
from node.api.openapi import describe
from node.api.operations import EVENTS_PATH, OPENAPI_PATH, OPERATIONS, Operation
from node.api.service import VERSION, Service
from schemas.errors import Blame, Fault, Refused

BODY: Final = 512 * 1024  # 64 KiB of text, each character escaped, or 250 cards
BODY_S: Final = 10.0  # a request that trickles in is not worth a task
SUBSCRIBERS: Final = 32  # each costs a queue and a connection
CURSOR_NAME: Final = 64
_HANDOVER_TRIES: Final = 10
_HANDOVER_S: Final = 0.05
HEARTBEAT_S: Final = 5.0  # how soon a silent client learns that the node is gone, and it of it

log = logging.getLogger(__name__)


class ControlApp:
    """Serves one Service; `close` ends the event streams."""

    def __init__(self, service: Service, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._service = service
        self._heartbeat_s = heartbeat_s
        self._closing = asyncio.Event()
        self._subscribers = 0
        self._claimed: set[str] = set()  # cursors that somebody follows
        self.changes = 0  # operations so far that may have changed something
        routes = [
            Route(operation.path, self._endpoint(operation), methods=[operation.method])
            for operation in OPERATIONS
        ]
        routes.append(Route(EVENTS_PATH, self._events, methods=["GET"]))
        routes.append(Route(OPENAPI_PATH, self._openapi, methods=["GET"]))
        self.asgi = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    def close(self) -> None:
        self._closing.set()

    def _endpoint(self, operation: Operation[Any, Any]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self.changes += operation.method != "GET"
            try:
                question = await _read(operation, request)
                return _json(200, await self._service.answer(operation, question))
            except Fault as fault:
                return _refusal(fault)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception:
                log.exception("the operation %s failed", operation.name)
                return _refusal(
                    Fault(
                        "internal",
                        f"this program failed on {operation.name}",
                        blame=Blame.CALLER,
                        hint="please report it, with the log",
                    )
                )

        return endpoint

    async def _openapi(self, request: Request) -> Response:
        return _json(200, describe(VERSION))

    async def _events(self, request: Request) -> Response:
        if self._subscribers >= SUBSCRIBERS:
            return _refusal(
                Fault(
                    "too-many-subscribers",
                    f"{SUBSCRIBERS} programs follow the events of this node already",
                    blame=Blame.ENVIRONMENT,
                    hint="end one of them",
                )
            )
        cursor = request.query_params.get("cursor", "")[:CURSOR_NAME]
        for _ in range(_HANDOVER_TRIES):  # the last follower may just have gone
            if cursor not in self._claimed:
                break
            await asyncio.sleep(_HANDOVER_S)
        else:
            return _refusal(
                Fault(
                    "cursor-in-use",
                    f"another program reads with the cursor {cursor!r}",
                    blame=Blame.CALLER,
                    hint="end it, or read with a cursor of your own: --cursor NAME",
                )
            )
        if cursor:
            self._claimed.add(cursor)
        return _Stream(self._lines(), lambda: self._claimed.discard(cursor))

    async def _lines(self) -> AsyncIterator[bytes]:
        self._subscribers += 1
        waiting: set[asyncio.Task[Any]] = set()
        try:
            with self._service.node.subscribe() as events:
                yield _line("subscribed", {})
                closing = asyncio.create_task(self._closing.wait())
                event = asyncio.create_task(_next(events))
                waiting = {closing, event}
                while not self._closing.is_set():
                    # The pending task is kept over a heartbeat: cancelling it could end `events`.
                    await asyncio.wait(
                        waiting,
                        timeout=self._heartbeat_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if event.done():
                        told = event.result()
                        if told is None:
                            return
                        event = asyncio.create_task(_next(events))
                        waiting = {closing, event}
                        yield _line(told.kind, told.fields)
                    elif not self._closing.is_set():
                        yield _line("heartbeat", {})
        finally:
            self._subscribers -= 1
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


class _Stream(StreamingResponse):
    """Lines of JSON; `ended` is called however they end, also before the first."""

    def __init__(self, lines: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _next(events: AsyncIterator[Any]) -> Any:
    return await anext(events, None)


async def _read(operation: Operation[Any, Any], request: Request) -> Any:
    """The typed request. Raises Refused `bad-request`, `request-too-large`, `request-too-slow`."""
    try:
        if operation.method == "GET":
            return msgspec.convert(dict(request.query_params), operation.request, strict=False)
        return msgspec.json.decode(await _body(request) or b"{}", type=operation.request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("bad-request", f"not a valid request of {operation.name}: {error}") from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY:
                    raise Refused("request-too-large", f"a request holds at most {BODY} bytes")
    except TimeoutError:
        raise Refused("request-too-slow", f"a request has {BODY_S:.0f} s to arrive") from None
    return bytes(body)


def _json(status: int, answer: object) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


def _line(kind: str, fields: dict[str, object]) -> bytes:
    return msgspec.json.encode({"event": kind, **fields}) + b"\n"


def _refusal(fault: Fault) -> Response:
    status = {"request-too-large": 413, "request-too-slow": 408}.get(fault.code, status_of(fault))
    response = _json(status, answer_of(fault))
    if status in (408, 413):  # the rest of the body is not read: nothing can follow it
        response.headers["connection"] = "close"
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    fault = Refused(
        "unknown-operation",
        f"there is no {request.method[:16]} {request.url.path[:200]}",
        hint=f"GET {OPENAPI_PATH} lists what there is",
    )
    return _json(status, answer_of(fault))
