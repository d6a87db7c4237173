"""The JSON about our relays and our accounts there."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from node.api.shapes import Answer, Request, Selector

Relays = Annotated[list[Selector], Meta(max_length=8)]


class ChangeRelays(Request):
    """`add`: HOST:PORT#DEVICE_KEY each, behind those we have or `first`. `drop`: of ours; they are
    read until they are empty and everybody knows, or not any more, when `at_once`."""

    add: Relays = field(default_factory=list)
    drop: Relays = field(default_factory=list)
    first: bool = False
    at_once: bool = False


class Relay(Answer):
    """`order` counts from 1; none for a relay that was ours and is read still, which has `left_at`
    and `read_until`. `state`: connected, connecting, refused or unreachable, the last two with the
    code of a `reason`. `refused_since`: our mailbox there is full."""

    relay: str
    order: int | None
    state: str
    reason: str | None
    refused_since: str | None
    left_at: str | None
    read_until: str | None
