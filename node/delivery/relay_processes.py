"""What a relay says of its own processes, as far as a node takes it."""

from __future__ import annotations

from collections.abc import Sequence

from discovery.hosts import kind_of, parse_host
from discovery.record import dialable
from schemas.addresses import Address, AddressKind
from schemas.limits import RELAY_PROCESSES


def followed(told: Sequence[Address], came_by: Address, remote_host: str) -> list[Address]:
    """Those of `told` that may be what they say, and the one that we came by, which works whatever
    the relay believes; none if nothing of use was told.

    `remote_host` is where we reached it, in digits. Behind a public address nobody has a private
    one for us: it would be a container's, or a machine of our own network.
    """
    public = _kind(remote_host) is AddressKind.PUBLIC
    good = [
        each
        for each in told
        if dialable(each) and not (public and _kind(each.host) is AddressKind.LAN)
    ]
    if not good or came_by in good:
        return good
    return [*good[: RELAY_PROCESSES - 1], came_by]


def _kind(host: str) -> AddressKind | None:
    """None: of a name."""
    ip = parse_host(host)
    return None if ip is None else kind_of(ip)
