"""The relay's settings: flag > environment QUICNPROTOCHAT_<NAME> > TOML file > default."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from relay import readers
from relay.limits import DEFAULT_RELAY_LIMITS, RelayLimits
from relay.store.contract import Quotas
from relay.store.postgres.url import FORM
from schemas import limits
from schemas.addresses import DEFAULT_PORT, Address, BootstrapAddress
from schemas.errors import Refused
from storage.lock import LOCK_FILE
from storage.sqlite import RAW_KEY_LENGTH

ENVIRONMENT_PREFIX: Final = "QUICNPROTOCHAT_"
DATABASE_FILE: Final = "relay.db"
SEED_FILE: Final = "device.seed"
ADDRESS_FILE: Final = "address"
_HEX_KEY: Final = re.compile("[0-9a-fA-F]{64}")
_SLIP: Final = 0.85  # how alike a variable is to a setting that was meant
_FLAGS: Final = {"store_backend": "--store"}  # the others are named as their settings are
_SECRETS: Final = ("db_key", "auth_token", "database_url")


class WrongFlag(Refused):
    """What was given on the command line is wrong: usage, rather than a failure."""


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Everything that can be set. Durations in seconds, sizes in bytes."""

    listen: Address
    advertise: Address | None  # where nodes reach it, if not where it listens
    data_dir: Path
    store_backend: str
    db_path: Path | None
    database_url: str | None = dataclasses.field(repr=False)  # of PostgreSQL; holds a password
    db_key: str | None = dataclasses.field(repr=False)
    tls_cert: Path | None
    tls_key: Path | None
    metrics: Address | None
    metrics_open: bool
    metrics_tls_cert: Path | None
    metrics_tls_key: Path | None
    dht: bool
    dht_bootstrap: tuple[BootstrapAddress, ...]
    parcel_ttl_s: int
    blob_ttl_s: int  # a parcel may wait 7 days for its reader, who then wants the blob
    unfinished_blob_ttl_s: int  # after the last chunk
    audit_days: int
    log_level: str
    log_format: str
    admission: str  # who may have things kept here: one of ADMISSIONS
    auth_token: str | None = dataclasses.field(repr=False)
    quotas: Quotas
    limits: RelayLimits

    @property
    def database(self) -> Path:
        """The file of SQLite: `db_path`, else one in the data folder."""
        return self.data_dir / DATABASE_FILE if self.db_path is None else self.db_path

    @property
    def folders(self) -> tuple[Path, ...]:
        """What one relay alone may use: its folder, and the database's where that is another."""
        if self.store_backend == "postgres":
            return (self.data_dir,)
        return tuple(dict.fromkeys((self.data_dir, self.database.parent)))

    @property
    def seed(self) -> Path:
        """The relay's key, unless `tls_key` names another."""
        return self.data_dir / SEED_FILE

    @property
    def address_file(self) -> Path:
        """What nodes were given when the relay last started; on SQLite."""
        return self.data_dir / ADDRESS_FILE

    @property
    def private_files(self) -> tuple[Path, ...]:
        """What the relay makes, and nobody else may read or change."""
        database = tuple(Path(f"{self.database}{suffix}") for suffix in ("", "-wal", "-shm"))
        if self.store_backend == "postgres":
            database = ()
        own = (self.seed, self.address_file)
        return (*own, *database, *(folder / LOCK_FILE for folder in self.folders))

    @property
    def database_key(self) -> bytes | None:
        """The raw key of the database; None: it is not encrypted."""
        return None if self.db_key is None else database_key(self.db_key)


# --- one setting


@dataclass(frozen=True, slots=True)
class Setting:
    """How a value is read (from text, or from TOML's own types), and what it is by default."""

    parse: Callable[[object], Any]  # raises ValueError with what would be right
    default: Callable[[], object]


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("quicnprotochat", appauthor=False)) / "relay"


_QUOTA_NAMES: Final = tuple(field.name for field in dataclasses.fields(Quotas))
_LIMIT_NAMES: Final = tuple(field.name for field in dataclasses.fields(RelayLimits))

