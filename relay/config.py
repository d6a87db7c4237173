"""The relay's settings: flag > environment QUICNPROTOCHAT_<NAME> > TOML file > default."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from relay.store.contract import Quotas
from schemas import limits
from schemas.addresses import DEFAULT_PORT, Address
from schemas.errors import Refused

ENVIRONMENT_PREFIX: Final = "QUICNPROTOCHAT_"
DATABASE_FILE: Final = "relay.db"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
# The seed system's words; its file store became SQLite as well.
STORE_BACKENDS: Final = {"sqlite": "sqlite", "file": "sqlite", "sql": "sqlite"}
_LATER: Final = ("tls_cert", "tls_key", "auth_token", "db_key")


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Everything that can be set. Durations in seconds, sizes in bytes."""

    listen: Address
    data_dir: Path
    store_backend: str
    db_path: Path | None
    parcel_ttl_s: int
    mailbox_parcels: int
    mailbox_bytes: int
    log_level: str

    @property
    def database(self) -> Path:
        """`db_path`, else a file in the data folder."""
        return self.data_dir / DATABASE_FILE if self.db_path is None else self.db_path

    @property
    def quotas(self) -> Quotas:
        return Quotas(mailbox_parcels=self.mailbox_parcels, mailbox_bytes=self.mailbox_bytes)


# --- one setting


@dataclass(frozen=True, slots=True)
class Setting:
    """How a value is read (from text, or from TOML's own types), and what it is by default."""

    parse: Callable[[object], Any]  # raises ValueError with what would be right
    default: Callable[[], object]


def _address(value: object) -> Address:
    try:
        return Address.parse(_text(value), default_port=DEFAULT_PORT)
    except Refused as refused:
        raise ValueError(refused.hint) from refused


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser().absolute()


def _text(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise ValueError("write a text")
    return value


def _backend(value: object) -> str:
    backend = STORE_BACKENDS.get(str(value))
    if backend is None:
        raise ValueError(f"this version has: {', '.join(STORE_BACKENDS)}")
    return backend


def _database_path(value: object) -> Path:
    if "://" in _text(value):
        raise ValueError("write a file's path; this version keeps its data in SQLite only")
    return _path(value)


def _level(value: object) -> str:
    if value not in LOG_LEVELS:
        raise ValueError(f"write one of: {', '.join(LOG_LEVELS)}")
    return str(value)


def _number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"write a number from {low} to {high}")
        return value

    return parse


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("quicnprotochat", appauthor=False)) / "relay"


SETTINGS: Final[dict[str, Setting]] = {
    # IPv4 binds on every machine; "[::]:7000" serves both where there is IPv6.
    "listen": Setting(_address, lambda: f"0.0.0.0:{DEFAULT_PORT}"),
    "data_dir": Setting(_path, _default_data_dir),
    "store_backend": Setting(_backend, lambda: "sqlite"),
    "db_path": Setting(_database_path, lambda: None),
    "parcel_ttl_s": Setting(_number(60, 30 * 86400), lambda: 7 * 86400),
    "mailbox_parcels": Setting(_number(1, 1_000_000), lambda: limits.MAILBOX_PARCELS),
    "mailbox_bytes": Setting(_number(limits.PARCEL, 2**40), lambda: limits.MAILBOX_BYTES),
    "log_level": Setting(_level, lambda: "info"),
}


# --- all of them


def load_config(
    flags: Mapping[str, object | None], environment: Mapping[str, str], file: Path | None
) -> RelayConfig:
    """The settings in force; a flag that is None was not given.

    Raises Refused: `bad-setting`, `unknown-setting`, `unsupported-setting`, `bad-config-file`.
    """
    table = {} if file is None else _read_file(file)
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        if flags.get(name) is not None:
            source, value = f"the flag of {name}", flags[name]
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
            shown = "a URL" if "://" in str(value) else repr(value)[:80]
            raise Refused("bad-setting", f"{source} cannot be {shown}", hint=str(error)) from error
    return RelayConfig(**values)


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
        if key in _LATER:
            raise Refused(
                "unsupported-setting",
                f"{key} in {str(file)!r} is not supported by this version",
                hint="remove it",
            )
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(SETTINGS)}"
            raise Refused("unknown-setting", f"unknown key {key} in {str(file)!r}", hint=hint)
    return table
