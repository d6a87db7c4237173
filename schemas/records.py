"""Signed things, and those about people: bundles and endpoint records.

A signature covers exact payload bytes, so encoding and signing are apart: `encode` here, sign and
verify in `identity.signing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas import limits
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.capnp_codec import counter, exactly, items, load, reading, sized, text
from schemas.ids import DeviceKey, IdentityKey

_record = load("record.capnp")

HYBRID_KEY_LENGTH = 32 + 1184  # X25519 public key | ML-KEM-768 encapsulation key
SIGNATURE_LENGTH = 64
_SIGNED_OVERHEAD = 256


class SignedType(StrEnum):
    """The word in the signature's prefix, `"quicnprotochat <type> v1"`."""

    DEVICE = "device"
    HYBRID_KEY = "hybrid key"
    DEVICE_OWNER = "device owner"
    BUNDLE_CORE = "bundle core"
    BUNDLE_PRIVATE = "bundle private"
    RELAY_STATEMENT = "relay statement"
    ENDPOINT_RECORD = "endpoint record"
    DHT_VALUE = "dht value"
    COMMIT_HEADER = "commit header"
    STATEMENT = "statement"
    SUMMARY = "summary"
    INTENT = "intent"
    AUDIT_CHECKPOINT = "audit checkpoint"


@dataclass(frozen=True, slots=True)
class Signed:
    """A payload's exact bytes, the signer's public key (32 B) and the signature (64 B).

    Holding one says nothing: `identity.signing.verify` does.
    """

    payload: bytes
    signer: bytes
    signature: bytes

    def encode(self) -> bytes:
        message = _record.Signed.new_message()
        fill_signed(message, self)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, data: bytes, *, limit: int = limits.BUNDLE) -> Signed:
        """Raises Malformed."""
        with reading(_record.Signed, data, limit=limit + _SIGNED_OVERHEAD, what="record") as reader:
            return read_signed(reader, limit)


def fill_signed(builder: Any, signed: Signed) -> None:
    builder.payload = signed.payload
    builder.signer = signed.signer
    builder.signature = signed.signature


def read_signed(reader: Any, limit: int) -> Signed:
    return Signed(
        sized(reader.payload, limit),
        exactly(reader.signer, 32),
        exactly(reader.signature, SIGNATURE_LENGTH),
    )


# --- endpoint record


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """Where a device can be reached; times in Unix seconds. A hint: TLS proves who answers."""

    device: DeviceKey
    sequence: int
    addresses: tuple[EndpointAddress, ...]
    relays: tuple[RelayAddress, ...]
    issued: int
    expires: int

    def encode(self) -> bytes:
        message = _record.EndpointRecord.new_message(
            device=bytes(self.device),
            sequence=self.sequence,
            issued=self.issued,
            expires=self.expires,
        )
        for slot, endpoint in zip(
            message.init("addresses", len(self.addresses)), self.addresses, strict=True
        ):
            slot.host, slot.port = endpoint.address
            slot.kind = endpoint.kind.value
        _fill_relays(message, self.relays)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> EndpointRecord:
        """Raises Malformed."""
        with reading(
            _record.EndpointRecord, payload, limit=limits.ENDPOINT_RECORD, what="endpoint-record"
        ) as reader:
            return cls(
                DeviceKey(reader.device),
                counter(reader.sequence),
                items(reader.addresses, limits.ENDPOINT_ADDRESSES, _read_address),
                items(reader.relays, limits.ENDPOINT_RELAYS, _read_relay),
                counter(reader.issued),
                counter(reader.expires),
            )


def _read_address(reader: Any) -> EndpointAddress:
    return EndpointAddress(
        Address(text(reader.host, limits.ADDRESS_TEXT), reader.port), AddressKind(str(reader.kind))
    )


def _read_relay(reader: Any) -> RelayAddress:
    host = text(reader.host, limits.RELAY_PROCESSES_TEXT)
    return RelayAddress.from_wire(host, reader.port, DeviceKey(reader.device))


def _fill_relays(message: Any, relays: tuple[RelayAddress, ...]) -> None:
    for slot, relay in zip(message.init("relays", len(relays)), relays, strict=True):
        slot.host, slot.port = relay.on_wire
        slot.device = bytes(relay.device)


