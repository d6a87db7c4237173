"""OPAQUE (RFC 9807) for Python, over the Rust crate opaque-ke."""

from typing import Final, Self, final

__all__ = [
    "KSF_LATEST",
    "KSF_VERSIONS",
    "ClientLogin",
    "ClientRegistration",
    "DecodeError",
    "InvalidLogin",
    "Login",
    "OpaqueError",
    "Registration",
    "ServerLogin",
    "ServerSetup",
    "StateUsed",
    "check_record",
]

KSF_LATEST: Final[int]
"""The key stretching that new registrations should use."""
KSF_VERSIONS: Final[tuple[int, ...]]
"""All that this package can compute. 1: Argon2id, 64 MiB, 3 passes, 4 lanes."""

class OpaqueError(Exception):
    """Base of every error this package raises on purpose. `code` is stable, in kebab-case."""

    code: str

class DecodeError(OpaqueError):
    """Bytes that are not the message they should be: wrong length, not a group element.

    Codes: "malformed-request", "malformed-response", "malformed-upload", "malformed-record",
    "malformed-finalization", "malformed-setup", "unsupported-version" (of a set-up), "reflected"
    (a response that sends the request back)."""

class InvalidLogin(OpaqueError):
    """Wrong password, unknown user, other context or identities, or a message tampered with: which
    of them cannot be told. Code: "invalid-login"."""

class StateUsed(OpaqueError):
    """`finish` was called before on this object; each has one try. Code: "state-used"."""

@final
class ServerSetup:
    """What a server keeps for ever: OPRF seed and key pair. Without it no record can be used."""

    @classmethod
    def generate(cls) -> Self: ...
    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` gave. Raises DecodeError."""
    def to_bytes(self) -> bytes:
        """Secret, 129 bytes: version 1, OPRF seed 64, private key 32, stand-in public key 32."""
    @property
    def public_key(self) -> bytes:
        """32 bytes; what `server_public_key` shows to clients."""
    def registration_response(self, request: bytes, credential_id: bytes) -> bytes:
        """Answers `ClientRegistration.request`, 64 bytes. Raises DecodeError.

        credential_id names the record: unique for ever, and the same at each login."""
    def login_start(
        self,
        record: bytes | None,
        request: bytes,
        credential_id: bytes,
        *,
        context: bytes = b"",
        client_identity: bytes | None = None,
        server_identity: bytes | None = None,
    ) -> ServerLogin:
        """Answers `ClientLogin.request`. Raises DecodeError.

        Pass record None for an unknown user: what the client sees is alike, in bytes and time.
        context and identities must be those of the client; each below 65,536 bytes."""

@final
class ServerLogin:
    """One login, at the server, between its two messages. One try; cannot be copied or stored."""

    @property
    def response(self) -> bytes:
        """For the client, 320 bytes."""
    def finish(self, finalization: bytes) -> bytes:
        """The session key, 64 bytes. Raises DecodeError, InvalidLogin, StateUsed."""

def check_record(upload: bytes) -> bytes:
    """A client's `Registration.upload`, verified to be a record; the same 192 bytes, to be stored.

    Raises DecodeError."""

@final
class ClientRegistration:
    """A registration, at the client, between its two messages. One try; cannot be stored."""

    def __new__(cls, password: bytes) -> Self:
        """password: 1 to 65,535 bytes."""
    @property
    def request(self) -> bytes:
        """For the server, 32 bytes."""
    def finish(
        self,
        response: bytes,
        *,
        ksf: int,
        client_identity: bytes | None = None,
        server_identity: bytes | None = None,
    ) -> Registration:
        """Stretches the password (about 0.1 s, 64 MiB). Raises DecodeError, StateUsed.

        ksf: one of KSF_VERSIONS, to be remembered with the record. The identities must be the same
        at each login; None stands for the public key."""

@final
class Registration:
    @property
    def upload(self) -> bytes:
        """The record, for the server: 192 bytes."""
    @property
    def export_key(self) -> bytes:
        """64 bytes that only who knows the password gets, at each login again."""
    @property
    def server_public_key(self) -> bytes:
        """32 bytes."""

@final
class ClientLogin:
    """One login, at the client, between its two messages. One try; cannot be stored."""

    def __new__(cls, password: bytes) -> Self:
        """password: 1 to 65,535 bytes."""
    @property
    def request(self) -> bytes:
        """For the server, 96 bytes."""
    def finish(
        self,
        response: bytes,
        *,
        ksf: int,
        context: bytes = b"",
        client_identity: bytes | None = None,
        server_identity: bytes | None = None,
    ) -> Login:
        """Stretches the password (about 0.1 s, 64 MiB).

        ksf: the version the record was made with. Raises DecodeError, InvalidLogin, StateUsed."""

@final
class Login:
    @property
    def finalization(self) -> bytes:
        """For the server, 64 bytes. It proves that the client has the session key."""
    @property
    def session_key(self) -> bytes:
        """64 bytes, the same at the server when it accepts the finalization."""
    @property
    def export_key(self) -> bytes:
        """As it was at registration, 64 bytes."""
    @property
    def server_public_key(self) -> bytes:
        """32 bytes, as they were at registration."""
