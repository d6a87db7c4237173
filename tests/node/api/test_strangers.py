"""The control API against a second local user, and against nonsense in every operation."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.api import app, server
from node.api import operations as op
from node.api import shapes as s
from node.api.control_socket import bind_control_socket, connect_control_socket
from node.paths import CONTROL_SOCKET
from tests.node.api.conftest import Served
from tests.node.api.test_socket import DEADLINE_S, error_code, raw

_SYSTEM_PYTHON = "/usr/bin/python3"
_CONNECT = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as error:
    sys.exit(type(error).__name__)
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="quicnprotochat-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def stranger_connects(path: Path) -> str:
    """How a try of another user ends; "" is a success."""
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        [_SYSTEM_PYTHON, "-I", "-c", _CONNECT, str(path)],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
    )
    return done.stderr.strip()


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path(_SYSTEM_PYTHON).exists(),
    reason="only root can act as another user, with a Python that is not under root's home",
)
@pytest.mark.parametrize("folder_mode", [0o700, 0o755])
def test_another_local_user_cannot_connect(shared_folder: Path, folder_mode: int) -> None:
    home = shared_folder / "home"
    home.mkdir()
    with bind_control_socket(home):
        home.chmod(folder_mode)  # also when the user opened the folder to all
        assert stranger_connects(home / CONTROL_SOCKET) == "PermissionError"
        mine = connect_control_socket(home, 1.0)
        assert mine is not None
        mine.close()

        home.chmod(0o755)  # the test can fail: it is the modes that keep them out
        (home / CONTROL_SOCKET).chmod(0o666)
        assert stranger_connects(home / CONTROL_SOCKET) == ""


def test_the_home_is_private_from_the_start(tmp_path: Path) -> None:
    from node.api.host import new_home

    old = os.umask(0)
    try:
        new_home(tmp_path / "home", "Alice")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=40)
    | st.just("x" * 70_000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


def _bodies(operation: Any) -> st.SearchStrategy[bytes]:
    fields = [field.encode_name for field in msgspec.structs.fields(operation.request)]
    near = st.dictionaries(st.sampled_from([*fields, "unknown"]), _JSON, max_size=len(fields) + 1)
    return (near | _JSON).map(lambda value: _encoded(value)) | st.binary(max_size=200)


def _encoded(value: object) -> bytes:
    import json

    return json.dumps(value).encode()


@pytest.mark.parametrize("operation", op.OPERATIONS, ids=lambda each: each.name)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_nonsense_is_refused_by_type_and_never_a_failure_of_ours(
    served: Served, operation: Any, data: st.DataObject
) -> None:
    body = data.draw(_bodies(operation))
    if operation.method == "GET":
        query = "".join(f"%{byte:02x}" for byte in body[:2000])
        names = [field.encode_name for field in msgspec.structs.fields(operation.request)]
        name = data.draw(st.sampled_from([*names, "unknown"]))
        head = f"GET {operation.path}?{name}={query} HTTP/1.1\r\nHost: x\r\n\r\n"
        status, answer = raw(served, head.encode())
    else:
        head = f"POST {operation.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        status, answer = raw(served, head.encode() + body)

    assert status != 500
    if status != 200:
        msgspec.json.decode(answer, type=s.ErrorAnswer)
    else:
        msgspec.json.decode(answer, type=operation.answer)


def test_who_sends_nothing_more_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_S", 0.2)
    status, body = raw(
        served, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    )

    assert (status, error_code(body)) == (408, "request-too-slow")


def test_endless_headers_are_refused(served: Served) -> None:
    status, _ = raw(served, b"GET /v1/node HTTP/1.1\r\nX: " + b"x" * (2 * server.HEAD))

    assert status == 400


def test_more_connections_than_allowed_shut_nobody_out_for_good(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 1.0)
    wires: list[socket.socket] = []
    for _ in range(server.CONNECTIONS + 10):
        wire = connect_control_socket(served.home, DEADLINE_S)
        assert wire is not None
        wire.sendall(b"GET /v1/node HTTP/1.1\r\n")  # and no more: a slow loris
        wires.append(wire)
    status, _ = raw(served, b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 503
    deadline = time.monotonic() + DEADLINE_S
    while raw(served, b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n")[0] != 200:
        assert time.monotonic() < deadline, "silent connections keep their places for ever"
    for wire in wires:
        wire.close()
