"""Signed endpoint records: made by their device, checked on every put and every get."""

from __future__ import annotations

import dataclasses
from typing import Final

from discovery.hosts import parse_host, usable, usable_host
from identity.keys import KeyPair
from identity.signing import open_signed, sign
from schemas import limits
from schemas.addresses import Address, EndpointAddress, RelayAddress
from schemas.errors import Malformed, Refused
from schemas.ids import DeviceKey
from schemas.records import EndpointRecord, Signed, SignedType

# How far ahead an author's clock may be. Records live for up to 48 h, so nothing hangs on minutes,
# and many personal computers are minutes off.
CLOCK_SKEW_S: Final = 600


def sign_endpoint_record(device: KeyPair[DeviceKey], record: EndpointRecord) -> Signed:
    """`record` signed by the device it describes.

    Raises Refused `wrong-signer` for another device's record, `bad-lifetime` for one that would
    live for no time or above ENDPOINT_LIFETIME_S, `oversized-endpoint-record` above 1 KiB, which
    only long relay names or too many addresses reach: every reader would refuse those.
    """
    if record.device != device.public:
        raise Refused("wrong-signer", "an endpoint record is signed by the device it describes")
    if not 0 < record.expires - record.issued <= limits.ENDPOINT_LIFETIME_S:
        raise Refused("bad-lifetime", f"a record lives {limits.ENDPOINT_LIFETIME_S} s at most")
    payload = record.encode()
    if (
        len(payload) > limits.ENDPOINT_RECORD
        or len(record.addresses) > limits.ENDPOINT_ADDRESSES
        or len(record.relays) > limits.ENDPOINT_RELAYS
    ):
        raise Refused(
            "oversized-endpoint-record",
            f"{len(record.addresses)} addresses and {len(record.relays)} relays in "
            f"{len(payload)} bytes; the limit is {limits.ENDPOINT_RECORD} bytes",
            hint="name fewer relays, or relays with shorter names",
        )
    return sign(SignedType.ENDPOINT_RECORD, device, payload)


def open_endpoint_record_untrusted(signed: Signed, *, now: float) -> EndpointRecord:
    """The record in `signed`, if it is its device's own and of use at `now` (Unix seconds).

    Addresses and relays that nobody could dial (see `hosts.usable_host`; port 0) are left out
    rather than refused: one odd address, perhaps of a newer version, must not hide the good ones.
    A record may have no address at all, which says "only through my relays". Loopback addresses
    stay: nodes of one machine use them, and elsewhere the pinned handshake fails closed.

    Raises Malformed: `bad-signature`, `wrong-signer`, `oversized-endpoint-record`,
    `malformed-endpoint-record`, `expired`, `issued-in-future` (above CLOCK_SKEW_S ahead) or
    `bad-lifetime` (none, or above ENDPOINT_LIFETIME_S).
    """
    record = open_signed(
        SignedType.ENDPOINT_RECORD, signed, _decode_untrusted, lambda value: value.device
    )
    if not 0 < record.expires - record.issued <= limits.ENDPOINT_LIFETIME_S:
        raise Malformed("bad-lifetime", "an endpoint record with an impossible lifetime")
    if record.issued > now + CLOCK_SKEW_S:
        raise Malformed(
            "issued-in-future",
            "an endpoint record from the future",
            hint="check this machine's clock, and the peer's",
        )
    if record.expires <= now:
        raise Malformed("expired", "an endpoint record that has expired")
    return dataclasses.replace(
        record,
        addresses=_usable_addresses(record.addresses),
        relays=_usable_relays(record.relays),
    )


def newest(a: EndpointRecord, b: EndpointRecord) -> EndpointRecord:
    """The one of two valid records of one device that counts: highest sequence number.

    A number used twice (a copied home) is decided by issue time, then by bytes, so that all
    readers choose alike whatever the order of arrival. Raises ValueError for two devices.
    """
    if a.device != b.device:
        raise ValueError("records of two devices cannot be compared")
    return max(a, b, key=lambda record: (record.sequence, record.issued, record.encode()))


def _decode_untrusted(payload: bytes) -> EndpointRecord:
    try:
        return EndpointRecord.decode(payload)
    except RuntimeError:
        # pycapnp's way of saying that an address is of a kind this version does not know.
        raise Malformed(
            "malformed-endpoint-record", "not a valid endpoint record", hint="upgrade this node"
        ) from None


def _usable_addresses(addresses: tuple[EndpointAddress, ...]) -> tuple[EndpointAddress, ...]:
    unique = {kept.address: kept for kept in map(usable, addresses) if kept is not None}
    return tuple(unique.values())


def _usable_relays(relays: tuple[RelayAddress, ...]) -> tuple[RelayAddress, ...]:
    found = ((relay, [each for each in relay.processes if dialable(each)]) for relay in relays)
    return tuple(relay.at(processes) for relay, processes in found if processes)


def dialable(process: Address) -> bool:
    """Whether a relay may say that it listens there."""
    # A relay may have a name: it is the user's choice of service, and pinned by its key.
    host, port = process
    numeric_and_bad = parse_host(host) is not None and usable_host(host, on_link=False) is None
    return bool(host) and 0 < port <= 65535 and not numeric_and_bad
