"""The relay's device key: what nodes pin. Made once, kept in the data folder, or brought along."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identity.keys import SEED_LENGTH, KeyPair, device_from_seed, new_seed
from relay.config import RelayConfig
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey
from storage.files import write_private_file


def relay_device(config: RelayConfig) -> KeyPair[DeviceKey]:
    """The key pair of `tls_key` where that is set, else that of the data folder, made if new.

    Raises Fault `damaged-seed`, `cannot-write-file`; Refused `bad-tls-key`, `bad-tls-cert`.
    """
    if config.tls_key is None:
        if config.tls_cert is not None:
            raise _bad("cert", config.tls_cert, "tls_cert needs tls_key")
        return _load_or_make(config.seed)
    device = _from_pem(config.tls_key)
    if config.tls_cert is not None:
        _check_certificate(config.tls_cert, device)
    return device


def _load_or_make(path: Path) -> KeyPair[DeviceKey]:
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        seed = new_seed()
        write_private_file(path, seed)
    if len(seed) != SEED_LENGTH:
        raise Fault(
            "damaged-seed",
            f"the file {str(path)!r} is not a device seed",
            blame=Blame.ENVIRONMENT,
            hint="restore it from a backup; without it the relay gets a new address",
        )
    return device_from_seed(seed)


def _from_pem(path: Path) -> KeyPair[DeviceKey]:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise _bad("key", path, f"it cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise _bad("key", path, "it is not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad("key", path, "it is not an Ed25519 key, which nodes pin")
    return device_from_seed(key.private_bytes_raw())


def _check_certificate(path: Path, device: KeyPair[DeviceKey]) -> None:
    """The transport makes a fresh certificate of the key; one that is named must be of the same."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise _bad("cert", path, f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _bad("cert", path, "it is not a PEM certificate") from error
    if certificate.public_key() != device.private.public_key():
        raise _bad("cert", path, "it is not for the key in tls_key")


def _bad(what: str, path: Path, why: str) -> Refused:
    return Refused(
        f"bad-tls-{what}",
        f"{str(path)!r} cannot be used: {why}",
        hint=f"mend tls_{what}, or leave it out: the relay then makes a key of its own",
    )
