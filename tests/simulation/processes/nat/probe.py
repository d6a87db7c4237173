"""How a NAT maps and filters, found as RFC 5780 does it, with plain datagrams.

    probe.py serve OTHER       answers on two ports, and on behalf of OTHER
    probe.py ask ONE OTHER     prints mapping and filtering, as numbers of `behaviour`, and more

Runs without this project: its namespaces have no more than Python.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import sys
import time
from typing import Final

PORTS: Final = (3478, 3479)
TIMEOUT_S: Final = 0.4
Where = tuple[str, int]


def serve(other: str) -> None:
    """Each request says from where its answer shall come: our port, our other one, or `other`."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in PORTS]
    ready = selectors.DefaultSelector()
    for each, port in zip(sockets, PORTS, strict=True):
        each.bind(("", port))
        ready.register(each, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in ready.select():
            here = sockets[0] if key.fileobj is sockets[0] else sockets[1]
            data, sender = here.recvfrom(2000)
            request = json.loads(data)
            target = tuple(request.get("for", sender))
            match request["from"]:
                case "here":
                    here.sendto(json.dumps(target).encode(), target)
                case "other-port":
                    next(each for each in sockets if each is not here).sendto(b"[]", target)
                case "other-address":
                    passed_on = {"from": "here", "for": target}
                    here.sendto(json.dumps(passed_on).encode(), (other, PORTS[0]))


def ask(one: str, other: str) -> None:
    """Mapping and filtering as seen from here, each with a socket that nobody has heard of."""
    with _socket() as sock:
        begun = time.monotonic()
        _answer(sock, (one, PORTS[0]), "here")
        round_s = time.monotonic() - begun
        seen = [
            _answer(sock, where, "here")
            for where in ((one, PORTS[0]), (one, PORTS[1]), (other, PORTS[0]))
        ]
        own = sock.getsockname()[1]
        mapping = 1 if len({json.dumps(each) for each in seen}) == 1 else 2
        if seen[0] == [_own_address(one), own]:
            mapping = 0
    filtering = 3
    with _socket() as sock:
        if _answer(sock, (one, PORTS[0]), "other-address") is not None:
            filtering = 1
    if filtering == 3:
        with _socket() as sock:
            if _answer(sock, (one, PORTS[0]), "other-port") is not None:
                filtering = 2
    print(
        json.dumps({"mapping": mapping, "filtering": filtering, "seen": seen, "round_s": round_s})
    )


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    sock.settimeout(TIMEOUT_S)
    return sock


def _answer(sock: socket.socket, where: Where, source: str) -> object:
    sock.sendto(json.dumps({"from": source}).encode(), where)
    with contextlib.suppress(TimeoutError):
        return json.loads(sock.recv(2000))
    return None


def _own_address(towards: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((towards, PORTS[0]))
        return str(sock.getsockname()[0])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        ask(*sys.argv[2:])
