"""The MLS library that the engine runs on: mls-rs, unless a simulation brings a model of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import mls_rs

from identity.envelope import HybridKeyPair, open_untrusted


@dataclass(frozen=True, slots=True)
class Library:
    """What the engine uses of `mls_rs`, by its types; another library raises its exceptions too.

    `open_envelope` opens what is around a parcel, as `identity.envelope.open_untrusted` does.
    """

    client: type[mls_rs.Client]
    message: type[mls_rs.Message]
    commit: type[mls_rs.Commit]
    inspect: Callable[[bytes], mls_rs.Header]
    welcome_references: Callable[[bytes], list[bytes]]
    verify_key_package: Callable[[bytes], mls_rs.KeyPackageInfo]
    open_envelope: Callable[[HybridKeyPair, bytes], bytes]


REAL: Final = Library(
    client=mls_rs.Client,
    message=mls_rs.Message,
    commit=mls_rs.Commit,
    inspect=mls_rs.inspect,
    welcome_references=mls_rs.welcome_references,
    verify_key_package=mls_rs.verify_key_package,
    open_envelope=open_untrusted,
)
