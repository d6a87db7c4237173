"""How the relay is: whether it can keep what it is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from relay.store.contract import RelayStore

OK: Final = "ok"
DEGRADED: Final = "degraded"  # mail can be read, new mail is refused; or the upkeep fails
UNHEALTHY: Final = "unhealthy"  # the database does not work
DRAINING: Final = "draining"  # shutting down


@dataclass(frozen=True, slots=True)
class Report:
    """`status` is one of the words above, `reason` empty when it is ok."""

    status: str
    reason: str
    version: str
    uptime_s: float
    clock_ms: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class Health:
    """Asks the store for its last write; `watch` in server.py writes now and then."""

    def __init__(
        self,
        store: RelayStore,
        version: str,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._version = version
        self._clock = clock
        self._uptime = uptime
        self.draining = False

    def report(self) -> Report:
        trouble = self._store.trouble
        status, reason = OK, ""
        if self.draining:
            status, reason = DRAINING, "the relay is shutting down"
        elif trouble is not None:
            status = DEGRADED if trouble.code == "disk-full" else UNHEALTHY
            reason = trouble.code
        elif self._store.full:
            status, reason = DEGRADED, "relay-full"
        elif failing := self._store.upkeep.failing:
            status, reason = DEGRADED, f"{next(iter(failing))}-fails"
        return Report(status, reason, self._version, self._uptime(), int(self._clock() * 1000))
