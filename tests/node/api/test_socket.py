"""The control socket: private, found in deep homes, bounded, and ended without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from node.api import app
from node.api import operations as op
from node.api import shapes as s
from node.api.client import Client, NodeGone, NotRunning
from node.api.control_socket import bind_control_socket, connect_control_socket
from node.engine.values import Event
from node.paths import CONTROL_SOCKET
from schemas.errors import Fault
from tests.node.api.conftest import Served, serve

DEADLINE_S = 20.0


def raw(served: Served, request: bytes) -> tuple[int, bytes]:
    """Status and body of a hand-made request."""
    wire = connect_control_socket(served.home, DEADLINE_S)
    assert wire is not None
    with wire, wire.makefile("rb") as answer:
        # Refused before it was all read: the answer is there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.sendall(request)
        status = int(answer.readline().split()[1])
        length = 0
        while (line := answer.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return status, answer.read(length)


def error_code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def test_the_socket_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        listener = bind_control_socket(tmp_path)
    finally:
        os.umask(old)
    with listener:
        mode = (tmp_path / CONTROL_SOCKET).stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [CONTROL_SOCKET]


def test_the_socket_is_never_met_with_a_wider_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[int] = []
    real = Path.chmod

    def watching(path: Path, mode: int, *, follow_symlinks: bool = True) -> None:
        if path.name == CONTROL_SOCKET:  # the moment before it becomes 0600
            met.append(stat.S_IMODE(path.parent.stat().st_mode))
            assert not (tmp_path / CONTROL_SOCKET).exists()
        real(path, mode, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "chmod", watching)
    bind_control_socket(tmp_path).close()

    assert met == [0o700]


def test_a_home_deeper_than_a_socket_path_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    server = serve(deep)
    try:
        assert server.client.call(op.WHOAMI, s.Nothing()).name == "Alice"
    finally:
        server.end()
    assert not (deep / CONTROL_SOCKET).exists()


def test_a_stale_socket_is_replaced_and_means_not_running(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / CONTROL_SOCKET))
    stale.close()
    with pytest.raises(NotRunning):
        Client(tmp_path).call(op.WHOAMI, s.Nothing())

    server = serve(tmp_path)
    try:
        assert server.client.call(op.WHOAMI, s.Nothing()).name == "Alice"
    finally:
        server.end()


def test_a_home_without_a_node_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        Client(tmp_path / "nothing").call(op.WHOAMI, s.Nothing())


@pytest.mark.parametrize("method, path", [("GET", "/v1/nothing"), ("DELETE", "/v1/groups")])
def test_an_unknown_operation_is_a_typed_404_or_405(served: Served, method: str, path: str) -> None:
    status, body = raw(served, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert status in (404, 405)
    assert error_code(body) == "unknown-operation"


def test_a_body_that_is_not_json_is_typed(served: Served) -> None:
    status, body = raw(
        served, b"POST /v1/groups HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{x}"
    )

    assert (status, error_code(body)) == (400, "bad-request")


def test_a_body_past_the_limit_is_refused_before_it_is_all_read(served: Served) -> None:
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {10 * app.BODY}\r\n\r\n"
    status, body = raw(served, head.encode() + b"x" * (app.BODY + 200_000))

    assert (status, error_code(body)) == (413, "request-too-large")


def test_the_largest_text_fits_however_it_is_escaped(served: Served) -> None:
    served.client.call(op.SEND, s.Send("\x01" * 65_536, group="friends"))


def test_events_arrive_in_order_and_the_first_says_that_we_listen(served: Served) -> None:
    events = served.client.events(time.monotonic() + DEADLINE_S)

    assert next(events) == {"event": "subscribed"}
    served.on_loop(served.node.tell, Event("message", {"group": "aa"}))
    served.on_loop(served.node.tell, Event("ledger", {"message": "bb"}))
    assert next(events) == {"event": "message", "group": "aa"}
    assert next(events) == {"event": "ledger", "message": "bb"}


def test_a_quiet_stream_beats_and_keeps_the_next_event(tmp_path: Path) -> None:
    server = serve(tmp_path, heartbeat_s=0.01)
    try:
        events = server.client.events(time.monotonic() + DEADLINE_S)
        assert [next(events)["event"] for _ in range(3)] == ["subscribed", *["heartbeat"] * 2]
        server.on_loop(server.node.tell, Event("message", {}))
        assert next(event for event in events if event["event"] != "heartbeat") == {
            "event": "message"
        }
    finally:
        server.end()


def test_waiting_for_events_ends_at_the_deadline(served: Served) -> None:
    assert list(served.client.events(time.monotonic() + 0.1)) == [{"event": "subscribed"}]


def test_followers_are_bounded_and_let_go_of_their_places(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SUBSCRIBERS", 2)
    first, second = served.client.events(), served.client.events()
    next(first), next(second)

    with pytest.raises(Fault) as refused:
        next(served.client.events())
    assert refused.value.code == "too-many-subscribers"

    first.close()
    deadline = time.monotonic() + DEADLINE_S
    while True:  # the server learns of the end when it reads it
        try:
            assert next(served.client.events())["event"] == "subscribed"
            break
        except Fault:
            assert time.monotonic() < deadline
    second.close()


def test_a_cursor_has_one_follower_at_a_time(served: Served) -> None:
    first = served.client.events(cursor="bot")
    next(first)
    with pytest.raises(Fault) as refused:
        next(served.client.events(cursor="bot"))
    assert refused.value.code == "cursor-in-use"
    other = served.client.events(cursor="another")
    assert next(other)["event"] == "subscribed"

    first.close()
    again = served.client.events(cursor="bot")
    assert next(again)["event"] == "subscribed", "it is free as soon as its follower ended"
    again.close()
    other.close()


def test_an_ending_server_answers_what_it_was_asked_and_ends_the_streams(served: Served) -> None:
    events = served.client.events()
    next(events)
    served.node.hold = asyncio.Event()
    asked = threading.Event()
    answers: list[s.Account] = []
    real = served.node.ask

    async def ask(command: object) -> object:
        asked.set()
        return await real(command)  # type: ignore[arg-type]

    served.node.ask = ask  # type: ignore[method-assign, assignment]
    asking = threading.Thread(
        target=lambda: answers.append(served.client.call(op.WHOAMI, s.Nothing()))
    )
    asking.start()
    assert asked.wait(DEADLINE_S)
    served.on_loop(served.stop.set)
    with pytest.raises(NodeGone):
        next(events)
    with pytest.raises(NotRunning):
        served.client.call(op.WHOAMI, s.Nothing())
    served.on_loop(served.node.hold.set)
    asking.join(DEADLINE_S)

    assert [each.name for each in answers] == ["Alice"]
    served.end()
