"""The byte-exact examples of docs/wire-format.md: everything from fixed keys, nothing random."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from discovery.record import sign_endpoint_record
from identity.credential import issue_credential
from identity.delivery_token import card_token, contact_token, group_token, token_hash
from identity.envelope import HybridKeyPair, open_untrusted
from identity.keys import device_from_seed, identity_from_seed
from identity.safety import safety_number
from identity.signing import prefixed, sign
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.card import Card
from schemas.frames import Acked, Deliver, Frame, Hello, MeetRequest, Ping, encode_frame
from schemas.group_records import AuthorMark, CommitHeader, MemberRef, Statement, Summary
from schemas.ids import CommitHash, EpochId, GroupId, MessageId, ParcelId
from schemas.messages import AppMessage, GroupInfo, GroupKind, InvitePolicy
from schemas.parcels import MessageContent, Parcel, ParcelBody, pad
from schemas.records import EndpointRecord, SignedType

ADA = identity_from_seed(bytes([1]) * 32)
BOB = identity_from_seed(bytes([2]) * 32)
LAPTOP = device_from_seed(bytes([3]) * 32)
PHONE = device_from_seed(bytes([4]) * 32)
RELAY = RelayAddress(Address("relay.example", 7000), PHONE.public)
NOW: Final = 1_800_000_000

_GROUP, _EPOCH = GroupId(bytes([5]) * 16), EpochId(bytes([6]) * 32)
_HEAD, _PARCEL = CommitHash(bytes([7]) * 32), ParcelId(bytes([8]) * 16)


def _framed(frame: Frame) -> bytes:
    payload = encode_frame(frame)
    return len(payload).to_bytes(4, "little") + payload


def _credential() -> bytes:
    return issue_credential(ADA, LAPTOP.public)


def _record() -> EndpointRecord:
    lan = EndpointAddress(Address("192.0.2.7", 7000), AddressKind.LAN)
    return EndpointRecord(LAPTOP.public, 9, (lan,), (RELAY,), NOW, NOW + 3600)


def _card() -> Card:
    digest = hashlib.sha256(b"bundle core").digest()
    hint = (Address("192.0.2.7", 7000),)
    return Card(ADA.public, LAPTOP.public, bytes([9]) * 32, 4, digest, NOW, hint, RELAY)


def _message() -> bytes:
    message_id = MessageId(bytes([10]) * 16)
    return AppMessage(message_id, 5, 2, 11, (), NOW * 1000, "hi").encode()


def _header() -> bytes:
    added = (MemberRef(PHONE.public, BOB.public),)
    root = CommitHash(bytes(32))
    return CommitHeader(_HEAD, root, _GROUP, 1, LAPTOP.public, added, (), ()).encode()


def _summary() -> bytes:
    mark = AuthorMark(PHONE.public, 1, 9, (3, 4), 2)
    return Summary(_GROUP, _EPOCH, _HEAD, 2, (mark,)).encode()


def _body() -> bytes:
    return ParcelBody(_PARCEL, MessageContent(b"mls bytes"), _GROUP, _EPOCH, None).encode()


def _deliver() -> bytes:
    return _framed(Deliver(Parcel(_PARCEL, PHONE.public, NOW, b"sealed bytes")))


def _hello() -> bytes:
    return _framed(Hello(_credential(), 4, bytes([11]) * 32, 9, "192.0.2.7:7000"))


EXAMPLES: Final[dict[str, Callable[[], bytes | str]]] = {
    "identity-key": lambda: bytes(ADA.public),
    "device-key": lambda: bytes(LAPTOP.public),
    "signed-prefix": lambda: prefixed(SignedType.DEVICE, LAPTOP.public),
    "credential": _credential,
    "safety-number": lambda: safety_number(ADA.public, BOB.public),
    "contact-token": lambda: contact_token(bytes([9]) * 32, BOB.public),
    "card-token": lambda: card_token(bytes([10]) * 32, LAPTOP.public),
    "group-token": lambda: group_token(_GROUP, LAPTOP.public),
    "token-hash": lambda: token_hash(group_token(_GROUP, LAPTOP.public)),
    "card": lambda: _card().encode(),
    "card-text": lambda: str(_card()),
    "relay-address": lambda: str(RELAY),
    "endpoint-record": lambda: sign_endpoint_record(LAPTOP, _record()).encode(),
    "group-info": lambda: GroupInfo(
        "friends", GroupKind.GROUP, (ADA.public,), InvitePolicy.ADMINS
    ).encode(),
    "app-message": _message,
    "commit-header": _header,
    "statement": lambda: sign(
        SignedType.STATEMENT, LAPTOP, Statement(_GROUP, 3, _HEAD, _EPOCH).encode()
    ).encode(),
    "summary": _summary,
    "parcel-body": _body,
    "padded-body": lambda: pad(b"body"),
    "frame-ping": lambda: _framed(Ping(7)),
    "frame-ack": lambda: _framed(Acked(_PARCEL)),
    "frame-deliver": _deliver,
    "frame-hello": _hello,
    "frame-meet-request": lambda: _framed(
        MeetRequest(PHONE.public, (Address("192.0.2.7", 7000), Address("2001:db8::7", 7000)))
    ),
}

_WIDTH = 32


def shown(name: str) -> str:
    """As the page shows it: text, or lines of 32 bytes in hex, long zeros told in a line."""
    value = EXAMPLES[name]()
    if isinstance(value, str):
        return value
    lines = [value[at : at + _WIDTH].hex() for at in range(0, len(value), _WIDTH)]
    return "\n".join(lines)


def open_example_envelope(private: str, public: str, sealed: str) -> bytes:
    """What is in the page's envelope, opened with the page's keys."""
    keys = HybridKeyPair(bytes.fromhex(public), bytes.fromhex(private))
    return open_untrusted(keys, bytes.fromhex(sealed))
