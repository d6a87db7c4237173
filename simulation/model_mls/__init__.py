"""A deterministic, cheap model in place of MLS, so that a seed replays event for event.

It keeps what the engine relies on: who can read what in which epoch, which commit fits which state,
what becomes of a removed member, of late, doubled, reordered and tampered messages, of restarts and
rollbacks, with the same exceptions and codes. tests/simulation/test_model_mls.py runs one suite on
both, most of it the binding's own tests.

What differs from mls-rs:
- Nothing is secret to who looks into the bytes: the API alone refuses who lacks an epoch's secret.
  Signatures are checksums, so that nobody signs for another leaf merely because no function does.
- Sizes are within a fifth of the real ones where no leaf is fresh (`sizes`); blobs are smaller.
- A committer's credential is not validated again with each commit: it cannot have changed.
- No external commits (`rejoin`, `group_info`), pre-shared keys, policies (`authorize_commit` is
  there), proposals by reference, re-initialisation: NotImplementedError, or no way to make them.
- No locks: one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from node.engine.mls import Library
from simulation.model_envelope import open_untrusted
from simulation.model_mls import wire
from simulation.model_mls.client import Client
from simulation.model_mls.values import Commit, Message

__all__ = ["library"]


def library(random: Callable[[int], bytes]) -> Library:
    """The model as the engine takes it, with the model of the envelope around parcels.

    All that it draws comes from `random(length)`.
    """
    model: dict[str, Any] = {
        "client": partial(Client, random),
        "message": Message,
        "commit": Commit,
        "inspect": wire.inspect,
        "welcome_references": wire.welcome_references,
        "verify_key_package": wire.verify_key_package,
        "open_envelope": open_untrusted,
    }
    return Library(**model)
