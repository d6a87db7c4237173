"""Relay statements: where a person reads their mail, signed by their identity."""

from __future__ import annotations

from identity.keys import KeyPair
from identity.signing import open_signed, sign
from schemas.ids import IdentityKey
from schemas.records import BundleCore, RelayStatement, Signed, SignedType


def sign_relay_statement(identity: KeyPair[IdentityKey], core: BundleCore) -> Signed:
    """The excerpt of a bundle of ours."""
    statement = RelayStatement(core.identity, core.number, core.relays)
    return sign(SignedType.RELAY_STATEMENT, identity, statement.encode())


def open_relay_statement_untrusted(signed: Signed) -> RelayStatement:
    """A statement whose signature holds. Raises Malformed."""
    return open_signed(
        SignedType.RELAY_STATEMENT, signed, RelayStatement.decode, lambda s: s.identity
    )
