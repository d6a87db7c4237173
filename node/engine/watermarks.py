"""Which messages of one author are here: pure arithmetic on watermarks."""

from __future__ import annotations

from node.store.messages import Watermark
from schemas.group_records import AuthorMark
from schemas.ids import DeviceKey
from schemas.limits import SUMMARY_GAPS

MAX_MISSING = 2000  # beyond: the oldest are given up as not ours to expect


def advance(mark: Watermark | None, sequence: int, epoch_base: int) -> Watermark:
    """The watermark after message `sequence`, whose author began this epoch at `epoch_base`.

    Everything from the epoch's base on was sent to us, so what lies between is missing.
    """
    if mark is None:
        return Watermark(epoch_base, sequence, _capped(range(epoch_base, sequence)))
    if sequence == mark.highest + 1 and epoch_base >= mark.base:
        return Watermark(mark.base, sequence, mark.missing, mark.read)
    missing = set(mark.missing)
    base = mark.base
    if epoch_base < base:  # a late message of an earlier epoch that we were in
        missing.update(range(max(epoch_base, base - MAX_MISSING), base))
        base = epoch_base
    if sequence > mark.highest:
        missing.update(range(max(mark.highest + 1, sequence - MAX_MISSING), sequence))
    missing.discard(sequence)
    return Watermark(base, max(mark.highest, sequence), _capped(sorted(missing)), mark.read)


def as_mark(author: DeviceKey, mark: Watermark) -> AuthorMark:
    """What a summary says: `contiguous` goes as far as the gaps can be listed."""
    missing = mark.missing
    if len(missing) <= SUMMARY_GAPS:
        return AuthorMark(author, mark.base, mark.highest, missing, min(mark.read, mark.highest))
    contiguous = missing[SUMMARY_GAPS] - 1
    return AuthorMark(
        author, mark.base, contiguous, missing[:SUMMARY_GAPS], min(mark.read, contiguous)
    )


def _capped(missing: range | list[int]) -> tuple[int, ...]:
    return tuple(missing[-MAX_MISSING:])
