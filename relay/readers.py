"""How the value of a setting is read, from text or TOML's own types.

Each raises ValueError with what would be right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Final

from discovery.record import dialable
from relay.store.postgres.url import check_url
from schemas.addresses import DEFAULT_PORT, Address, BootstrapAddress
from schemas.errors import Refused

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
# The seed system's words: its file store became SQLite; its sql is whichever db_path names.
STORE_BACKENDS: Final = {
    "sqlite": "sqlite",
    "postgres": "postgres",
    "file": "sqlite",
    "sql": "sql",
    "postgresql": "postgres",
}
LOG_FORMATS: Final = ("text", "json")
ADMISSIONS: Final = ("open", "invite", "token")


def address(value: object) -> Address:
    try:
        return Address.parse(text(value), default_port=DEFAULT_PORT)
    except Refused as refused:
        raise ValueError(refused.hint) from refused


def bindable(value: object) -> Address:
    found = address(value)
    try:
        ipaddress.ip_address(found.host)
    except ValueError as error:
        raise ValueError("write IP:PORT; 0.0.0.0 and [::] are all interfaces") from error
    return found


def reachable(value: object) -> Address:
    found = address(value)
    if not dialable(found):
        raise ValueError("write HOST:PORT as nodes elsewhere reach it")
    return found


def path(value: object) -> Path:
    return Path(text(value)).expanduser().absolute()


def text(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise ValueError("write a text")
    return value


def backend(value: object) -> str:
    found = STORE_BACKENDS.get(str(value))
    if found is None:
        raise ValueError("write sqlite or postgres")
    return found


def database_path(value: object) -> Path | str:
    """A file, or as in the seed system the URL of a database."""
    return database_url(value) if "://" in text(value) else path(value)


def database_url(value: object) -> str:
    url = text(value)
    check_url(url)
    return url


def level(value: object) -> str:
    if value not in LOG_LEVELS:
        raise ValueError(f"write one of: {', '.join(LOG_LEVELS)}")
    return str(value)


def log_format(value: object) -> str:
    if value not in LOG_FORMATS:
        raise ValueError(f"write one of: {', '.join(LOG_FORMATS)}")
    return str(value)


def admission(value: object) -> str:
    if value not in ADMISSIONS:
        raise ValueError(f"write one of: {', '.join(ADMISSIONS)}")
    return str(value)


def switch(value: object) -> bool:
    known = {"1": True, "true": True, "0": False, "false": False}
    found = known.get(str(value).lower())
    if found is None:
        raise ValueError("write true or false")
    return found


def bootstrap(value: object) -> tuple[BootstrapAddress, ...]:
    texts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ValueError("write a list of addresses")
    try:
        return tuple(BootstrapAddress.parse(text(each)) for each in texts)
    except Refused as refused:
        raise ValueError(refused.hint) from refused


def share(value: object) -> float:
    try:
        share = float(str(value))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("write a number from 0 to 1")
    return share


def number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"write a number from {low} to {high}")
        return value

    return parse
