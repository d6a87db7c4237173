"""What a simulation sets otherwise in the program that it runs, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType

from identity import bundle, credential, keys, safety, signing
from node.engine import account, engine
from schemas import limits

SIGNATURES = 1 << 16


@contextmanager
def tuned(*, idle_s: float, devices: int) -> Iterator[None]:
    """`idle_s`: how often an engine with nothing to do looks at the clock; days of silence pass
    faster when that is seldom. `devices`: that many are to fit a group. And a signature that many
    nodes look at is verified once, as fingerprints are made once: they are the same for all.
    """
    # The same answer for the same bytes, always: nobody can tell.
    holds = lru_cache(SIGNATURES)(keys.signature_holds)
    fingerprint = lru_cache(SIGNATURES)(safety.fingerprint)
    changes: list[tuple[ModuleType, str, object]] = [
        (engine, "LONGEST_WAIT_S", idle_s),
        (limits, "GROUP_DEVICES", max(limits.GROUP_DEVICES, devices)),
        *((module, "signature_holds", holds) for module in (bundle, credential, signing)),
        *((module, "fingerprint", fingerprint) for module in (account, safety)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
