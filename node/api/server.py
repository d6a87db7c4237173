"""Serves the control API on a home's Unix socket, and ends without losing a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from node.api.app import ControlApp
from node.api.control_socket import bind_control_socket, remove_control_socket
from node.api.service import Service

CONNECTIONS: Final = 128
HEAD: Final = 16 * 1024  # request line and headers; a card in a query takes 500 bytes
HEAD_S: Final = 10.0  # for a head to arrive; silent connections take others' places
_IN_FLIGHT_S: Final = 10.0  # a fetch from a slow relay may take that long
_LATE_S: Final = 0.05  # for clients that found the socket just before it went


class _Protocol(H11Protocol):
    """uvicorn's, which waits for ever for the head of a first request; this one does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEAD_S, self._end_if_silent)

    def _end_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()


class ControlServer:
    """The server while it runs."""

    def __init__(self, app: ControlApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    @property
    def changes(self) -> int:
        """How many operations came so far that may have changed something."""
        return self._app.changes


@asynccontextmanager
async def control_server(
    home: Path, service: Service, *, heartbeat_s: float | None = None
) -> AsyncIterator[ControlServer]:
    """Serve until the context is left; only for the process that holds the home's lock.

    uvicorn's protocol without its server: that one takes over signals and wakes ten times a
    second. Raises Fault `no-control-socket`.
    """
    app = (
        ControlApp(service) if heartbeat_s is None else ControlApp(service, heartbeat_s=heartbeat_s)
    )
    config = Config(
        app.asgi,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEAD,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listener = bind_control_socket(home)
    try:
        server = await loop.create_unix_server(lambda: _Protocol(config, state, {}), sock=listener)
    except BaseException:
        remove_control_socket(home)
        listener.close()
        raise
    try:
        yield ControlServer(app, state)
    finally:
        # Nobody finds it any more; whoever connected already is still answered.
        remove_control_socket(home)
        app.close()
        try:
            await asyncio.sleep(_LATE_S)
        finally:
            server.close()
            for connection in list(state.connections):
                connection.shutdown()
            if state.tasks:
                _, slow = await asyncio.wait(set(state.tasks), timeout=_IN_FLIGHT_S)
                for task in slow:
                    task.cancel()
            for connection in list(state.connections):
                connection.transport.close()
