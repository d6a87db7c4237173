"""Which MLS and which envelope a world runs on: models of them, or the real ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

import mls_rs

from identity.envelope import seal
from node.engine.mls import REAL as REAL_LIBRARY
from node.engine.mls import Library
from simulation import model_envelope
from simulation.model_mls import library

MODEL: Final = "model"
REAL: Final = "real"
NAMES: Final = (MODEL, REAL)


class Means(NamedTuple):
    library: Library
    suite: int  # of new groups
    seal: Callable[[bytes, bytes], bytes]  # (hybrid public key, padded body) to an envelope


def means(name: str, seed: int) -> Means:
    """With the model, everything that a world draws comes from its seed."""
    if name == REAL:
        return Means(REAL_LIBRARY, mls_rs.CLASSIC, seal)
    return Means(library(Random(f"{seed} mls").randbytes), mls_rs.CLASSIC, model_envelope.seal)
