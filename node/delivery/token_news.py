"""When a relay of ours is told which delivery tokens open our mailbox.

What is taken away, or asked for from now on, it is told at once. A token that is new it is told
after a random time: the members of a new group would all tell in one moment that they are in it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.publish import publish_tokens
from node.delivery.relay_client import RelayClient
from node.engine.delivery_commands import OwnDeliveryTokens
from node.engine.values import OwnTokens
from schemas.errors import Fault

_EARLY_S = 0.05  # timers may ring that early

log = logging.getLogger(__name__)


class TokenNews:
    """Of one relay. `stir` is called when there is something to tell."""

    def __init__(self, ask: Ask, limits: DeliveryLimits, stir: Callable[[], None]) -> None:
        self._ask = ask
        self._limits = limits
        self._stir = stir
        self._loop = asyncio.get_running_loop()
        self._random = random.SystemRandom()
        self._told: OwnTokens | None = None  # over this connection
        self._changed = False
        self._due_at: float | None = None

    def connected(self) -> None:
        """Anew: it may have been restored from yesterday."""
        self._told, self._changed = None, True

    async def changed(self) -> None:
        """They may be others. The relay hears nothing before it is time, nor sees us look."""
        self._changed = True
        try:
            self._plan(await self._ask(OwnDeliveryTokens()))
        except Fault as fault:
            log.info("our tokens are not known: %s", fault)
            return
        if self._due_at is not None:
            self._loop.call_at(self._due_at, self._stir)

    async def tell(self, client: RelayClient, *, now: bool = False) -> None:
        """If it is time, or `now` if there is anything. Raises as RelayClient."""
        if not self._changed and self._due_at is None:
            return
        own = await self._ask(OwnDeliveryTokens())
        self._plan(own)
        if self._due_at is not None and (now or self._due_at <= self._loop.time() + _EARLY_S):
            await publish_tokens(client, own)
            self._told, self._due_at = own, None

    def _plan(self, own: OwnTokens) -> None:
        if not self._changed:
            return
        self._changed = False
        if own == self._told:
            self._due_at = None
            return
        due_at = self._loop.time() + self._random.uniform(0.0, self._spread_s(own))
        self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)

    def _spread_s(self, own: OwnTokens) -> float:
        told, limits = self._told, self._limits
        if told is None or told.optional != own.optional or set(told.hashes) - set(own.hashes):
            return 0.0
        new = set(own.hashes) - set(told.hashes)
        if not own.optional and new & own.needed:
            return limits.tokens_needed_s
        return limits.tokens_spread_s
