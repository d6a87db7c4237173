"""A KeyPackage from a peer or relay must be the one that was asked for."""

from __future__ import annotations

import mls_rs

from schemas.errors import Malformed
from schemas.ids import DeviceKey


def checked_key_package_untrusted(package: bytes, device: DeviceKey, suite: int) -> bytes:
    """`package` when it is `device`'s own, of that suite. Raises Malformed `wrong-key-package`.

    Without this, whoever answers would decide whom we invite.
    """
    try:
        info = mls_rs.verify_key_package(package)
    except mls_rs.MlsError as error:
        raise Malformed("wrong-key-package", "not a valid KeyPackage") from error
    if info.signature_key != device or info.suite != suite:
        raise Malformed("wrong-key-package", "a KeyPackage of another device, or another suite")
    return package
