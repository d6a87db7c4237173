"""Frames between nodes (ALPN quicnprotochat/p2p/1); the length prefix is the transport's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from schemas import limits
from schemas.addresses import Address, read_addresses
from schemas.capnp_codec import counter, exactly, items, load, reading, sized, text, which
from schemas.errors import Malformed
from schemas.group_records import SUMMARY_BYTES
from schemas.ids import DeviceKey, IdentityKey, ParcelId
from schemas.parcels import Parcel, fill_parcel, read_parcel
from schemas.records import Signed, fill_signed, read_signed

_frame = load("frame.capnp")

P2P_ALPN = "quicnprotochat/p2p/1"
P2P_VERSION = 1
MEET: Final = "meet"  # in `Hello.features`: brings others together, and is brought
CREDENTIAL_LENGTH = 96


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of each side: who I am, and how new what you hold of me is."""

    credential: bytes
    bundle_number: int
    bundle_hash: bytes
    endpoint_sequence: int
    observed: str
    versions: tuple[int, ...] = (P2P_VERSION,)
    largest_frame: int = limits.FRAME
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    nonce: int


@dataclass(frozen=True, slots=True)
class Pong:
    nonce: int


@dataclass(frozen=True, slots=True)
class Deliver:
    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Acked:
    """The parcel is on the recipient's disk: stop sending it."""

    parcel: ParcelId


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now (a buffer is full, or something it needs is missing): try again later."""

    parcel: ParcelId
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class RefusedParcel:
    """Never: the parcel cannot be opened or breaks a rule."""

    parcel: ParcelId
    code: str


@dataclass(frozen=True, slots=True)
class SummaryFrame:
    summary: Signed


@dataclass(frozen=True, slots=True)
class KeyPackageRequest:
    suite: int
    request_id: bytes


@dataclass(frozen=True, slots=True)
class KeyPackageResponse:
    key_package: bytes


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """The bundle of `identity` when its number is above `newer_than`, and endpoint records."""

    identity: IdentityKey
    newer_than: int


@dataclass(frozen=True, slots=True)
class BundleResponse:
    core: Signed | None
    endpoints: tuple[Signed, ...]


@dataclass(frozen=True, slots=True)
class MeetRequest:
    """Bring me together with the device `peer`, which is to dial `addresses`."""

    peer: DeviceKey
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Meet:
    """The device `peer` asks to be dialled at `addresses`, now."""

    peer: DeviceKey
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class MeetResponse:
    """Where the peer is, which dials from now on; nothing: it will not."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    code: str
    message: str
    hint: str = ""
    retry_after_ms: int = 0


Frame = (
    Hello
    | Ping
    | Pong
    | Deliver
    | Acked
    | Deferred
    | RefusedParcel
    | SummaryFrame
    | KeyPackageRequest
    | KeyPackageResponse
    | BundleRequest
    | BundleResponse
    | MeetRequest
    | Meet
    | MeetResponse
    | ErrorFrame
)


def encode_frame(frame: Frame) -> bytes:
    """One unpacked `Frame` message."""
    message = _frame.Frame.new_message()
    match frame:
        case Hello():
            hello = message.init("hello")
            hello.versions = list(frame.versions)
            hello.credential = frame.credential
            hello.bundleNumber = frame.bundle_number
            hello.bundleHash = frame.bundle_hash
            hello.endpointSequence = frame.endpoint_sequence
            hello.largestFrame = frame.largest_frame
            hello.observed = frame.observed
            hello.features = list(frame.features)
        case Ping(nonce):
            message.ping = nonce
        case Pong(nonce):
            message.pong = nonce
        case Deliver(parcel):
            fill_parcel(message.init("deliver"), parcel)
        case Acked(parcel):
            ack = message.init("ack")
            ack.parcel = bytes(parcel)
            ack.ok = None
        case Deferred(parcel, retry_after_ms):
            ack = message.init("ack")
            ack.parcel = bytes(parcel)
            ack.deferred = retry_after_ms
        case RefusedParcel(parcel, code):
            ack = message.init("ack")
            ack.parcel = bytes(parcel)
            ack.refused = code
        case SummaryFrame(summary):
            fill_signed(message.init("summary"), summary)
        case KeyPackageRequest(suite, request_id):
            request = message.init("keyPackageRequest")
            request.suite = suite
            request.requestId = request_id
        case KeyPackageResponse(key_package):
            message.init("keyPackageResponse").keyPackage = key_package
        case BundleRequest(identity, newer_than):
            wanted = message.init("bundleRequest")
            wanted.identity = bytes(identity)
            wanted.newerThan = newer_than
        case BundleResponse(core, endpoints):
            response = message.init("bundleResponse")
            if core is not None:
                fill_signed(response.init("core"), core)
            slots = response.init("endpoints", len(endpoints))
            for slot, record in zip(slots, endpoints, strict=True):
                fill_signed(slot, record)
        case MeetRequest(peer, addresses):
            _fill_meet(message.init("meetRequest"), peer, addresses)
        case Meet(peer, addresses):
            _fill_meet(message.init("meet"), peer, addresses)
        case MeetResponse(addresses):
            message.init("meetResponse").addresses = [str(each) for each in addresses]
        case ErrorFrame():
            fill_error(message.init("error"), frame)
    return bytes(message.to_bytes())


