"""The JSON about our relays and our accounts there."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from node.api.shapes import Answer, OptionalText, Request, Selector

Relays = Annotated[list[Selector], Meta(max_length=8)]


class SetRelays(Request):
    """HOST:PORT#DEVICE_KEY each, in order of preference; they replace those before."""

    relays: Annotated[list[Selector], Meta(min_length=1, max_length=8)]


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


AccountName = Annotated[str, Meta(min_length=1, max_length=256)]
Password = Annotated[str, Meta(min_length=1, max_length=4096)]
Secret = Annotated[str, Meta(max_length=1024)]


class AtRelay(Request):
    """`relay` empty: the first of ours."""

    relay: OptionalText = ""


class RegisterUser(Request):
    """`invite`: what the relay's operator gave, in hex, or the relay's token; empty: nothing."""

    name: AccountName
    password: Password
    relay: OptionalText = ""
    invite: Secret = ""


class Login(Request):
    name: AccountName
    password: Password
    relay: OptionalText = ""


class RevokeDevice(Request):
    """A device key, or a unique prefix of at least 6 digits."""

    device: Selector
    relay: OptionalText = ""


class SetRelayToken(Request):
    """What the operator of one of our relays gave to whom it lets in; empty: none any more."""

    relay: Selector
    token: Secret


class RelayAccount(Answer):
    account: str
    relay: str
    expires_at: str | None


class RelayDevice(Answer):
    """`linked_at`: since when the relay lets it in for our account."""

    device: str
    name: str
    current: bool
    linked_at: str
    relay: str


class RevokedDevice(Answer):
    device: str
    relay: str


class HealthOf(Request):
    """A relay (HOST:PORT#KEY); empty: all of ours."""

    relay: OptionalText = ""


class Health(Answer):
    status: str
    version: str | None
    relay: str
    uptime_s: int | None
    reason: str | None
    clock_skew_s: float | None = None
    refused_since: str | None = None  # our mailbox there is full
