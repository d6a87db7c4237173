"""A synchronous client of the control API; light, so that a command starts fast."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from node.api.control_socket import connect_control_socket
from node.api.errors import fault_of
from node.api.operations import EVENTS_PATH, A, Operation, Q
from node.api.shapes import ErrorAnswer
from schemas.errors import Blame, Fault

CONNECT_S: Final = 5.0
ANSWER_S: Final = 120.0  # an invitation of many people may ask many relays
_ANSWER_BYTES: Final = 64 * 1024 * 1024

Event = dict[str, Any]


class NotRunning(Fault):
    """No process serves this home; nothing was asked."""

    def __init__(self) -> None:
        super().__init__("not-running", "no node runs in this home", blame=Blame.ENVIRONMENT)


class NodeGone(Fault):
    """The node ended before it answered."""

    def __init__(self) -> None:
        super().__init__(
            "node-stopped",
            "the node ended before it answered",
            blame=Blame.ENVIRONMENT,
            hint="look whether the command took effect before you repeat it",
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, home: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._home = home

    def connect(self) -> None:
        self.sock = _connect(self._home)
        self.sock.settimeout(self.timeout)


def _connect(home: Path) -> socket.socket:
    connection = connect_control_socket(home, CONNECT_S)
    if connection is None:
        raise NotRunning
    return connection


class Client:
    """Asks the process that runs a home; one connection a request. Safe to share by threads."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def call(self, operation: Operation[Q, A], request: Q, *, timeout_s: float = ANSWER_S) -> A:
        """Raises the Fault that refuses it; NotRunning, NodeGone; Fault `no-answer`."""
        path, body = operation.path, None
        headers = {"Connection": "close"}
        if operation.method == "GET":
            query = urlencode({k: v for k, v in msgspec.to_builtins(request).items() if v != ""})
            path = f"{path}?{query}" if query else path
        else:
            body = msgspec.json.encode(request)
            headers["Content-Type"] = "application/json"
        connection = _Connection(self._home, timeout_s)
        try:
            connection.request(operation.method, path, body, headers)
            response = connection.getresponse()
            data = response.read(_ANSWER_BYTES)
            if response.length:  # it died half-way: a bounded read does not say so
                raise NodeGone
        except TimeoutError:
            raise Fault(
                "no-answer",
                f"the node did not answer within {timeout_s:g} s",
                blame=Blame.ENVIRONMENT,
                hint="look at the log of the process that runs it",
            ) from None
        except (http.client.HTTPException, OSError) as error:
            raise NodeGone from error
        finally:
            connection.close()
        return _decoded(response.status, data, operation.answer)

    def events(
        self,
        deadline: float | None = None,
        *,
        cursor: str = "",
        opened: Callable[[socket.socket], None] = lambda wire: None,
    ) -> Generator[Event, None, None]:
        """Events from now on, heartbeats too, until `deadline` (of `time.monotonic`).

        The first is `subscribed`: what happens after it is not missed. A `cursor` has one follower
        at a time. `opened` gets the connection; shutting it down ends this. Raises NotRunning;
        NodeGone when the node ends; Fault `too-many-subscribers`, `cursor-in-use`.
        """
        connection = _Connection(self._home, CONNECT_S)
        try:
            query = f"?{urlencode({'cursor': cursor})}" if cursor else ""
            connection.request("GET", EVENTS_PATH + query)
            wire = connection.sock
            opened(wire)
            response = connection.getresponse()
            if response.status != 200:
                _decoded(response.status, response.read(_ANSWER_BYTES), type(None))
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                if wire is not None:
                    wire.settimeout(left)
                line = response.readline()
                if not line.endswith(b"\n"):
                    raise NodeGone
                yield msgspec.json.decode(line, type=dict[str, Any])
        except TimeoutError:
            return
        except (http.client.HTTPException, OSError) as error:
            raise NodeGone from error
        finally:
            connection.close()


def _decoded(status: int, data: bytes, answer: type[A]) -> A:
    try:
        if status == 200:
            return msgspec.json.decode(data, type=answer)
        error = msgspec.json.decode(data, type=ErrorAnswer)
    except msgspec.DecodeError as problem:
        raise Fault(
            "other-version",
            f"the running node answered in an unknown way (HTTP {status})",
            blame=Blame.INCOMPATIBLE,
            hint="it is of another version: restart it",
        ) from problem
    raise fault_of(status, error)
