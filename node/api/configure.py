"""The settings in force: flag over environment over the home's file over default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from node.api.settings import NodeSettings
from node.paths import CONFIG
from schemas.errors import Blame, Fault
from schemas.visibility import DhtVisibility, LanVisibility

DEFAULT_LISTEN: Final = "[::]:7000"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("text", "json")
_KEYS: Final = {
    "listen": str,
    "relays": list,
    "mdns": bool,
    "mdns_interfaces": list,
    "lan_visibility": str,
    "dht": bool,
    "dht_visibility": str,
    "bootstrap": list,
    "port_mapping": bool,
    "post_quantum_only": bool,
    "log_level": str,
    "log_format": str,
}


class BadConfig(Fault):
    """The configuration file or a variable says something that cannot be."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("bad-config", message, blame=Blame.CALLER, hint=hint)


def node_settings(
    home: Path,
    environment: Mapping[str, str],
    *,
    lasting: bool = False,
    listen: str | None = None,
    relays: tuple[str, ...] | None = None,
    mdns: bool | None = None,
    lan_visibility: str | None = None,
    dht: bool | None = None,
    dht_visibility: str | None = None,
    bootstrap: tuple[str, ...] | None = None,
    port_mapping: bool | None = None,
    post_quantum_only: bool | None = None,
    passphrase: Callable[[], bytes | None] = lambda: None,
) -> NodeSettings:
    """How to run the node of `home`; what is None was not given as a flag. Raises BadConfig."""
    file = read_file(home)
    if listen is None:
        listen = environment.get("QUICNPROTOCHAT_LISTEN") or file.get("listen")
    named = environment.get("QUICNPROTOCHAT_RELAY") or environment.get("QUICNPROTOCHAT_SERVER")
    if not relays:
        relays = _words(named) or _strings(file.get("relays"), "relays")
    interfaces = _words(environment.get("QUICNPROTOCHAT_MDNS_INTERFACES")) or _strings(
        file.get("mdns_interfaces"), "mdns_interfaces"
    )
    if not bootstrap:
        bootstrap = _words(environment.get("QUICNPROTOCHAT_BOOTSTRAP")) or _strings(
            file.get("bootstrap"), "bootstrap"
        )
    return NodeSettings(
        home=home,
        listen=(listen or DEFAULT_LISTEN) if lasting else None,
        relays=relays,
        mdns=_switch("mdns", mdns, environment, file, default=True),
        mdns_interfaces=interfaces,
        lan_visibility=LanVisibility(
            _choice(
                "lan_visibility",
                tuple(LanVisibility),
                lan_visibility,
                environment,
                file,
                default=LanVisibility.EVERYONE,
            )
        ),
        dht=_switch("dht", dht, environment, file, default=True),
        dht_visibility=DhtVisibility(
            _choice(
                "dht_visibility",
                tuple(DhtVisibility),
                dht_visibility,
                environment,
                file,
                default=DhtVisibility.PRIVATE,
            )
        ),
        bootstrap=bootstrap,
        port_mapping=_switch("port_mapping", port_mapping, environment, file, default=True),
        post_quantum_only=_switch(
            "post_quantum_only", post_quantum_only, environment, file, default=False
        ),
        passphrase=passphrase,
    )


def log_settings(
    home: Path, environment: Mapping[str, str], level: str | None, form: str | None, default: str
) -> tuple[str, str]:
    """The level and format of logs. Raises BadConfig."""
    file = read_file(home)
    level = level or environment.get("QUICNPROTOCHAT_LOG_LEVEL") or file.get("log_level")
    form = form or environment.get("QUICNPROTOCHAT_LOG_FORMAT") or file.get("log_format")
    return _one_of("log_level", LOG_LEVELS, level or default), _one_of(
        "log_format", LOG_FORMATS, form or LOG_FORMATS[0]
    )


def read_file(home: Path) -> dict[str, Any]:
    """The home's configuration file, checked; empty when there is none. Raises BadConfig."""
    path = home / CONFIG
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from None
    import tomllib

    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path} is not valid TOML: {error}") from None
    for key, value in values.items():
        if key not in _KEYS:
            raise BadConfig(f"{path}: unknown key {key!r}", f"known are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise BadConfig(f"{path}: {key} must be a {_KEYS[key].__name__}")
    return values


def _one_of(name: str, known: tuple[str, ...], value: str) -> str:
    if value not in known:
        raise BadConfig(f"{name} is {value!r}", f"one of {', '.join(known)}")
    return value


def _choice(
    name: str,
    known: tuple[str, ...],
    flag: str | None,
    environment: Mapping[str, str],
    file: Mapping[str, Any],
    *,
    default: str,
) -> str:
    given = flag or environment.get(f"QUICNPROTOCHAT_{name.upper()}") or file.get(name)
    return _one_of(name, known, given or default)


def _words(text: str | None) -> tuple[str, ...] | None:
    return tuple((text or "").replace(",", " ").split()) or None


def _strings(value: list[Any] | None, key: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not all(isinstance(each, str) for each in value):
        raise BadConfig(f"{CONFIG}: {key} must be a list of strings")
    return tuple(value)


def _switch(
    name: str,
    flag: bool | None,
    environment: Mapping[str, str],
    file: Mapping[str, Any],
    *,
    default: bool,
) -> bool:
    if flag is not None:
        return flag
    variable = f"QUICNPROTOCHAT_{name.upper()}"
    text = environment.get(variable)
    if text is None:
        return bool(file.get(name, default))
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise BadConfig(f"{variable} is {text!r}", "say 1 or 0")
