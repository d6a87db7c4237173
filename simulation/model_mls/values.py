"""What the model gives out: `mls_rs`'s plain values, as frozen structs."""

from __future__ import annotations

from typing import Literal

import mls_rs
import msgspec


class Member(msgspec.Struct, frozen=True):
    index: int
    signature_key: bytes
    credential: bytes


class KeyPackage(msgspec.Struct, frozen=True):
    message: bytes
    reference: bytes


class KeyPackageInfo(msgspec.Struct, frozen=True):
    suite: int
    signature_key: bytes
    credential: bytes
    not_before: int
    not_after: int
    reference: bytes
    last_resort: bool


class Header(msgspec.Struct, frozen=True):
    kind: Literal["public", "private", "welcome", "key-package"]
    content: Literal["application", "commit"] | None = None
    group_id: bytes | None = None
    epoch: int | None = None


class LogEntry(msgspec.Struct, frozen=True):
    kind: str
    group_id: bytes | None = None
    id: int | bytes | None = None
    data: bytes | None = None


class Message(msgspec.Struct, frozen=True):
    sender: Member
    epoch: int
    plaintext: bytes
    authenticated_data: bytes


class Commit(msgspec.Struct, frozen=True):
    committer: Member
    epoch: int
    added: list[Member]
    removed: list[Member]
    updated_extensions: bool
    removes_me: bool
    authenticated_data: bytes


class Change(msgspec.Struct, frozen=True):
    """What `authorize_commit` judges."""

    group_id: bytes
    epoch: int
    committer: Member
    members: list[Member]
    added: list[Member]
    removed: list[Member]
    extensions_before: list[tuple[int, bytes]]
    extensions_after: list[tuple[int, bytes]]
    authenticated_data: bytes


def fault(kind: type[mls_rs.MlsError], code: str, text: str = "") -> mls_rs.MlsError:
    """One of the library's own exceptions, with its code."""
    error = kind(f"{text or code} [{code}]")
    error.code = code
    return error
