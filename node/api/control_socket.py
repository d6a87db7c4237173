"""The Unix socket in a home: private from birth, and however deep the home is."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from node.paths import CONTROL_SOCKET
from schemas.errors import Blame, Fault

_NURSERY: Final = ".control"  # a private folder in which the socket is born
_PATH_BYTES: Final = 100  # what a socket's path may hold everywhere (Linux: 107, macOS: 103)
_BACKLOG: Final = 64
_BACKLOG_FULL_S: Final = 0.01


def bind_control_socket(home: Path) -> socket.socket:
    """A listening socket at `control.sock` in `home`, mode 0600; replaces a stale one.

    Only for the process that holds the home's lock. The socket is made inside a private folder
    and moved to its place when its mode is right, so nobody ever meets it with a wider one (a
    umask would do too, but belongs to the whole process and its other threads). Raises Fault.
    """
    nursery = home / _NURSERY
    try:
        nursery.mkdir(mode=0o700, exist_ok=True)
        nursery.chmod(0o700)
        (nursery / CONTROL_SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(nursery) as path:
                listener.bind(path)
            born = nursery / CONTROL_SOCKET
            born.chmod(0o600)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            born.replace(home / CONTROL_SOCKET)
        except BaseException:
            listener.close()
            raise
        nursery.rmdir()
    except OSError as error:
        raise Fault(
            "no-control-socket",
            f"the control socket in {str(home)!r} cannot be made: {error.strerror or error}",
            blame=Blame.ENVIRONMENT,
            hint="check the folder's permissions, or choose another home",
        ) from error
    return listener


def remove_control_socket(home: Path) -> None:
    """Nobody finds the socket any more; those who are connected stay so."""
    (home / CONTROL_SOCKET).unlink(missing_ok=True)


def connect_control_socket(home: Path, timeout_s: float) -> socket.socket | None:
    """A connection to the process that runs the home; None when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        with _short(home) as path:
            _connect(connection, path, time.monotonic() + timeout_s)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise Fault(
            "no-control-socket",
            f"the control socket in {str(home)!r} cannot be used: {error.strerror or error}",
            blame=Blame.ENVIRONMENT,
            hint="is it your home? check its permissions",
        ) from error
    return connection


def _connect(connection: socket.socket, path: str, deadline: float) -> None:
    """A full backlog refuses at once (Unix sockets know no waiting then): try until `deadline`."""
    while True:
        try:
            return connection.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_BACKLOG_FULL_S)


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A path of the socket in `folder` that fits: through the open folder when it is long."""
    path = str(folder / CONTROL_SOCKET)
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield path
        return
    if sys.platform != "linux":
        raise OSError(0, "the path is longer than a Unix socket allows")
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{file}/{CONTROL_SOCKET}"
    finally:
        os.close(file)