def decode_frame(data: bytes) -> Frame:
    """One frame's payload. Raises Malformed."""
    with reading(_frame.Frame, data, limit=limits.FRAME, what="frame") as reader:
        return _read(reader)


def _read(reader: Any) -> Frame:
    match which(reader):
        case "hello":
            hello = reader.hello
            return Hello(
                exactly(hello.credential, CREDENTIAL_LENGTH),
                counter(hello.bundleNumber),
                exactly(hello.bundleHash, 32),
                counter(hello.endpointSequence),
                text(hello.observed, limits.ADDRESS_TEXT),
                items(hello.versions, 16, int),
                hello.largestFrame,
                items(hello.features, 32, lambda value: text(value, 64)),
            )
        case "ping":
            return Ping(reader.ping)
        case "pong":
            return Pong(reader.pong)
        case "deliver":
            return Deliver(read_parcel(reader.deliver))
        case "ack":
            return _read_ack(reader.ack)
        case "summary":
            return SummaryFrame(read_signed(reader.summary, SUMMARY_BYTES))
        case "keyPackageRequest":
            request = reader.keyPackageRequest
            return KeyPackageRequest(request.suite, exactly(request.requestId, limits.REQUEST_ID))
        case "keyPackageResponse":
            return KeyPackageResponse(
                sized(reader.keyPackageResponse.keyPackage, limits.KEY_PACKAGE)
            )
        case "bundleRequest":
            wanted = reader.bundleRequest
            return BundleRequest(IdentityKey(wanted.identity), counter(wanted.newerThan))
        case "bundleResponse":
            response = reader.bundleResponse
            return BundleResponse(
                read_signed(response.core, limits.BUNDLE) if response._has("core") else None,
                items(
                    response.endpoints,
                    limits.BUNDLE_DEVICES,
                    lambda record: read_signed(record, limits.ENDPOINT_RECORD),
                ),
            )
        case "meetRequest":
            return MeetRequest(*_read_meet(reader.meetRequest))
        case "meet":
            return Meet(*_read_meet(reader.meet))
        case "meetResponse":
            return MeetResponse(read_addresses(reader.meetResponse.addresses))
        case "error":
            return read_error(reader.error)
        case other:
            raise Malformed("unknown-kind", f"a frame of unknown kind {other!r}")


def _fill_meet(builder: Any, peer: DeviceKey, addresses: tuple[Address, ...]) -> None:
    builder.peer = bytes(peer)
    builder.addresses = [str(each) for each in addresses]


def _read_meet(reader: Any) -> tuple[DeviceKey, tuple[Address, ...]]:
    return DeviceKey(reader.peer), read_addresses(reader.addresses)


def _read_ack(reader: Any) -> Acked | Deferred | RefusedParcel:
    parcel = ParcelId(reader.parcel)
    match which(reader):
        case "ok":
            return Acked(parcel)
        case "deferred":
            return Deferred(parcel, reader.deferred)
        case "refused":
            return RefusedParcel(parcel, text(reader.refused, 64))
        case other:
            raise Malformed("unknown-kind", f"an ack of unknown kind {other!r}")


def fill_error(builder: Any, error: ErrorFrame) -> None:
    builder.code = error.code
    builder.message = error.message
    builder.hint = error.hint
    builder.retryAfterMs = error.retry_after_ms


def read_error(reader: Any) -> ErrorFrame:
    return ErrorFrame(
        text(reader.code, 64),
        text(reader.message, 512),
        text(reader.hint, 512),
        reader.retryAfterMs,
    )
