"""Our mailbox at one of our relays: peek, to the engine, and ack only what is on disk or refused.

A crash between peek and ack loses nothing: the relay shows the parcel again, and the engine knows
parcels it has seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayClient
from node.engine.delivery_commands import Arrived
from node.engine.values import Accepted, Deferred, Rejected
from schemas.errors import Blame, Fault, Malformed
from schemas.ids import DeviceKey
from schemas.node_service import StoredParcel
from schemas.parcels import Parcel

log = logging.getLogger(__name__)


class Mailbox:
    """Reads one mailbox. What stays in it (deferred, or of a newer version) is looked at again."""

    def __init__(
        self, own: DeviceKey, ask: Ask, limits: DeliveryLimits, counters: Counter[str]
    ) -> None:
        self._own = own
        self._ask = ask
        self._limits = limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._seen = 0  # looked at up to here
        self._waiting: dict[int, float] = {}  # sequence: when to look again (loop time)
        self._refused = 0  # parcels of no use, of the batch in hand
        self._reading = asyncio.Lock()  # pushes and looks, one after another
        self.empty = False  # as the last look found it
        self.refused_since: int | None = None  # it was full then, and may be still (Unix seconds)

    def reset(self) -> None:
        """After a reconnection: a relay that was restored may count from the start again."""
        self._seen = 0
        self._waiting.clear()

    @property
    def seen(self) -> int:
        """Everything up to this sequence number was looked at."""
        return self._seen

    def due_in(self) -> float | None:
        """Seconds until something deferred is to be looked at again."""
        soonest = min(self._waiting.values(), default=None)
        return None if soonest is None else max(0.0, soonest - self._loop.time())

    async def read(self, client: RelayClient) -> int:
        """Everything that is there now; answers how many parcels were new.

        Raises Fault when the relay fails or cheats.
        """
        async with self._reading:
            new = 0
            refused_since = None  # the first page empties it, and the next ones know nothing of it
            for _ in range(self._limits.poll_pages):
                found, refused, more = await self._read_page(client)
                new += found
                self.refused_since = refused_since = refused_since or refused
                if not more:
                    break
            return new

    async def pushed(self, client: RelayClient, parcels: tuple[StoredParcel, ...]) -> None:
        """The relay says that these came. Repeats are nothing, gaps are acknowledged parcels.

        Returns when they are on disk and acknowledged: then it sends more.
        """
        async with self._reading:
            new = [parcel for parcel in parcels if parcel.sequence > self._seen]
            self._counters["push-repeated"] += len(parcels) - len(new)
            self._seen = max((parcel.sequence for parcel in new), default=self._seen)
            if new:
                await self._take(client, new)

    async def _read_page(self, client: RelayClient) -> tuple[int, int | None, bool]:
        """How many were new, since when the relay refused others, and whether there are more."""
        again = self._due_again()
        after = self._seen if again is None else min(again - 1, self._seen)
        page = await client.peek(after, self._limits.poll_page)
        if page.parcels and page.parcels[0].sequence <= after:
            raise Malformed("malformed-mailbox", "the relay shows what was not asked for")
        self.empty = page.highest == 0
        shown = {parcel.sequence for parcel in page.parcels}
        reached = max(shown, default=self._seen)
        for sequence in [s for s in self._waiting if after < s <= reached and s not in shown]:
            del self._waiting[sequence]  # it expired at the relay
        wanted = [parcel for parcel in page.parcels if self._wanted(parcel.sequence)]
        unseen = sum(parcel.sequence > self._seen for parcel in wanted)
        self._seen = max(self._seen, reached)
        if wanted:
            await self._take(client, wanted)
        return unseen, page.refused_since or None, bool(shown) and reached < page.highest

    def _due_again(self) -> int | None:
        now = self._loop.time()
        return min((s for s, at in self._waiting.items() if at <= now), default=None)

    def _wanted(self, sequence: int) -> bool:
        again_at = self._waiting.get(sequence)
        if again_at is not None:
            return again_at <= self._loop.time()
        return sequence > self._seen

    async def _take(self, client: RelayClient, parcels: list[StoredParcel]) -> None:
        verdicts = await asyncio.gather(*(self._judge(parcel) for parcel in parcels))
        done = [p.sequence for p, finished in zip(parcels, verdicts, strict=True) if finished]
        refused, self._refused = self._refused, 0
        if done:
            await client.ack(done)
        if refused:
            await asyncio.sleep(refused * self._limits.refused_pause_s)

    async def _judge(self, stored: StoredParcel) -> bool:
        """Whether the relay's copy can go."""
        parcel = Parcel(stored.id, self._own, stored.expires, stored.sealed)
        try:
            verdict = await self._ask(Arrived(parcel, "relay"))
        except Fault as fault:
            self._counters[f"arrival-{fault.code}"] += 1
            again = Deferred(self._limits.engine_failed_s)
            verdict = Rejected(fault.code) if fault.blame is Blame.PEER else again
        self._waiting.pop(stored.sequence, None)
        log.debug("%r came by relay: %s", stored.id, type(verdict).__name__)
        match verdict:
            case Accepted():
                return True
            case Deferred(retry_after_s):
                self._counters["arrival-deferred"] += 1
                if len(self._waiting) >= self._limits.deferred_at_relay:
                    self._counters["deferred-forgotten"] += 1  # until the next connection
                    return False
                self._waiting[stored.sequence] = self._loop.time() + max(
                    retry_after_s, self._limits.poll_s
                )
                return False
            case Rejected(code, forget):
                self._counters[f"arrival-{code}"] += 1
                self._refused += 1
                return forget
