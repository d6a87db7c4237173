"""What one invocation knows: the common options, the settings behind them, the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from node.cli.output import Output
from node.cli.secrets import Secrets
from node.paths import CONFIG, default_home
from schemas.errors import Blame, Fault

if TYPE_CHECKING:
    from node.api.session import Session
    from node.api.settings import NodeSettings

DEFAULT_LISTEN: Final = "0.0.0.0:7000"
_KEYS: Final = {"listen": str, "relays": list, "mdns": bool, "mdns_interfaces": list}


class TimedOut(Fault):
    """What was waited for did not come in time; exit code 3."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("timed-out", message, blame=Blame.ENVIRONMENT, hint=hint)


class BadConfig(Fault):
    """The configuration file or a variable says something that cannot be."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("bad-config", message, blame=Blame.CALLER, hint=hint)


def _open_session(settings: NodeSettings) -> AbstractContextManager[Session]:
    from node.api.session import Session

    return Session(settings)


@dataclass
class State:
    """Set by the common options; `open_session` is what tests replace."""

    open_session: Callable[[NodeSettings], AbstractContextManager[Session]] = _open_session
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home_flag: str | None = None
    passphrase_flag: str | None = None
    json: bool = False
    verbose: int = 0

    @property
    def out(self) -> Output:
        return Output(self.json)

    @property
    def home(self) -> Path:
        chosen = self.home_flag or self.environment.get("QUICNPROTOCHAT_HOME")
        if chosen:
            return Path(chosen).expanduser().absolute()
        return default_home()

    @cached_property
    def secrets(self) -> Secrets:
        """The passphrases of this invocation."""
        named = self.passphrase_flag or self.environment.get("QUICNPROTOCHAT_PASSPHRASE_FILE")
        return Secrets(Path(named) if named else None)

    def session(self, *, relays: tuple[str, ...] | None = None) -> AbstractContextManager[Session]:
        """The way to ask the home's node; relays given here are remembered."""
        self.start_logging()
        return self.open_session(self.settings(relays=relays))

    def start_logging(self) -> None:
        """Logs go to standard error."""
        import logging

        levels = (logging.ERROR, logging.INFO, logging.DEBUG)
        logging.basicConfig(
            level=levels[min(self.verbose, 2)],
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )

    def settings(
        self,
        *,
        lasting: bool = False,
        listen: str | None = None,
        relays: tuple[str, ...] | None = None,
        mdns: bool | None = None,
    ) -> NodeSettings:
        """Flag over environment over the home's file over default. Raises BadConfig."""
        from node.api.settings import NodeSettings

        file = self._file()
        if listen is None:
            listen = self.environment.get("QUICNPROTOCHAT_LISTEN") or file.get("listen")
        named = self.environment.get("QUICNPROTOCHAT_RELAY") or self.environment.get(
            "QUICNPROTOCHAT_SERVER"
        )
        if not relays:
            relays = _words(named) or _strings(file.get("relays"), "relays")
        if mdns is None:
            said = self.environment.get("QUICNPROTOCHAT_MDNS")
            mdns = file.get("mdns", True) if said is None else _flag(said)
        interfaces = _words(self.environment.get("QUICNPROTOCHAT_MDNS_INTERFACES")) or _strings(
            file.get("mdns_interfaces"), "mdns_interfaces"
        )
        return NodeSettings(
            home=self.home,
            listen=(listen or DEFAULT_LISTEN) if lasting else None,
            relays=relays,
            mdns=mdns,
            mdns_interfaces=interfaces,
            passphrase=self.secrets.home,
        )

    def _file(self) -> dict[str, Any]:
        path = self.home / CONFIG
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
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


def _words(text: str | None) -> tuple[str, ...] | None:
    return tuple((text or "").replace(",", " ").split()) or None


def _strings(value: list[Any] | None, key: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not all(isinstance(each, str) for each in value):
        raise BadConfig(f"{CONFIG}: {key} must be a list of strings")
    return tuple(value)


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise BadConfig(f"QUICNPROTOCHAT_MDNS is {text!r}", "say 1 or 0")
