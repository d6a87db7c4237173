"""The model's messages: one frame around a MessagePack array, and a tag over all of it.

    version 0x0001 (2) | kind (1) | length of the body (4) | body | tag (16)

What only members may read has a tag keyed by the secret of its epoch, the rest by a constant: a
flipped byte is found by everybody, and a message of another branch by its members.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final, TypeVar

import mls_rs
import msgspec

from simulation.model_mls.values import Header, KeyPackageInfo, fault

T = TypeVar("T")

APPLICATION: Final = 1
COMMIT: Final = 2
WELCOME: Final = 3
KEY_PACKAGE: Final = 5

_HEAD: Final = struct.Struct(">HBI")
_VERSION: Final = 1
_TAG: Final = 16
_OPEN: Final = b"model: a checksum, no secret"


class Leaf(msgspec.Struct, frozen=True, array_like=True):
    """`key` stands for the encryption key: a new one with each KeyPackage and each commit."""

    signature_key: bytes
    credential: bytes
    key: bytes
    extension_types: tuple[int, ...]


Tree = tuple[Leaf | None, ...]
"""By leaf index; the last one is never blank."""

Extensions = tuple[tuple[int, bytes], ...]


class Application(msgspec.Struct, frozen=True, array_like=True):
    group_id: bytes
    epoch: int
    leaf: int
    generation: int
    authenticated_data: bytes
    plaintext: bytes
    padding: bytes


class CommitContent(msgspec.Struct, frozen=True, array_like=True):
    """`entropy` and `path` stand for the update path: what makes siblings differ, and its size."""

    group_id: bytes
    epoch: int
    leaf: int
    entropy: bytes
    path: bytes
    add: tuple[bytes, ...]
    remove: tuple[int, ...]
    extensions: Extensions | None
    authenticated_data: bytes


class GroupInfo(msgspec.Struct, frozen=True, array_like=True):
    """What a Welcome carries; in MLS it is sealed to the init keys of the KeyPackages."""

    references: tuple[bytes, ...]
    group_id: bytes
    suite: int
    epoch: int
    secret: bytes
    extensions: Extensions
    signer: int
    tree_hash: bytes
    tree: bytes | None
    secrets: bytes


class Package(msgspec.Struct, frozen=True, array_like=True):
    suite: int
    leaf: Leaf
    not_before: int
    not_after: int
    last_resort: bool


_APPLICATION: Final = msgspec.msgpack.Decoder(Application)
_COMMIT: Final = msgspec.msgpack.Decoder(CommitContent)
_WELCOME: Final = msgspec.msgpack.Decoder(GroupInfo)
_PACKAGE: Final = msgspec.msgpack.Decoder(Package)
_TREE: Final = msgspec.msgpack.Decoder(Tree)
_ENCODE: Final = msgspec.msgpack.Encoder().encode


def frame(kind: int, content: object, key: bytes = _OPEN) -> bytes:
    body = _ENCODE(content)
    framed = _HEAD.pack(_VERSION, kind, len(body)) + body
    return framed + blake2b(framed, key=key, digest_size=_TAG).digest()


def unframe(message: bytes) -> tuple[int, bytes]:
    """(kind, body), the tag unchecked. Raises DecodeError."""
    if len(message) < _HEAD.size + _TAG:
        raise fault(mls_rs.DecodeError, "malformed", "too short")
    version, kind, length = _HEAD.unpack_from(message)
    if version != _VERSION:
        raise fault(mls_rs.DecodeError, "unsupported-version", "not MLS 1.0")
    if len(message) != _HEAD.size + length + _TAG:
        raise fault(mls_rs.DecodeError, "not-canonical", "trailing bytes, or bytes missing")
    return kind, message[_HEAD.size : -_TAG]


def authentic(message: bytes, key: bytes) -> bool:
    return message[-_TAG:] == blake2b(message[:-_TAG], key=key, digest_size=_TAG).digest()


def read(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise fault(mls_rs.DecodeError, "malformed", str(error)) from error


def application(body: bytes) -> Application:
    return read(_APPLICATION, body)


def commit(body: bytes) -> CommitContent:
    return read(_COMMIT, body)


def welcome(message: bytes) -> GroupInfo:
    """Raises DecodeError or AuthenticationFailed."""
    return _public(message, WELCOME, _WELCOME)


def package(message: bytes) -> Package:
    """Raises DecodeError or AuthenticationFailed."""
    return _public(message, KEY_PACKAGE, _PACKAGE)


def _public(message: bytes, expected: int, decoder: msgspec.msgpack.Decoder[T]) -> T:
    kind, body = unframe(message)
    if kind != expected:
        raise fault(mls_rs.DecodeError, "unexpected-message")
    content = read(decoder, body)
    if not authentic(message, _OPEN):
        raise fault(mls_rs.AuthenticationFailed, "invalid-signature")
    return content


def reference(message: bytes) -> bytes:
    """The KeyPackageRef of a KeyPackage message, 32 bytes."""
    return blake2b(message, digest_size=32).digest()


# --- trees


def encode_tree(tree: Tree) -> bytes:
    return _ENCODE(tree)


def decode_tree(data: bytes) -> Tree:
    """Raises DecodeError. Whether it is the tree of an epoch is for its hash to say."""
    tree = read(_TREE, data)
    if encode_tree(tree) != data:
        raise fault(mls_rs.DecodeError, "not-canonical")
    return tree


def tree_hash(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=32).digest()


# --- what needs no group


def inspect(message: bytes) -> Header:
    kind, body = unframe(message)
    match kind:
        case 1:
            content = application(body)
            return Header("private", "application", content.group_id, content.epoch)
        case 2:
            change = commit(body)
            return Header("public", "commit", change.group_id, change.epoch)
        case 3:
            read(_WELCOME, body)
            return Header("welcome")
        case 5:
            read(_PACKAGE, body)
            return Header("key-package")
    raise fault(mls_rs.DecodeError, "malformed", f"no message of kind {kind}")


def welcome_references(message: bytes) -> list[bytes]:
    return list(welcome(message).references)


def verify_key_package(message: bytes) -> KeyPackageInfo:
    found = package(message)
    return KeyPackageInfo(
        suite=found.suite,
        signature_key=found.leaf.signature_key,
        credential=found.leaf.credential,
        not_before=found.not_before,
        not_after=found.not_after,
        reference=reference(message),
        last_resort=found.last_resort,
    )
