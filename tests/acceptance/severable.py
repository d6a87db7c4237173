"""Runs the real node on a socket that sends nothing to the ports that a file lists.

python -m tests.acceptance.severable FILE ARGUMENT…
"""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from typing import Any

from node.cli.main import main as node_main


class SeverableSocket(socket.socket):
    """A cable between two programs of one machine, to be pulled out."""

    def __init__(self, bound: socket.socket, listed: Path) -> None:
        family, kind = bound.family, bound.type
        super().__init__(family, kind, fileno=bound.detach())
        self._listed = listed

    def sendto(self, data: Any, *where: Any) -> int:
        """As socket.sendto; always says that all was sent."""
        return len(data) if self._severed(where[-1]) else super().sendto(data, *where)

    def sendmsg(self, buffers: Any, *more: Any) -> int:
        """As socket.sendmsg; always says that all was sent."""
        if self._severed(more[-1]):
            return sum(map(len, buffers))
        return super().sendmsg(buffers, *more)

    def _severed(self, to: Any) -> bool:
        return self._listed.exists() and str(to[1]) in self._listed.read_text().split()


def main() -> None:
    """Patch the one place that binds, then be the node."""
    listed, *arguments = sys.argv[1:]
    endpoint: Any = importlib.import_module("transport.endpoint")
    bind = endpoint.bind_udp
    endpoint.bind_udp = lambda *args: SeverableSocket(bind(*args), Path(listed))
    sys.exit(node_main(arguments))


if __name__ == "__main__":
    main()
