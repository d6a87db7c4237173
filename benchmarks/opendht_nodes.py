"""OpenDHT nodes in one process, for benchmarks.dht_real; run by the Python that has `opendht`.

python benchmarks/opendht_nodes.py NODES
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import opendht  # type: ignore[import-not-found]

from benchmarks.dht_round import VALUE_BYTES, Round, serve

_SETTLE_S = 10.0
_ANSWER_S = 30.0


def _started(count: int) -> list[Any]:
    nodes: list[Any] = []
    for _ in range(count):
        config = opendht.DhtConfig()
        config.setRateLimit(-1, -1)  # by default a few requests a second of one address
        node = opendht.DhtRunner()
        node.run(port=0, config=config)
        if nodes:
            node.bootstrap("127.0.0.1", str(nodes[0].getBound().getPort()))
        nodes.append(node)
    return nodes


def _put(node: Any, key: Any) -> None:
    done = threading.Event()
    node.put(key, opendht.Value(random.randbytes(VALUE_BYTES)), lambda ok, at: done.set())
    if not done.wait(_ANSWER_S):
        raise RuntimeError("a put never ended")


def _lookups(nodes: list[Any], keys: list[Any]) -> Round:
    result = Round()
    for node, key in zip(nodes, keys, strict=True):
        done = threading.Event()
        with result.lookup() as found:

            def got(value: Any, found: Callable[[], None] = found) -> bool:
                found()
                return True  # as ours: every way is followed to its end

            node.get(key, got, lambda ok, at, done=done: done.set())
            if not done.wait(_ANSWER_S):
                raise RuntimeError("a get never ended")
    return result


def main() -> None:
    nodes = _started(int(sys.argv[1]))
    time.sleep(_SETTLE_S)

    def turn() -> dict[str, Round]:
        keys = [opendht.InfoHash.getRandom() for _ in nodes]
        for key in keys:
            _put(random.choice(nodes), key)
        return {"lookup": _lookups(nodes, keys)}

    serve(turn)
    os._exit(0)  # shutdown() and then join() hangs


if __name__ == "__main__":
    main()
