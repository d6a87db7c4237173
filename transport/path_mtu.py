"""How large a datagram the path carries: a search by probes (RFC 8899), without any I/O.

Down a ladder of sizes that paths have in practice, then halving what lies between the largest that
arrived and the smallest that did not, until the rest is not worth a probe. A probe that the local
interface refuses costs nothing; one that is lost is repeated, since loss has other causes, too.
"""

from __future__ import annotations

from dataclasses import dataclass

# UDP payloads: the most that a packet's two-byte length field says; a jumbo frame; Ethernet with
# IPv6. What lies between (tunnels, PPPoE) is found by halving.
LADDER = (16_383, 8_952, 1_452)
_WORTH = 8  # a probe for less than an eighth more is not worth it


@dataclass(frozen=True)
class _Probe:
    size: int
    deadline: float


class PathMtuSearch:
    """The state of one path. `current` is the size to use, in bytes of UDP payload.

    `base` is taken for granted, `ceiling` never exceeded. Times are seconds of the caller's clock.
    """

    def __init__(
        self, *, base: int, ceiling: int, tries: int, again_after_s: float, now: float
    ) -> None:
        self.base = base
        self.ceiling = max(base, ceiling)
        self._max_tries = tries
        self._again_after_s = again_after_s
        self.current = base
        self._failed = self.ceiling + 1  # the smallest size that did not arrive
        self._tries = 0
        self._probe: _Probe | None = None
        self._complete = False
        self._due_at = now

    def restart(self, now: float) -> None:
        """The path changed, or large datagrams vanish: back to `base`, and search anew."""
        self.current = self.base
        self._search(now)

    def probe_due(self, now: float) -> bool:
        return self._probe is None and now >= self._due_at and self.current < self.ceiling

    def next_probe(self, now: float, timeout_s: float) -> int | None:
        """The size of the probe to send now, if one is due; it counts as lost after `timeout_s`."""
        if not self.probe_due(now):
            return None
        if self._complete:
            self._search(now)  # a while ago something smaller was all: the path may have grown
        size = self._candidate()
        if size is None:
            self._complete = True
            self._due_at = now + self._again_after_s
            return None
        self._probe = _Probe(size, now + timeout_s)
        return size

    def timer(self) -> float | None:
        """When `expire` and `next_probe` should be called next; None when there is no more."""
        if self._probe is not None:
            return self._probe.deadline
        return None if self.current >= self.ceiling else self._due_at

    def acknowledged(self, size: int) -> None:
        """A probe arrived, be it late."""
        if size < self._failed and size > self.current:
            self.current = size
        self._end_probe(size)

    def lost(self, size: int, now: float) -> None:
        """A probe is known not to have arrived."""
        if self._probe is None or self._probe.size != size:
            return
        self._probe = None
        self._tries += 1
        self._due_at = now
        if self._tries >= self._max_tries:
            self._fail(size)

    def expire(self, now: float) -> None:
        """Nothing was heard of a probe for its time."""
        if self._probe is not None and now >= self._probe.deadline:
            self.lost(self._probe.size, now)

    def refused(self, size: int, now: float) -> None:
        """This machine refuses to send `size` bytes at once."""
        if size <= self.base:
            return  # nothing smaller to fall back to
        if size <= self.current:
            self.restart(now)
        self._fail(size)
        self._end_probe(size)
        self._due_at = now

    # Inside

    def _search(self, now: float) -> None:
        self._failed = self.ceiling + 1
        self._tries = 0
        self._probe = None
        self._complete = False
        self._due_at = now

    def _candidate(self) -> int | None:
        for size in (self.ceiling, *LADDER):
            if self.current < size < self._failed:
                return size
        gap = self._failed - self.current
        return self.current + gap // 2 if gap > self.current // _WORTH else None

    def _fail(self, size: int) -> None:
        self._failed = min(self._failed, size)
        self._tries = 0

    def _end_probe(self, size: int) -> None:
        if self._probe is not None and self._probe.size == size:
            self._probe = None
            self._tries = 0
