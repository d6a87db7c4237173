"""One node of the DHT: it answers, looks up, publishes and keeps its table; it knows no sockets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from discovery.dht.contact import DhtContact, OnOurNetwork, node_id
from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from discovery.dht.rpc import Asker, Rpc
from discovery.dht.watching import Watch
from schemas.dht import DhtResponse, FindNode, FindValue, Store
from schemas.ids import DeviceKey, DhtId
from schemas.records import Signed

T = TypeVar("T")


class DhtNode:
    """`clock` gives Unix seconds; deadlines are in the running loop's time.

    `server`: whether this node answers and says so (others may keep it in their tables); a node
    that nobody reaches is a client only, and answers nothing. May be switched at any time.
    `counts[reason]`: what was refused, not believed or given up.
    """

    def __init__(
        self,
        device: DeviceKey,
        rpc: Rpc,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        on_our_network: OnOurNetwork,
        server: bool = False,
        limits: DhtLimits = DEFAULT_DHT_LIMITS,
    ) -> None:
        self.id = node_id(device)
        self.server = server
        self.counts: Counter[str] = Counter()

    # --- as a server

    def answer(self, asker: Asker, request: FindNode | FindValue | Store) -> DhtResponse:
        """Never raises: what is refused is a DhtError with its code."""
        raise NotImplementedError

    # --- as a client

    async def lookup(self, target: DhtId, watch: Watch | None = None) -> list[DhtContact]:
        """The contacts nearest to `target` that answered, nearest first."""
        raise NotImplementedError

    async def find(
        self, key: DhtId, check: Callable[[Signed], T], watch: Watch | None = None
    ) -> list[T]:
        """What `check` makes of the values under `key`, each once; empty when there is none.

        `check` raises Malformed for a value that does not count. All paths are asked, so the
        caller takes the newest: one path may lie.
        """
        raise NotImplementedError

    async def publish(self, key: DhtId, value: Signed, watch: Watch | None = None) -> int:
        """Puts `value` under `key`; with how many nodes it is kept now."""
        raise NotImplementedError

    async def bootstrap(self, contacts: Iterable[DhtContact]) -> int:
        """Asks `contacts` (typed by the user, a relay, last seen) who is near us.

        Returns how many contacts are in the table then.
        """
        raise NotImplementedError

    async def maintain(self) -> None:
        """One round: asks newcomers, stale contacts and quiet buckets."""
        raise NotImplementedError

    async def run(self) -> None:
        """`maintain` for ever: each `round_s`, and soon after newcomers announced themselves."""
        raise NotImplementedError

    def contacts(self) -> Sequence[DhtContact]:
        """Those in the table, the longest known first: to be kept on disk, for `bootstrap`."""
        raise NotImplementedError

    def closest(self, target: DhtId, count: int) -> Sequence[DhtContact]:
        """Those of the table nearest to `target`, nearest first."""
        raise NotImplementedError
