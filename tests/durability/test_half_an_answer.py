"""A node that dies while it answers: the command must say so, and not blame another version."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from node.api import operations as op
from node.api import shapes as s
from node.api.client import Client, NodeGone

HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"message":'


def test_half_an_answer_is_a_death(tmp_path: Path) -> None:
    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(HALF)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control.sock"))
        (tmp_path / "control.sock").chmod(0o600)
        listening.listen()
        node = threading.Thread(target=answer)
        node.start()
        with pytest.raises(NodeGone):
            Client(tmp_path).call(op.SEND, s.Send("hello", "group"))
        node.join()
