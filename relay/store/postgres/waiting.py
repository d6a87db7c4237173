"""A relay that is started beside its database, and first, waits for it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from relay.store.postgres.connecting import connect
from relay.store.postgres.failures import UNAVAILABLE
from schemas.errors import Fault

log = logging.getLogger(__name__)

AGAIN_S: Final = (0.2, 3.0)  # the first pause before another try, and the longest
TELL_EVERY_S: Final = 60.0


async def until_there(url: str) -> None:
    """Returns when the database takes connections; says what it waits for.

    Raises as `connect`, for whatever does not mend itself.
    """
    loop = asyncio.get_running_loop()
    began, told_at, told = loop.time(), 0.0, ""
    pause, longest = AGAIN_S
    while True:
        try:
            connection = await connect(url)
        except Fault as fault:
            if fault.code != UNAVAILABLE:
                raise
            if fault.message != told or loop.time() - told_at >= TELL_EVERY_S:
                log.warning("waiting: %s; %s", fault.message, fault.hint)
                told_at, told = loop.time(), fault.message
        else:
            connection.terminate()
            if told:
                log.warning("the database is there after %.0f s", loop.time() - began)
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
