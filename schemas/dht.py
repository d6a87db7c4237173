"""The DHT's requests, responses and values (ALPN quicnprotochat/dht/1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from schemas import limits
from schemas.addresses import Address
from schemas.capnp_codec import counter, exactly, items, load, reading, sized, text, which
from schemas.errors import Malformed
from schemas.ids import DeviceKey, DhtId
from schemas.records import Signed, fill_signed, read_signed

_dht = load("dht.capnp")

DHT_ALPN = "quicnprotochat/dht/1"


class ToldContact(Protocol):
    """A node of the DHT as others tell of it: its device key and where it listens."""

    @property
    def device(self) -> DeviceKey: ...
    @property
    def address(self) -> Address: ...


class ReadContact(NamedTuple):
    """A contact as read from the wire: nothing about it is proven."""

    device: DeviceKey
    address: Address


# --- requests


@dataclass(frozen=True, slots=True)
class FindNode:
    """Which contacts nearest to `target` do you know? `announce`: I answer requests too."""

    target: DhtId
    announce: bool = False


@dataclass(frozen=True, slots=True)
class FindValue:
    """Which values do you keep under `key`, and who is nearer to it?"""

    key: DhtId


@dataclass(frozen=True, slots=True)
class Store:
    """Keep `value` under `key` until it expires."""

    key: DhtId
    value: Signed


@dataclass(frozen=True, slots=True)
class DialBack:
    """Dial the address that you see me at, from another socket, and say whether I answered."""


DhtRequest = FindNode | FindValue | Store | DialBack


def encode_dht_request(request: DhtRequest) -> bytes:
    message = _dht.DhtRequest.new_message()
    match request:
        case FindNode(target, announce):
            body = message.init("findNode")
            body.target, body.announce = bytes(target), announce
        case FindValue(key):
            message.findValue = bytes(key)
        case Store(key, value):
            body = message.init("store")
            body.key = bytes(key)
            fill_signed(body.init("value"), value)
        case DialBack():
            message.dialBack = None
    return bytes(message.to_bytes())


def decode_dht_request(data: bytes) -> DhtRequest:
    """Raises Malformed."""
    with reading(_dht.DhtRequest, data, limit=limits.DHT_REQUEST, what="dht-request") as reader:
        match which(reader):
            case "findNode":
                body = reader.findNode
                return FindNode(DhtId(body.target), bool(body.announce))
            case "findValue":
                return FindValue(DhtId(reader.findValue))
            case "store":
                body = reader.store
                return Store(DhtId(body.key), read_signed(body.value, limits.DHT_VALUE))
            case "dialBack":
                return DialBack()
    raise Malformed("unknown-kind", "a kind this version does not know", hint="upgrade this node")


# --- responses


@dataclass(frozen=True, slots=True)
class Contacts:
    """Those nearest to what was asked for, nearest first."""

    contacts: Sequence[ToldContact]


@dataclass(frozen=True, slots=True)
class Values:
    """What is kept under the key, and who is nearer to it."""

    values: Sequence[Signed]
    contacts: Sequence[ToldContact]


@dataclass(frozen=True, slots=True)
class Stored:
    """The value is kept."""


@dataclass(frozen=True, slots=True)
class DialedBack:
    """Whether the asker answered at `observed`."""

    reached: bool
    observed: str


@dataclass(frozen=True, slots=True)
class DhtError:
    """Refused, and by which rule."""

    code: str
    message: str


DhtResponse = Contacts | Values | Stored | DialedBack | DhtError


def encode_dht_response(response: DhtResponse, observed: str) -> bytes:
    """`observed`: the asker's address as seen here."""
    message = _dht.DhtResponse.new_message(observed=observed)
    match response:
        case Contacts(contacts):
            _fill_contacts(message.init("contacts", len(contacts)), contacts)
        case Values(values, contacts):
            body = message.init("values")
            for slot, value in zip(body.init("values", len(values)), values, strict=True):
                fill_signed(slot, value)
            _fill_contacts(body.init("contacts", len(contacts)), contacts)
        case Stored():
            message.stored = None
        case DialedBack(reached, seen):
            body = message.init("dialedBack")
            body.reached, body.observed = reached, seen
        case DhtError(code, why):
            body = message.init("error")
            body.code, body.message = code, why
    return bytes(message.to_bytes())


def decode_dht_response(data: bytes) -> tuple[DhtResponse, str]:
    """The response, and our own address as the other side sees it. Raises Malformed."""
    with reading(_dht.DhtResponse, data, limit=limits.DHT_RESPONSE, what="dht-response") as reader:
        return _read_response(reader), text(reader.observed, limits.ADDRESS_TEXT)


def _read_response(reader: Any) -> DhtResponse:
    match which(reader):
        case "contacts":
            return Contacts(_read_contacts(reader.contacts))
        case "values":
            body = reader.values
            return Values(
                items(body.values, limits.DHT_VALUES, _read_value), _read_contacts(body.contacts)
            )
        case "stored":
            return Stored()
        case "dialedBack":
            body = reader.dialedBack
            return DialedBack(bool(body.reached), text(body.observed, limits.ADDRESS_TEXT))
        case "error":
            body = reader.error
            return DhtError(
                text(body.code, limits.DHT_ERROR_TEXT), text(body.message, limits.DHT_ERROR_TEXT)
            )
    raise Malformed("unknown-kind", "a kind this version does not know", hint="upgrade this node")


def _read_value(reader: Any) -> Signed:
    return read_signed(reader, limits.DHT_VALUE)


def _read_contacts(readers: Any) -> tuple[ReadContact, ...]:
    return items(readers, limits.DHT_CONTACTS, _read_contact)


def _read_contact(reader: Any) -> ReadContact:
    host = text(reader.host, limits.DHT_HOST)
    return ReadContact(DeviceKey(reader.device), Address(host, int(reader.port)))


def _fill_contacts(slots: Any, contacts: Sequence[ToldContact]) -> None:
    for slot, contact in zip(slots, contacts, strict=True):
        slot.device = bytes(contact.device)
        slot.host, slot.port = contact.address


# --- values


@dataclass(frozen=True, slots=True)
class DhtValue:
    """The payload of a private value; times in Unix seconds.

    Whoever keeps it can tell that it belongs into `cell`, how new it is and when it ends, and not
    whose it is: `sealed` holds the signed endpoint record that alone its reader believes.
    """

    cell: DhtId
    sequence: int
    issued: int
    expires: int
    sealed: bytes

    def encode(self) -> bytes:
        return bytes(
            _dht.DhtValue.new_message(
                cell=bytes(self.cell),
                sequence=self.sequence,
                issued=self.issued,
                expires=self.expires,
                sealed=self.sealed,
            ).to_bytes()
        )

    @classmethod
    def decode(cls, payload: bytes) -> DhtValue:
        """Raises Malformed."""
        with reading(_dht.DhtValue, payload, limit=limits.DHT_VALUE, what="dht-value") as reader:
            return cls(
                DhtId(exactly(reader.cell, 32)),
                counter(reader.sequence),
                counter(reader.issued),
                counter(reader.expires),
                sized(reader.sealed, limits.DHT_SEALED),
            )
