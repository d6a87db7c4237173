"""Who is behind a random label on the LAN: told to holders of the device's card alone; pure.

The tag is HMAC-SHA256, cut to 16 bytes, over the day, the device key and the label, under a key
that derives from the discovery secret of the person's card. A label and its tag are no use to who
repeats them on another day, and say nothing to who has not the card.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.ids import DeviceKey
from transport.rate import TokenBucket

TAG_BYTES: Final = 16
DAY_S: Final = 86_400
_INFO: Final = b"quicnprotochat lan v1"
_DAYS_APART: Final = 1  # clocks that are further off fail the TLS handshake as well
ACQUAINTANCES: Final = 1024  # devices tried for one label: 1.5 ms
_TAGS_PER_S: Final = 10_000  # tried for strangers' labels: 1.5 % of a core
_REMEMBERED: Final = 1024  # labels that were tried


@dataclass(frozen=True, slots=True)
class Tag:
    """What a node says to its contacts: the day since 1970 that it counts, and the 16 bytes."""

    day: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """A contact's device, the name to show, and the discovery secret of the contact's card."""

    device: DeviceKey
    name: str
    secret: bytes = field(repr=False)


def day_of(now: float) -> int:
    return int(now // DAY_S)


def tag_for(secret: bytes, device: DeviceKey, label: str, day: int) -> Tag:
    """What `device` says beside `label` on that day."""
    return Tag(day, _tag(_key(secret), device, label, day))


class Recogniser:
    """Knows acquaintances by their tags. `dropped` counts `tags-not-tried`: above the rate.

    `monotonic` gives seconds that only grow, for the rate: the user may set the clock back.
    """

    def __init__(
        self,
        dropped: Counter[str],
        *,
        tags_per_s: float = _TAGS_PER_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = dropped
        self._monotonic = monotonic
        self._known: list[tuple[bytes, Acquaintance]] = []
        self._tried: OrderedDict[tuple[str, Tag], Acquaintance | None] = OrderedDict()
        self._bucket = TokenBucket(tags_per_s, 4 * ACQUAINTANCES)

    def know(self, acquaintances: Iterable[Acquaintance]) -> None:
        """These and no others, at most ACQUAINTANCES of them."""
        keys: dict[bytes, bytes] = {}
        self._known = []
        for each in acquaintances:
            if len(self._known) >= ACQUAINTANCES:
                self.dropped["acquaintances-full"] += 1
                continue
            key = keys.get(each.secret)
            if key is None:
                key = keys[each.secret] = _key(each.secret)
            self._known.append((key, each))
        self._tried.clear()

    def recognise(self, label: str, tag: Tag, now: float) -> Acquaintance | None:
        """Whose tag it is, or None: a stranger's, of another day, or there was no time to try.

        `now` is Unix seconds. What was tried is remembered, and costs nothing again.
        """
        if abs(tag.day - day_of(now)) > _DAYS_APART:
            return None
        asked = (label, tag)
        if asked in self._tried:
            self._tried.move_to_end(asked)
            return self._tried[asked]
        at = self._monotonic()
        if self._bucket.wait_s(at):
            self.dropped["tags-not-tried"] += 1
            return None
        self._bucket.use(len(self._known), at)
        found = None
        for key, each in self._known:
            if hmac.compare_digest(_tag(key, each.device, label, tag.day), tag.tag):
                found = each
                break
        self._tried[asked] = found
        if len(self._tried) > _REMEMBERED:
            self._tried.popitem(last=False)
        return found


def _key(secret: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=_INFO).derive(secret)


def _tag(key: bytes, device: DeviceKey, label: str, day: int) -> bytes:
    said = day.to_bytes(8, "little", signed=True) + device + label.encode(errors="replace")
    return hmac.digest(key, said, "sha256")[:TAG_BYTES]
