"""What a device publishes and where its readers look: private cells by the day, or in the open."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from discovery.dht.contact import node_id
from discovery.dht.limits import DhtLimits
from discovery.dht.value import check_signature_untrusted, read_value_untrusted
from discovery.record import open_endpoint_record_untrusted
from identity.cell import (
    DAY_S,
    Cell,
    cell_of,
    cell_signer,
    open_cell_untrusted,
    seal_into_cell,
)
from identity.keys import KeyPair
from identity.signing import sign
from schemas.dht import DhtValue
from schemas.errors import Malformed
from schemas.ids import DeviceKey, DhtId
from schemas.records import EndpointRecord, Signed, SignedType


@dataclass(frozen=True, slots=True)
class Publication:
    """A value and its key."""

    key: DhtId
    value: Signed


def private_publications(
    device: KeyPair[DeviceKey],
    discovery_secret: bytes,
    record: Signed,
    *,
    now: float,
    limits: DhtLimits,
    random: Callable[[int], bytes] = os.urandom,
) -> list[Publication]:
    """`record` (the device's signed endpoint record) for today's cell, and tomorrow's by evening.

    Empty when the record has expired. Each call seals anew: whoever keeps the value sees a newer
    one of the same signer, and cannot tell whether anything in it changed.
    """
    expires = EndpointRecord.decode(record.payload).expires
    today = int(now // DAY_S)
    days = [today]
    if (today + 1) * DAY_S - now <= limits.before_midnight_s:
        days.append(today + 1)
    encoded = record.encode()
    found = []
    for day in days:
        # Beyond its day, for readers whose clock is behind; the record inside says the rest.
        ends = min(expires, int((day + 1) * DAY_S + limits.around_midnight_s))
        if ends <= now:
            continue
        cell = cell_of(discovery_secret, device.public, day)
        # The time is a number as good as any, and of everybody alike: the record's own would tell
        # which cells of two days are one device's.
        sequence = int(now * 1000)
        sealed = seal_into_cell(cell, encoded, random)
        value = DhtValue(cell.id, sequence, int(now), ends, sealed)
        signer = cell_signer(device, cell)
        found.append(Publication(cell.id, sign(SignedType.DHT_VALUE, signer, value.encode())))
    return found


def public_publication(record: Signed) -> Publication:
    """`record` for anybody who knows the device key."""
    return Publication(node_id(DeviceKey(record.signer)), record)


def cells_to_read(
    device: DeviceKey, discovery_secret: bytes, *, now: float, limits: DhtLimits
) -> list[Cell]:
    """Today's cell of `device`, and around midnight the neighbouring day's: clocks differ."""
    today = int(now // DAY_S)
    days = [today]
    since_midnight = now - today * DAY_S
    if since_midnight < limits.around_midnight_s:
        days.append(today - 1)
    if DAY_S - since_midnight < limits.around_midnight_s:
        days.append(today + 1)
    return [cell_of(discovery_secret, device, day) for day in days]


def open_private_untrusted(cell: Cell, device: DeviceKey, value: Signed, *, now: float) -> Signed:
    """The endpoint record of `device` in a value of its cell, with the device's signature.

    Raises Malformed as `read_value_untrusted` and `open_endpoint_record_untrusted` do,
    `bad-signature`, `cannot-open`, or `wrong-device`: somebody else who knows the cell put it.
    """
    read_value_untrusted(cell.id, value, now=now)
    check_signature_untrusted(value)
    inner = Signed.decode(open_cell_untrusted(cell, DhtValue.decode(value.payload).sealed))
    return open_public_untrusted(device, inner, now=now)


def open_public_untrusted(device: DeviceKey, value: Signed, *, now: float) -> Signed:
    """`value`, if it is the endpoint record of `device` and of use at `now`.

    Raises Malformed as `open_endpoint_record_untrusted`, and `wrong-device`.
    """
    if value.signer != device:
        raise Malformed("wrong-device", "the endpoint record of another device")
    open_endpoint_record_untrusted(value, now=now)
    return value
