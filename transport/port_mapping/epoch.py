"""How a client notices that a gateway has lost its mappings (RFC 6887, section 8.5); pure."""

from __future__ import annotations


class Epoch:
    """The clocks of one gateway and of ourselves, as they were at its last answer."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def lost_state(self, epoch_s: int, now: float) -> bool:
        """Whether a gateway whose clock shows `epoch_s` has begun anew since its last answer.

        `now` is of a monotonic clock. Section 8.5: the two clocks may differ by 1/16 and 2 s. Ours
        stands still while the machine sleeps, so waking counts as a loss; asking again is harmless.
        """
        last, self._last = self._last, (epoch_s, now)
        if last is None:
            return False
        server, client = epoch_s - last[0], now - last[1]
        return server < -1 or client + 2 < server - server / 16 or server + 2 < client - client / 16
