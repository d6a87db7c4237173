"""Where this node can be reached: what its adapters say, and what others have told it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable

from discovery.interfaces import candidates, own_addresses, read_interfaces
from discovery.network_changes import told_of_changes
from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.engine.delivery_commands import SetEndpoint
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.errors import Fault
from schemas.limits import ENDPOINT_ADDRESSES, ENDPOINT_LIFETIME_S

log = logging.getLogger(__name__)


class Pace:
    """How often something may be done: at once after a quiet time, else after growing pauses.

    `between` are the shortest and the longest pause in seconds.
    """

    def __init__(self, between: tuple[float, float], time: Callable[[], float]) -> None:
        self._least, self._most = between
        self._time = time
        self._pause = self._least
        self._last = -self._most

    def due(self) -> bool:
        return self._time() - self._last >= self._pause

    def done(self) -> None:
        now = self._time()
        quiet = now - self._last >= 2 * self._pause
        self._pause = self._least if quiet else min(2 * self._pause, self._most)
        self._last = now


class Whereabouts:
    """Our own addresses, written into the signed endpoint record while `run` runs.

    `moved` is called when the machine is on another network, or woke up: every path may be
    another. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        ask: Ask,
        bound: Address,
        limits: DeliveryLimits,
        counters: Counter[str],
        clock: Callable[[], float],
        moved: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._bound = bound
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._moved = moved
        self._learnt: dict[str, tuple[EndpointAddress, ...]] = {}
        self._stir = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def adapters(self, *, link_local: bool = False) -> tuple[EndpointAddress, ...]:
        """What the machine's network adapters have. Raises OSError."""
        return own_addresses(self._bound, link_local=link_local)

    def addresses(self) -> tuple[EndpointAddress, ...]:
        """What goes into our record: adapters and what was learnt take turns. Raises OSError."""
        return self._merged(self.adapters())

    def _merged(self, adapters: tuple[EndpointAddress, ...]) -> tuple[EndpointAddress, ...]:
        found: dict[Address, EndpointAddress] = {}
        for turn in itertools.zip_longest(adapters, *self._learnt.values()):
            for each in turn:
                if each is not None:
                    found.setdefault(each.address, each)
        return tuple(found.values())[:ENDPOINT_ADDRESSES]

    def learnt(self, source: str, *addresses: EndpointAddress) -> None:
        """`source` (as "observed", "mapped") knows these addresses of ours, and no others."""
        if self._learnt.get(source, ()) != addresses:
            self._learnt[source] = addresses
            self._stir.set()

    def observed(self, addresses: tuple[Address, ...]) -> None:
        """Enough others see us there."""
        punched = (EndpointAddress(each, AddressKind.PUNCHED) for each in addresses)
        self.learnt("observed", *punched)

    async def publish(self) -> None:
        """Sign what is so now. Raises Fault, OSError."""
        await self._ask(SetEndpoint(self.addresses()))

    async def run(self) -> None:
        """For ever: laptops move and sleep; and a record must be renewed before it expires."""
        with told_of_changes(self._stir.set):
            await self._watch()

    def _look(self) -> tuple[tuple[EndpointAddress, ...], tuple[EndpointAddress, ...]]:
        """(adapters, link-local ones too; what goes into our record), of one moment."""
        interfaces = read_interfaces()
        ours = candidates(self._bound, interfaces, link_local=True)
        return ours, self._merged(candidates(self._bound, interfaces))

    async def _watch(self) -> None:
        adapters, published = self._look()
        renewed, again = self._clock(), Pace(self._limits.publish_again_s, self._loop.time)
        asleep = False
        while True:
            asleep |= await self._rest()
            try:
                now, wanted = self._look()
                # Also when the clock went back: a record from the future is nobody's friend.
                old = not 0 <= self._clock() - renewed < ENDPOINT_LIFETIME_S / 4
                # What others say of us may change as often as they like; our adapters do not.
                if old or (wanted != published and (now != adapters or again.due())):
                    await self._ask(SetEndpoint(wanted))
                    again.done()
                    published, renewed = wanted, self._clock()
            except (Fault, OSError) as error:
                self._counters["addresses-unknown"] += 1
                log.info("our addresses are not known: %s", error)
                continue
            if now != adapters or asleep:
                log.info("this machine %s", "was asleep" if asleep else "is on another network")
                adapters, asleep = now, False
                self._moved()

    async def _rest(self) -> bool:
        """Until it is time to look again; whether the machine slept meanwhile.

        The wall clock goes on while a machine sleeps, the loop's does not.
        """
        wall, loop = self._clock(), self._loop.time()
        try:
            async with asyncio.timeout(self._limits.look_at_addresses_s):
                await self._stir.wait()
        except TimeoutError:
            pass
        self._stir.clear()
        ahead = (self._clock() - wall) - (self._loop.time() - loop)
        return ahead > self._limits.asleep_s
