"""Whether others can ask us: found out by having some of them dial us back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from discovery.dht.contact import DhtContact, Reach
from discovery.dht.node import DhtNode
from discovery.dht.quic import QuicRpc
from node.delivery.limits import DeliveryLimits
from schemas.addresses import Address
from schemas.dht import DialedBack
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey

OnSeen = Callable[[DeviceKey, Address, Address], None]

_AGREE = 2  # one may lie, or be behind our own NAT
_LOOK_S = 1.0  # for the first contact


class Reachability:
    """Makes the node a server of the DHT while contacts of different prefixes reach it.

    Where all contacts are on our own network or machine, that is the network that counts.
    `on_seen` hears that a device, which is at one address, sees our endpoint at another.
    """

    def __init__(
        self, node: DhtNode, rpc: QuicRpc, limits: DeliveryLimits, on_seen: OnSeen
    ) -> None:
        self._node = node
        self._rpc = rpc
        self._limits = limits
        self._on_seen = on_seen
        self._stir = asyncio.Event()
        self._answers: list[tuple[Address, DialedBack]] = []

    @property
    def answers(self) -> tuple[tuple[Address, DialedBack], ...]:
        """Who was asked last, and what they said."""
        return tuple(self._answers)

    def stir(self) -> None:
        """We are on another network."""
        self._stir.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._stir.clear()
            wait_s = _LOOK_S
            if contacts := list(self._node.contacts()):
                reached = await self._reached(contacts)
                if reached is not None and reached is not self._node.server:
                    self._node.server = reached
                    await self._node.bootstrap(())  # which says so to those near us
                far = any(each.reach is Reach.ANYWHERE for each in contacts)
                unsure = reached is None or (far and len(self._answers) < _AGREE)
                limits = self._limits
                wait_s = limits.dht_reach_unsure_s if unsure else limits.dht_reach_again_s
            try:
                # Not all who came up together ask again together: each is asked by one at a time.
                async with asyncio.timeout(wait_s * random.uniform(0.5, 1)):  # noqa: S311
                    await self._stir.wait()
            except TimeoutError:
                continue

    async def _reached(self, contacts: list[DhtContact]) -> bool | None:
        """None: too few had an answer."""
        far = [each for each in contacts if each.reach is Reach.ANYWHERE]
        contacts = far or contacts
        random.shuffle(contacts)
        enough = min(_AGREE, len({each.prefix for each in contacts}))
        said: dict[bytes | None, bool] = {}
        self._answers = []
        asked = 0
        for contact in contacts:
            if contact.prefix in said or asked >= self._limits.dht_reach_asked:
                continue
            asked += 1
            try:
                answer = await self._rpc.dial_back(contact)
            except Fault:
                continue
            self._answers.append((contact.address, answer))
            with contextlib.suppress(Refused):  # no address
                self._on_seen(contact.device, contact.address, Address.parse(answer.observed))
            said[contact.prefix] = answer.reached
            for verdict in (True, False):
                if sum(each is verdict for each in said.values()) >= enough:
                    return verdict
        return None
