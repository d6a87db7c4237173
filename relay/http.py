"""HTTP for `/metrics` and `/health`: few requests at a time, each with a deadline.

A web server of its own threads or a framework would be larger than these answers, and would have to
be taught the same bounds.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from schemas.addresses import Address
from schemas.errors import Blame, Fault

log = logging.getLogger(__name__)

REQUEST_BYTES: Final = 8 * 1024
REQUESTS: Final = 16  # at one time
DEADLINE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path gives."""

    status: HTTPStatus
    content_type: str
    body: bytes

    @classmethod
    def of_json(cls, value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
        return cls(status, "application/json", json.dumps(value).encode() + b"\n")


Page = Callable[[], Answer]


@asynccontextmanager
async def serve_http(
    listen: Address, pages: dict[str, Page], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Address]:
    """Answer GET and HEAD of `pages`, by path, for the length of the block; yields the address.

    `tls` makes it HTTPS.

    Raises Fault `port-busy`, `cannot-bind`.
    """
    door = _Door(pages)
    try:
        server = await asyncio.start_server(
            door.serve,
            listen.host,
            listen.port,
            limit=REQUEST_BYTES,
            backlog=REQUESTS,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else DEADLINE_S,
        )
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        raise Fault(
            "port-busy" if busy else "cannot-bind",
            f"metrics cannot listen on {listen}: {error.strerror}",
            blame=Blame.ENVIRONMENT,
            hint="choose another port",
        ) from error
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield Address(host, port)
    finally:
        server.close()
        await door.close()


class _Door:
    """The requests that are being answered."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        if len(self._tasks) >= REQUESTS:
            writer.transport.abort()
            return
        self._tasks.add(me)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._answer(reader, writer)
        except (TimeoutError, OSError, ValueError, EOFError, asyncio.LimitOverrunError):
            log.debug("a request for metrics was not one, or too slow")
        except asyncio.CancelledError:
            log.debug("a request for metrics was cut off")  # by close(); asyncio's server logs it
        finally:
            self._tasks.discard(me)
            writer.transport.abort()

    async def close(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            answer = _error(HTTPStatus.BAD_REQUEST)
        elif words[0] not in ("GET", "HEAD"):
            answer = _error(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            page = self._pages.get(words[1].partition("?")[0])
            answer = _error(HTTPStatus.NOT_FOUND) if page is None else page()
        lines = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if words[0] != "HEAD":
            writer.write(answer.body)
        await writer.drain()
        with suppress(OSError):
            if writer.can_write_eof():  # TLS has no half-closed connections
                writer.write_eof()
            while await reader.read(REQUEST_BYTES):  # until the client has all and hangs up
                pass


def _error(status: HTTPStatus) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", status.phrase.encode() + b"\n")
