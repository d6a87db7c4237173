"""The relay's device key: what nodes pin. Made once, kept in the data folder, or brought along."""

from __future__ import annotations

import logging
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identity.keys import SEED_LENGTH, KeyPair, device_from_seed, new_seed
from relay.config import RelayConfig
from relay.store.opening import driver
from relay.store.processes import Processes
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey
from storage.files import write_private_file

log = logging.getLogger(__name__)


def relay_device(config: RelayConfig, *, lived: bool) -> KeyPair[DeviceKey]:
    """The key pair of `tls_key` where that is set, else that of the data folder, made if new: told
    loudly where the database has `lived` before, for nodes then need a new address.

    Raises Fault `damaged-seed`, `cannot-write-file`; Refused `bad-tls-key`, `bad-tls-cert`.
    """
    device = _named(config) or read_device(config.seed)
    if device is None:
        device = device_from_seed(new_seed())
        write_private_file(config.seed, device.seed)
        if lived:
            log.warning(
                "%s was missing: this relay has a new key, and nodes need its new address; if you"
                " have the old file, stop the relay, put it there and start again",
                config.seed,
            )
    return device


async def shared_device(config: RelayConfig, processes: Processes) -> KeyPair[DeviceKey]:
    """The key pair of all processes that share a database, which keeps it: the one of `tls_key`,
    else of the data folder, else a new one, by whoever was the first.

    Raises as `relay_device`, Refused `bad-tls-key` also for another one than the database's.
    """
    named = _named(config)
    ours = named or read_device(config.seed) or device_from_seed(new_seed())
    device = device_from_seed(await processes.relay_seed(ours.seed))
    if named is not None and config.tls_key is not None and named.public != device.public:
        raise _bad("key", config.tls_key, "the relay of this database is known by another key")
    if device.public != ours.public and config.seed.exists():
        log.warning("%s is not used: the database holds the relay's key", config.seed)
    return device


def known_device(config: RelayConfig) -> KeyPair[DeviceKey]:
    """The key pair of a relay that was started before, for a command beside it; none is made.

    Raises as `relay_device`, Fault `no-file`, `no-database` and what reading a database causes.
    """
    if config.database_url is not None and config.tls_key is None:
        with driver():
            from relay.store.postgres.inspection import members
        return members(config.database_url).device
    device = _named(config) or read_device(config.seed)
    if device is None:
        raise Fault(
            "no-file",
            f"there is no key at {str(config.seed)!r}",
            blame=Blame.CALLER,
            hint="give the relay's data folder",
        )
    return device


def _named(config: RelayConfig) -> KeyPair[DeviceKey] | None:
    """The key pair of `tls_key`, if that is set."""
    if config.tls_key is None:
        if config.tls_cert is not None:
            raise _bad("cert", config.tls_cert, "tls_cert needs tls_key")
        return None
    device = _from_pem(config.tls_key)
    if config.tls_cert is not None:
        _check_certificate(config.tls_cert, device)
    return device


def read_device(path: Path) -> KeyPair[DeviceKey] | None:
    """The key pair of a seed file; None: there is no file. Raises Fault `damaged-seed`."""
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        return None
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
