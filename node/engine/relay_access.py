"""What lets us in at relays: logins to our accounts, and tokens of their operators."""

from __future__ import annotations

from typing import Final

from node.engine import relay_commands as r
from node.engine import values
from node.engine.core import Core
from node.store.relays import RelayStore
from schemas.errors import Refused
from schemas.ids import DeviceKey

TOKEN_BYTES: Final = 1024


class RelayAccess:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = RelayStore(core.db)

    def keep_session(self, command: r.KeepRelaySession) -> None:
        session = command.session
        self._store.put_session(session.relay, session.name, session.token, session.expires)

    def sessions(self, _: r.ListRelaySessions) -> tuple[r.RelaySession, ...]:
        return tuple(r.RelaySession(*row) for row in self._store.sessions())

    def forget_session(self, command: r.ForgetRelaySession) -> None:
        self._store.drop_session(command.relay)

    def set_token(self, command: r.SetRelayToken) -> None:
        if len(command.token) > TOKEN_BYTES:
            raise Refused("bad-token", f"a relay's token has up to {TOKEN_BYTES} bytes")
        self._store.put_token(command.relay, command.token)
        self._core.effects.append(values.BundleChanged())

    def tokens(self, _: r.ReadRelayTokens) -> dict[DeviceKey, bytes]:
        return self._store.tokens()

    def credential(self, _: r.OwnCredential) -> bytes:
        return self._core.credential