# --- contact bundle


@dataclass(frozen=True, slots=True)
class BundleDevice:
    """One device in a bundle, with its own word on its hybrid key and on whose it is.

    Without the latter, anybody could list somebody else's device as theirs.
    """

    key: DeviceKey
    name: str
    hybrid_key: bytes
    hybrid_signature: bytes
    owner_signature: bytes
    issued: int


@dataclass(frozen=True, slots=True)
class BundleCore:
    """What one needs to reach and seal to a person; public; newest number wins.

    `brings_tokens`: this person's program presents delivery tokens to relays.
    """

    identity: IdentityKey
    number: int
    name: str
    devices: tuple[BundleDevice, ...]
    relays: tuple[RelayAddress, ...]
    brings_tokens: bool = False

    def encode(self) -> bytes:
        message = _record.BundleCore.new_message(
            identity=bytes(self.identity),
            number=self.number,
            name=self.name,
            bringsTokens=self.brings_tokens,
        )
        for slot, device in zip(
            message.init("devices", len(self.devices)), self.devices, strict=True
        ):
            slot.key = bytes(device.key)
            slot.name = device.name
            slot.hybridKey = device.hybrid_key
            slot.hybridSignature = device.hybrid_signature
            slot.ownerSignature = device.owner_signature
            slot.issued = device.issued
        _fill_relays(message, self.relays)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> BundleCore:
        """Raises Malformed."""
        with reading(_record.BundleCore, payload, limit=limits.BUNDLE, what="bundle") as reader:
            return cls(
                IdentityKey(reader.identity),
                counter(reader.number),
                text(reader.name, limits.DISPLAY_NAME),
                items(reader.devices, limits.BUNDLE_DEVICES, _read_bundle_device),
                items(reader.relays, limits.BUNDLE_RELAYS, _read_relay),
                bool(reader.bringsTokens),
            )


def _read_bundle_device(reader: Any) -> BundleDevice:
    return BundleDevice(
        DeviceKey(reader.key),
        text(reader.name, limits.DISPLAY_NAME),
        exactly(reader.hybridKey, HYBRID_KEY_LENGTH),
        exactly(reader.hybridSignature, SIGNATURE_LENGTH),
        exactly(reader.ownerSignature, SIGNATURE_LENGTH),
        counter(reader.issued),
    )


@dataclass(frozen=True, slots=True)
class RelayStatement:
    """Where a person reads their mail, in order of preference: an excerpt of their bundle of that
    number. Newest number of both wins."""

    identity: IdentityKey
    number: int
    relays: tuple[RelayAddress, ...]

    def encode(self) -> bytes:
        message = _record.RelayStatement.new_message(
            identity=bytes(self.identity), number=self.number
        )
        _fill_relays(message, self.relays)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> RelayStatement:
        """Raises Malformed."""
        with reading(
            _record.RelayStatement, payload, limit=limits.RELAY_STATEMENT, what="relay-statement"
        ) as reader:
            return cls(
                IdentityKey(reader.identity),
                counter(reader.number),
                items(reader.relays, limits.BUNDLE_RELAYS, _read_relay),
            )


@dataclass(frozen=True, slots=True)
class BundlePrivate:
    """The part of a bundle for one reader; only ever inside a parcel. Newest number wins."""

    identity: IdentityKey
    number: int
    reader: IdentityKey
    discovery_secret: bytes
    delivery_token: bytes

    def encode(self) -> bytes:
        return bytes(
            _record.BundlePrivate.new_message(
                identity=bytes(self.identity),
                number=self.number,
                reader=bytes(self.reader),
                discoverySecret=self.discovery_secret,
                deliveryToken=self.delivery_token,
            ).to_bytes()
        )

    @classmethod
    def decode(cls, payload: bytes) -> BundlePrivate:
        """Raises Malformed."""
        with reading(
            _record.BundlePrivate, payload, limit=limits.BUNDLE_PRIVATE, what="bundle"
        ) as reader:
            return cls(
                IdentityKey(reader.identity),
                counter(reader.number),
                IdentityKey(reader.reader),
                sized(reader.discoverySecret, 32),
                sized(reader.deliveryToken, 32),
            )
