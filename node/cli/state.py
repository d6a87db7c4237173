"""What one invocation knows: the common options, the settings behind them, the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.output import Output
from node.cli.secrets import Secrets
from node.paths import home_of
from schemas.errors import Blame, Fault

if TYPE_CHECKING:
    from node.api.session import Session
    from node.api.settings import NodeSettings


class TimedOut(Fault):
    """What was waited for did not come in time; exit code 3."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("timed-out", message, blame=Blame.ENVIRONMENT, hint=hint)


def _open_session(settings: NodeSettings) -> AbstractContextManager[Session]:
    from node.api.session import Session

    return Session(settings)


@contextmanager
def _with_relays(
    opening: AbstractContextManager[Session], relays: tuple[str, ...]
) -> Iterator[Session]:
    """A node that runs already learns of relays that were named, too."""
    from node.api import operations as op
    from node.api.relay_shapes import SetRelays

    with opening as session:
        session.call(op.SET_RELAYS, SetRelays(list(relays)))
        yield session


@dataclass
class State:
    """Set by the common options; `open_session` is what tests replace."""

    open_session: Callable[[NodeSettings], AbstractContextManager[Session]] = _open_session
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home_flag: str | None = None
    state_flag: str | None = None
    relay_flags: tuple[str, ...] = ()
    log_level_flag: str | None = None
    log_format_flag: str | None = None
    passphrase_flag: str | None = None
    json: bool = False
    verbose: int = 0

    @property
    def out(self) -> Output:
        return Output(self.json)

    @property
    def home(self) -> Path:
        return home_of(self.environment, self.home_flag, self.state_flag)

    @cached_property
    def secrets(self) -> Secrets:
        """The passphrases of this invocation."""
        named = self.passphrase_flag or self.environment.get("QUICNPROTOCHAT_PASSPHRASE_FILE")
        return Secrets(Path(named) if named else None, self.out.note)

    def session(self, *, relays: tuple[str, ...] | None = None) -> AbstractContextManager[Session]:
        """The way to ask the home's node; relays given here are remembered."""
        self.start_logging()
        session = self.open_session(self.settings(relays=relays))
        named = relays or self.relay_flags
        return _with_relays(session, named) if named else session

    def start_logging(self, default: str = "error") -> None:
        """Logs go to standard error. Raises BadConfig, and as `check_owner`."""
        from node.api.configure import log_settings
        from node.permissions import check_owner
        from telemetry.logs import configure

        if self.verbose:
            default = "info" if self.verbose == 1 else "debug"
        check_owner(self.home)  # before its configuration is read
        level, form = log_settings(
            self.home, self.environment, self.log_level_flag, self.log_format_flag, default
        )
        configure(level=level, json_lines=form == "json")

    def settings(
        self,
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
    ) -> NodeSettings:
        """Flag over environment over the home's file over default. Raises BadConfig."""
        from node.api.configure import node_settings

        return node_settings(
            self.home,
            self.environment,
            lasting=lasting,
            listen=listen,
            relays=relays or self.relay_flags or None,
            mdns=mdns,
            lan_visibility=lan_visibility,
            dht=dht,
            dht_visibility=dht_visibility,
            bootstrap=bootstrap,
            port_mapping=port_mapping,
            post_quantum_only=post_quantum_only,
            passphrase=self.secrets.home,
        )
