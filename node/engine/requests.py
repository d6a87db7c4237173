"""Requests of strangers: how many wait for an answer, and how much is kept for each.

A stranger's request is a group that was not accepted, and whose inviter is no contact. What is
over the bounds is refused to its sender, who is told; `join` lifts them.
"""

from __future__ import annotations

from typing import Final

from node.engine.core import Core
from node.store.groups import GroupRow
from schemas import limits
from schemas.errors import Blame, Refused

REQUESTS: Final = 100  # each is an MLS group here
MESSAGES: Final = 100  # of one request
BYTES: Final = 256 * limits.KIB  # of one request: texts, and the ciphertexts while they are kept

TOO_MANY_REQUESTS: Final = "too-many-requests"
REQUEST_FULL: Final = "request-full"


def is_of_stranger(core: Core, row: GroupRow) -> bool:
    return not row.accepted and (row.inviter is None or core.people.contact(row.inviter) is None)


def check_one_more(core: Core) -> None:
    """Raises Refused `too-many-requests`."""
    if core.people.strangers_requests() >= REQUESTS:
        raise Refused(TOO_MANY_REQUESTS, "enough strangers wait for an answer", blame=Blame.PEER)


def check_room(core: Core, row: GroupRow, size: int) -> None:
    """For a message of `size` bytes. Raises Refused `request-full`."""
    if not is_of_stranger(core, row):
        return
    messages, stored = core.messages.stored_since(row.id, row.joined)
    if messages >= MESSAGES or stored + size > BYTES:
        raise Refused(REQUEST_FULL, "enough is kept until this is answered", blame=Blame.PEER)


def room_for_early(core: Core, row: GroupRow | None) -> tuple[int, int]:
    """(parcels, bytes) that may wait for an epoch of this group."""
    if row is not None and is_of_stranger(core, row):
        return MESSAGES, BYTES
    return limits.FUTURE_MESSAGES, limits.FUTURE_BYTES
