"""Which MLS and which envelope a world runs on: the model, or the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import mls_rs

from identity.envelope import seal
from node.engine.mls import REAL as REAL_LIBRARY
from node.engine.mls import Library

MODEL: Final = "model"
REAL: Final = "real"


def of(name: str) -> tuple[Library, int, Callable[[bytes, bytes], bytes]]:
    """(library, cipher suite of new groups, how a parcel is sealed)."""
    return REAL_LIBRARY, mls_rs.CLASSIC, seal
