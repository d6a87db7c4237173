"""Which MLS and which envelope a world runs on: models of them, or the real ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Final, NamedTuple

import mls_rs

from identity.envelope import HybridKeyPair, seal
from node.engine.mls import REAL as REAL_LIBRARY
from node.engine.mls import Library
from schemas.errors import Malformed
from simulation.model_mls import library

MODEL: Final = "model"
REAL: Final = "real"
NAMES: Final = (MODEL, REAL)
_TAG = 16


class Means(NamedTuple):
    library: Library
    suite: int  # of new groups
    seal: Callable[[bytes, bytes], bytes]  # (hybrid public key, padded body) to an envelope


def means(name: str, seed: int) -> Means:
    """With the model, everything that a world draws comes from its seed."""
    if name == REAL:
        return Means(REAL_LIBRARY, mls_rs.CLASSIC, seal)
    model = library(Random(f"{seed} mls").randbytes)
    model = dataclasses.replace(model, open_envelope=open_plain_untrusted)
    return Means(model, mls_rs.CLASSIC, seal_plain)


def seal_plain(recipient: bytes, plaintext: bytes) -> bytes:
    """An envelope that hides nothing, and that only the recipient's keys open."""
    return _tag(recipient) + plaintext


def open_plain_untrusted(keys: HybridKeyPair, sealed: bytes) -> bytes:
    """Raises Malformed `cannot-open`."""
    if sealed[:_TAG] != _tag(keys.public):
        raise Malformed("cannot-open", "not sealed to this key")
    return sealed[_TAG:]


@lru_cache(maxsize=4096)
def _tag(public: bytes) -> bytes:
    return hashlib.sha256(public).digest()[:_TAG]
