"""How the relay says no: refusals that tell the caller when to come again."""

from __future__ import annotations

from typing import Final

from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.frames import ErrorFrame

RELAY_FULL_RETRY_MS = 600_000
MAILBOX_FULL_RETRY_MS = 60_000  # room comes when the recipient comes, or parcels expire


class TryLater(Refused):
    """Refused for now; the same request may pass after `retry_after_ms`."""

    def __init__(self, code: str, message: str, *, retry_after_ms: int, hint: str = "") -> None:
        super().__init__(code, message, blame=Blame.ENVIRONMENT, hint=hint)
        self.retry_after_ms = retry_after_ms


def rate_exceeded(
    what: str, wait_s: float, *, hint: str = "it goes on by itself, more slowly"
) -> TryLater:
    """More of `what` than a token bucket holds, which has some again in `wait_s`."""
    return TryLater(
        "try-later",
        f"more {what} than this relay allows",
        retry_after_ms=int(wait_s * 1000) + 1,
        hint=hint,
    )


def too_many_logins(wait_s: float) -> TryLater:
    """A person waits for it: nothing goes on by itself."""
    hint = f"try again in {int(wait_s) + 1} s"
    return rate_exceeded("registrations or logins", wait_s, hint=hint)


def relay_full() -> TryLater:
    return TryLater(
        "relay-full",
        "this relay has no room left",
        retry_after_ms=RELAY_FULL_RETRY_MS,
        hint="another relay of theirs may have room",
    )


def mailbox_full() -> TryLater:
    return TryLater(
        "mailbox-full",
        "the recipient's mailbox has no room",
        retry_after_ms=MAILBOX_FULL_RETRY_MS,
        hint="it is sent again by itself; another relay of theirs may have room",
    )


def no_mailbox() -> Refused:
    return Refused(
        "no-mailbox",
        "this relay keeps mail for its members only, and the recipient is none",
        hint="ask them which relay they use",
    )


def blobs_full() -> TryLater:
    return TryLater(
        "blobs-full",
        "this device has brought as many blobs as the relay keeps for one",
        retry_after_ms=RELAY_FULL_RETRY_MS,
        hint="older ones expire; another relay may have room",
    )


def token_refused() -> Refused:
    return Refused(
        "delivery-token-refused",
        "parcels come to this mailbox with a delivery token of its owner only",
        hint="they give a new one to each contact by themselves; it is sent again when it is here",
    )


def token_share_used() -> TryLater:
    return TryLater(
        "delivery-token-full",
        "too many parcels with this delivery token wait in the mailbox",
        retry_after_ms=MAILBOX_FULL_RETRY_MS,
        hint="it is sent again by itself; there is room when the recipient fetched some",
    )


_DISK_FULL: Final = ErrorFrame(
    "disk-full",
    "the disk of this relay is full",
    "what you send is sent again by itself; another relay may have room",
    10_000,
)
_STORE_UNAVAILABLE: Final = ErrorFrame(
    "store-unavailable",
    "this relay can keep nothing or find nothing at present; what was asked may have been done",
    "ask again: it is safe to",
    1_000,
)


def is_for_callers(fault: Fault) -> bool:
    """Whether it was written for who calls; else for who runs the relay, and stays in its log."""
    return isinstance(fault, Refused | Malformed)


def error_frame(fault: Fault) -> ErrorFrame:
    """What of a fault crosses the wire: four fields, written for callers, and nothing else.

    What becomes of the relay's database, disk and files is told as one of two words: the rest, such
    as how it logs in to its database, is its operator's business.
    """
    if not is_for_callers(fault):
        return _DISK_FULL if fault.code == _DISK_FULL.code else _STORE_UNAVAILABLE
    retry_after_ms = fault.retry_after_ms if isinstance(fault, TryLater) else 0
    return ErrorFrame(fault.code, fault.message, fault.hint, retry_after_ms)