SETTINGS: Final[dict[str, Setting]] = {
    # IPv4 binds on every machine; "[::]:7000" serves both where there is IPv6.
    "listen": Setting(readers.bindable, lambda: f"0.0.0.0:{DEFAULT_PORT}"),
    "advertise": Setting(readers.reachable, lambda: None),
    "data_dir": Setting(readers.path, _default_data_dir),
    "store_backend": Setting(readers.backend, lambda: "sql"),
    "db_path": Setting(readers.database_path, lambda: None),
    "database_url": Setting(readers.database_url, lambda: None),
    "db_key": Setting(readers.text, lambda: None),
    "tls_cert": Setting(readers.path, lambda: None),
    "tls_key": Setting(readers.path, lambda: None),
    "metrics": Setting(readers.address, lambda: None),
    "metrics_open": Setting(readers.switch, lambda: False),
    "metrics_tls_cert": Setting(readers.path, lambda: None),
    "metrics_tls_key": Setting(readers.path, lambda: None),
    "parcel_ttl_s": Setting(readers.number(60, 30 * 86400), lambda: 7 * 86400),
    "audit_days": Setting(readers.number(1, 36_500), lambda: 365),
    "log_level": Setting(readers.level, lambda: "info"),
    "dht": Setting(readers.switch, lambda: None),
    "dht_bootstrap": Setting(readers.bootstrap, tuple),
    "log_format": Setting(readers.log_format, lambda: "text"),
    "admission": Setting(readers.admission, lambda: None),
    "auth_token": Setting(readers.text, lambda: None),
    "mailbox_parcels": Setting(readers.number(1, 1_000_000), lambda: limits.MAILBOX_PARCELS),
    "mailbox_bytes": Setting(readers.number(limits.PARCEL, 2**40), lambda: limits.MAILBOX_BYTES),
    "key_packages": Setting(readers.number(1, 10_000), lambda: limits.KEY_PACKAGES_PER_DEVICE),
    "total_bytes": Setting(readers.number(limits.PARCEL, 2**50), lambda: Quotas().total_bytes),
    "total_mailboxes": Setting(readers.number(1, 10**9), lambda: Quotas().total_mailboxes),
    "directory_bytes": Setting(readers.number(limits.KIB, 2**50), lambda: Quotas().directory_bytes),
    "blob_bytes": Setting(readers.number(limits.BLOB_CHUNK, 2**40), lambda: Quotas().blob_bytes),
    "device_blobs": Setting(readers.number(0, 10**9), lambda: Quotas().device_blobs),
    "device_blob_bytes": Setting(readers.number(0, 2**50), lambda: Quotas().device_blob_bytes),
    "total_blobs": Setting(readers.number(0, 10**9), lambda: Quotas().total_blobs),
    "total_blob_bytes": Setting(readers.number(0, 2**50), lambda: Quotas().total_blob_bytes),
    "blob_ttl_s": Setting(readers.number(60, 365 * 86400), lambda: 14 * 86400),
    "unfinished_blob_ttl_s": Setting(readers.number(60, 30 * 86400), lambda: 86400),
    "strangers_share": Setting(readers.share, lambda: Quotas().strangers_share),
    "token_share": Setting(readers.share, lambda: Quotas().token_share),
    **{
        name: Setting(
            readers.number(1, 2**50), functools.partial(getattr, DEFAULT_RELAY_LIMITS, name)
        )
        for name in _LIMIT_NAMES
    },
    "prefix_memory_share": Setting(readers.share, lambda: DEFAULT_RELAY_LIMITS.prefix_memory_share),
}


# --- all of them


def load_config(
    flags: Mapping[str, object | None], environment: Mapping[str, str], file: Path | None
) -> RelayConfig:
    """The settings in force; a flag that is None was not given.

    Raises Refused: `bad-setting` (a WrongFlag where a flag was), `unknown-setting`,
    `bad-config-file`.
    """
    table = {} if file is None else _read_file(file)
    _check_names(environment)
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        given = flags.get(name) is not None
        if given:
            source, value = _FLAGS.get(name, f"--{name.replace('_', '-')}"), flags[name]
        elif environment.get(variable):
            source, value = variable, environment[variable]
        elif name in table:
            source, value = f"{name} in {str(file)!r}", table[name]
        else:
            source, value = f"the default of {name}", setting.default()
        if value is None:
            values[name] = None
            continue
        try:
            values[name] = setting.parse(value)
        except ValueError as error:
            # A URL can hold a password, which does not belong into logs.
            shown = (
                "that" if name in _SECRETS else "a URL" if "://" in str(value) else repr(value)[:80]
            )
            kind = WrongFlag if given else Refused
            raise kind("bad-setting", f"{source} cannot be {shown}", hint=str(error)) from error
    _check_metrics(values)
    _settle_store(values)
    if values["dht"] is None:  # a node of the DHT is its key: of several processes one may be it
        values["dht"] = values["store_backend"] == "sqlite"
    values["admission"] = _settle_admission(values["admission"], values["auth_token"])
    quotas = Quotas(**{name: values.pop(name) for name in _QUOTA_NAMES})
    bounds = RelayLimits(**{name: values.pop(name) for name in _LIMIT_NAMES})
    return RelayConfig(**values, quotas=quotas, limits=bounds)


