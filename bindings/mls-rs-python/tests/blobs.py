"""Blobs as the README describes them, sealed and opened without the package, under one key."""

import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

STORAGE_KEY = bytes(32)
STATE, TREE, EPOCH, KEY_PACKAGE, PENDING_COMMIT = range(1, 6)

_LABEL = b"mls-rs-python blob"


def seal(kind: int, group_id: bytes, id: bytes, inside: bytes, version: int = 2) -> bytes:
    salt = os.urandom(32)
    key, nonce = _key(version, salt)
    return bytes([version]) + salt + key.encrypt(nonce, inside, _bound(version, kind, group_id, id))


def unseal(kind: int, group_id: bytes, id: bytes, blob: bytes) -> bytes:
    key, nonce = _key(blob[0], blob[1:33])
    return key.decrypt(nonce, blob[33:], _bound(blob[0], kind, group_id, id))


def _key(version: int, salt: bytes) -> tuple[AESGCM, bytes]:
    info = _LABEL + bytes([version]) + salt
    okm = HKDF(hashes.SHA256(), 44, salt=_LABEL, info=info).derive(STORAGE_KEY)
    return AESGCM(okm[:32]), okm[32:]


def _bound(version: int, kind: int, group_id: bytes, id: bytes) -> bytes:
    out = _LABEL + bytes([version, kind])
    for part in (group_id, id):
        out += len(part).to_bytes(8, "big") + part
    return out
