"""A second TLS 1.3, by hand: hashlib, hmac, struct and pqcrypto, nothing of aioquic or of ours.

Only as much as it takes to check the key exchange, the key schedule and the exporter from outside
(RFC 8446, section 7.1; draft-ietf-tls-ecdhe-mlkem). One cipher suite: TLS_AES_256_GCM_SHA384.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pqcrypto.kem import ml_kem_768

X25519MLKEM768 = 0x11EC
X25519 = 0x001D
SUITE = 0x1302
ED25519 = 0x0807
ALPN = b"quicnprotochat/test"
QUIC_PARAMETERS = (0x39, b"\x0f\x00")


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha384")


def hkdf_expand_label(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    full = b"tls13 " + label
    info = struct.pack("!HB", length, len(full)) + full + bytes([len(context)]) + context
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(secret, block + info + bytes([len(out) // 48 + 1]), "sha384")
        out += block
    return out[:length]


def digest(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def derive_secret(secret: bytes, label: bytes, transcript: bytes) -> bytes:
    return hkdf_expand_label(secret, label, digest(transcript), 48)


class Schedule:
    """RFC 8446, 7.1, from the shared secret on."""

    def __init__(self, shared: bytes) -> None:
        early = hkdf_extract(bytes(48), bytes(48))
        self.handshake = hkdf_extract(derive_secret(early, b"derived", b""), shared)
        self.master = hkdf_extract(derive_secret(self.handshake, b"derived", b""), bytes(48))

    def handshake_secrets(self, hellos: bytes) -> tuple[bytes, bytes]:
        """(client's, server's) handshake traffic secret."""
        return (
            derive_secret(self.handshake, b"c hs traffic", hellos),
            derive_secret(self.handshake, b"s hs traffic", hellos),
        )

    def export(self, to_server_finished: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """RFC 8446, 7.5."""
        exporter = derive_secret(self.master, b"exp master", to_server_finished)
        secret = derive_secret(exporter, label, b"")
        return hkdf_expand_label(secret, b"exporter", digest(context), length)


def block(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!H", kind) + block(2, data)


def key_share(group: int, share: bytes) -> bytes:
    return struct.pack("!H", group) + block(2, share)


def client_hello(shares: list[tuple[int, bytes]], groups: list[int] | None = None) -> bytes:
    """A ClientHello with these shares; `groups` are those of the shares unless given."""
    listed = [group for group, _ in shares] if groups is None else groups
    extensions = b"".join(
        [
            extension(43, block(1, b"\x03\x04")),
            extension(13, block(2, struct.pack("!H", ED25519))),
            extension(10, block(2, b"".join(struct.pack("!H", each) for each in listed))),
            extension(51, block(2, b"".join(key_share(*each) for each in shares))),
            extension(16, block(2, block(1, ALPN))),
            extension(*QUIC_PARAMETERS),
        ]
    )
    body = (
        b"\x03\x03"
        + os.urandom(32)
        + block(1, b"")
        + block(2, struct.pack("!H", SUITE))
        + block(1, b"\x00")
        + block(2, extensions)
    )
    return b"\x01" + block(3, body)


def server_hello(group: int, share: bytes, *, random: bytes | None = None) -> bytes:
    extensions = extension(43, b"\x03\x04") + extension(51, key_share(group, share))
    body = (
        b"\x03\x03"
        + (random or os.urandom(32))
        + block(1, b"")
        + struct.pack("!H", SUITE)
        + b"\x00"
        + block(2, extensions)
    )
    return b"\x02" + block(3, body)


def shares_of_client_hello(message: bytes) -> dict[int, bytes]:
    """The key shares by group, in the order in which they stand."""
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    data = _extensions(message[at:])[51][2:]
    shares = {}
    while data:
        group, size = struct.unpack_from("!HH", data)
        shares[group], data = data[4 : 4 + size], data[4 + size :]
    return shares


def share_of_server_hello(message: bytes) -> tuple[int, bytes]:
    at = 4 + 2 + 32
    at += 1 + message[at] + 3
    data = _extensions(message[at:])[51]
    group, size = struct.unpack_from("!HH", data)
    assert len(data) == 4 + size
    return group, data[4:]


def _extensions(data: bytes) -> dict[int, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    at, found = 2, {}
    while at < end:
        kind, size = struct.unpack_from("!HH", data, at)
        found[kind] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return found


class ClientKeys:
    """What a client keeps to itself."""

    def __init__(self) -> None:
        self.x25519 = X25519PrivateKey.generate()
        encapsulation_key, self.decapsulation_key = ml_kem_768.keygen()
        self.x25519_share = self.x25519.public_key().public_bytes_raw()
        self.hybrid_share = bytes(encapsulation_key) + self.x25519_share

    def agree(self, share: bytes) -> bytes:
        ciphertext, theirs = share[:1088], share[1088:]
        assert len(theirs) == 32
        kem = bytes(ml_kem_768.decaps(self.decapsulation_key, ciphertext))
        return kem + self.x25519.exchange(X25519PublicKey.from_public_bytes(theirs))


def answer(share: bytes) -> tuple[bytes, bytes]:
    """(the server's hybrid share, shared secret)."""
    assert len(share) == 1216
    private = X25519PrivateKey.generate()
    ciphertext, kem = ml_kem_768.encaps(share[:1184])
    secret = private.exchange(X25519PublicKey.from_public_bytes(share[1184:]))
    return bytes(ciphertext) + private.public_key().public_bytes_raw(), bytes(kem) + secret


def messages(flight: bytes) -> list[bytes]:
    """A flight of handshake messages, apart."""
    found = []
    while flight:
        size = 4 + int.from_bytes(flight[1:4], "big")
        found.append(flight[:size])
        flight = flight[size:]
    return found