def _check_names(environment: Mapping[str, str]) -> None:
    """A slip of the pen is not passed over; variables of nodes are nobody's slip."""
    for variable in environment:
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=_SLIP)
            if near:
                hint = f"did you mean {ENVIRONMENT_PREFIX}{near[0].upper()}?"
                raise Refused("unknown-setting", f"there is no setting {variable}", hint=hint)


def is_loopback(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _check_metrics(values: Mapping[str, Any]) -> None:
    metrics = values["metrics"]
    if metrics is not None and not is_loopback(metrics) and not values["metrics_open"]:
        raise Refused(
            "bad-setting",
            f"metrics cannot be {metrics}: they are for this machine only",
            hint="write 127.0.0.1:PORT or [::1]:PORT; or, in a network that only monitors reach,"
            " set metrics_open",
        )
    if (values["metrics_tls_cert"] is None) != (values["metrics_tls_key"] is None):
        raise Refused(
            "bad-setting", "metrics_tls_cert and metrics_tls_key need each other", hint="set both"
        )


def _settle_store(values: dict[str, Any]) -> None:
    """`sql`, which is the default, is what the URL or the file says."""
    if isinstance(values["db_path"], str):
        if values["database_url"] is None:
            values["database_url"] = values["db_path"]
        values["db_path"] = None
    backend = "sqlite" if values["database_url"] is None else "postgres"
    if values["store_backend"] == "sql":
        values["store_backend"] = backend
    if values["store_backend"] != backend:
        if backend == "sqlite":
            raise Refused(
                "bad-setting",
                "store_backend postgres wants database_url",
                hint=f"set database_url: {FORM}",
            )
        raise Refused(
            "bad-setting",
            "database_url is set, and store_backend sqlite has no use for it",
            hint="leave out one of the two",
        )


def _settle_admission(admission: str | None, auth_token: str | None) -> str:
    """A relay with a token wants it; without one it is open unless told otherwise."""
    if admission is None:
        return "open" if auth_token is None else "token"
    if admission == "token" and auth_token is None:
        raise Refused(
            "bad-setting",
            "admission token wants auth_token",
            hint="set auth_token to a long secret, in the file or the environment",
        )
    if admission != "token" and auth_token is not None:
        raise Refused(
            "bad-setting",
            f"auth_token is set, and admission {admission} has no use for it",
            hint="leave out auth_token, or set admission token",
        )
    return admission


def database_key(text: str) -> bytes:
    """The raw key that the setting `db_key` means: 64 hex digits as they are, else a passphrase."""
    if _HEX_KEY.fullmatch(text):
        return bytes.fromhex(text)
    # The salt is fixed, for the key must follow from the setting alone; the file has its own, too.
    return hashlib.scrypt(
        text.encode(), salt=b"quicnprotochat relay db_key v1", n=2**15, r=8, p=1,
        maxmem=2**26, dklen=RAW_KEY_LENGTH,
    )  # fmt: skip


def _read_file(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as opened:
            table = tomllib.load(opened)
    except OSError as error:
        raise Refused(
            "bad-config-file",
            f"{str(file)!r} cannot be read: {error.strerror}",
            hint="check the path",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(
            "bad-config-file", f"{str(file)!r} is not TOML: {error}", hint="mend that line"
        ) from error
    for key in table:
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(SETTINGS)}"
            raise Refused("unknown-setting", f"unknown key {key} in {str(file)!r}", hint=hint)
    return table
