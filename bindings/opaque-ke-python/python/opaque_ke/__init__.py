"""OPAQUE (RFC 9807) for Python, over the Rust crate opaque-ke.

A password is registered at a server and used to log in there, and the server never sees it. Both
sides get a session key; the client also gets an export key that only the password gives.
"""

from opaque_ke._native import (
    KSF_LATEST,
    KSF_VERSIONS,
    ClientLogin,
    ClientRegistration,
    DecodeError,
    InvalidLogin,
    Login,
    OpaqueError,
    Registration,
    ServerLogin,
    ServerSetup,
    StateUsed,
    check_record,
)

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
