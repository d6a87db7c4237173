"""NodeService, the relay's RPC: the interface and the values that cross it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from schemas import limits
from schemas.addresses import Address, read_addresses
from schemas.capnp_codec import counter, exactly, items, load, sized, unix_time
from schemas.errors import Malformed
from schemas.frames import ErrorFrame, fill_error, read_error
from schemas.ids import DeviceKey, ParcelId

_node = load("node.capnp")

NodeService: Final[Any] = _node.NodeService
ParcelSink: Final[Any] = _node.ParcelSink
RELAY_ALPN: Final = "capnp"
AUTH_VERSION: Final = 1
UNIMPLEMENTED: Final = "unimplemented"


@dataclass(frozen=True, slots=True)
class StoredParcel:
    """A parcel in a mailbox; sequence numbers of one mailbox only grow."""

    sequence: int
    id: ParcelId
    expires: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class EnqueueItem:
    """A parcel for a mailbox; `channel` is empty or 16 bytes, `expires` in Unix seconds.

    `token`: the delivery token that the recipient gave, 32 bytes, or empty.
    """

    recipient: DeviceKey
    id: ParcelId
    expires: int
    sealed: bytes
    channel: bytes = b""
    token: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """On the relay's disk, kept until `expires`."""

    sequence: int
    expires: int


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A look into a mailbox: parcels in order, and the range of numbers that exist (0 = empty).

    `refused_since`: when it first refused a parcel for being full, in Unix seconds; 0: it did not.
    """

    parcels: tuple[StoredParcel, ...]
    lowest: int
    highest: int
    refused_since: int = 0


def fill_auth(builder: Any, device: DeviceKey, access_token: bytes = b"") -> None:
    """`access_token`: of a session, an invite, or the relay's `auth_token`; see node.capnp."""
    builder.version = AUTH_VERSION
    builder.deviceId = bytes(device)
    builder.accessToken = access_token


def fill_enqueue_item(builder: Any, item: EnqueueItem) -> None:
    builder.recipientKey = bytes(item.recipient)
    builder.channelId = item.channel
    builder.id = bytes(item.id)
    builder.expires = item.expires
    builder.sealed = item.sealed
    builder.token = item.token


def read_enqueue_item(reader: Any) -> EnqueueItem:
    """Raises ValueError or Malformed (call inside `blaming_the_peer`)."""
    return EnqueueItem(
        DeviceKey(reader.recipientKey),
        ParcelId(reader.id),
        reader.expires,
        sized(reader.sealed, limits.PARCEL),
        read_channel(reader.channelId),
        exactly(reader.token, limits.DELIVERY_TOKEN) if len(reader.token) else b"",
    )


def read_channel(value: Any) -> bytes:
    """An optional channel id: empty, or 16 bytes."""
    return exactly(value, 16) if len(value) else b""


def fill_enqueue_result(builder: Any, result: Enqueued | ErrorFrame) -> None:
    match result:
        case Enqueued(sequence, expires):
            builder.sequence = sequence
            builder.expires = expires
        case ErrorFrame():
            fill_error(builder.init("error"), result)


def read_enqueue_result(reader: Any) -> Enqueued | ErrorFrame:
    """Raises ValueError or Malformed (call inside `blaming_the_peer`)."""
    error = read_error(reader.error)
    if error.code:
        return error
    return Enqueued(counter(reader.sequence), unix_time(reader.expires))


def fill_mailbox(builder: Any, mailbox: Mailbox) -> None:
    fill_parcels(builder, mailbox.parcels)
    builder.lowest = mailbox.lowest
    builder.highest = mailbox.highest
    builder.refusedSince = mailbox.refused_since


def fill_parcels(builder: Any, parcels: Sequence[StoredParcel]) -> None:
    """The field `parcels` of a look, and of a call of ParcelSink."""
    slots = builder.init("parcels", len(parcels))
    for slot, parcel in zip(slots, parcels, strict=True):
        slot.sequence = parcel.sequence
        slot.id = bytes(parcel.id)
        slot.expires = parcel.expires
        slot.sealed = parcel.sealed


def read_mailbox(reader: Any) -> Mailbox:
    """Raises ValueError or Malformed (call inside `blaming_the_peer`)."""
    parcels = read_parcels(reader)
    lowest, highest = counter(reader.lowest), counter(reader.highest)
    return Mailbox(parcels, lowest, highest, unix_time(reader.refusedSince))


def read_parcels(reader: Any) -> tuple[StoredParcel, ...]:
    """The field `parcels` of a look, and of a call of ParcelSink; numbers grow.

    Raises ValueError or Malformed (call inside `blaming_the_peer`).
    """
    parcels = items(reader.parcels, limits.MAILBOX_PARCELS, _read_stored_parcel)
    sequences = [parcel.sequence for parcel in parcels]
    if sequences != sorted(set(sequences)):
        raise Malformed("malformed-mailbox", "the relay repeats or reorders sequence numbers")
    return parcels


def _read_stored_parcel(reader: Any) -> StoredParcel:
    return StoredParcel(
        counter(reader.sequence),
        ParcelId(reader.id),
        unix_time(reader.expires),
        sized(reader.sealed, limits.PARCEL),
    )


def read_meet(reader: Any) -> tuple[DeviceKey, tuple[Address, ...]]:
    """The parameters of ParcelSink.meet.

    Raises ValueError or Malformed (call inside `blaming_the_peer`).
    """
    return DeviceKey(reader.peer), read_addresses(reader.addresses)


def fill_addresses(builder: Any, addresses: Sequence[Address]) -> None:
    """The field `addresses` of rendezvous and meet."""
    builder.addresses = [str(each) for each in addresses]


def fill_processes(builder: Any, processes: Sequence[Address]) -> None:
    """Where the processes of a relay listen, in the results of health."""
    builder.processes = [str(each) for each in processes]


def read_devices(values: Sequence[Any], limit: int) -> tuple[DeviceKey, ...]:
    return items(values, limit, DeviceKey)
