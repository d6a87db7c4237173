"""One call as a method sees it: who makes it, and what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from relay.callers import Caller
from schemas.capnp_codec import blaming_the_peer
from schemas.errors import Blame, Refused
from schemas.ids import DeviceKey
from schemas.node_service import AUTH_VERSION
from transport import RpcSession, Stream


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One RPC stream of a caller."""

    caller: Caller
    rpc: RpcSession
    stream: Stream


@dataclass(frozen=True, slots=True)
class Call:
    """One call: by which line it came, and its untyped parameters and results."""

    line: Line
    params: Any
    results: Any

    @property
    def caller(self) -> Caller:
        return self.line.caller

    @property
    def device(self) -> DeviceKey:
        """Who makes the call, proven by TLS."""
        return self.line.caller.device

    @contextmanager
    def request(self) -> Iterator[Any]:
        """The parameters, to be read inside the block; what is wrong with them is Malformed.

        Raises Refused `unsupported-auth`, `not-your-key`.
        """
        with blaming_the_peer("request"):
            auth = self.params.auth
            if auth.version != AUTH_VERSION:
                raise Refused(
                    "unsupported-auth",
                    f"this relay reads version {AUTH_VERSION} of Auth, not {auth.version}",
                    blame=Blame.INCOMPATIBLE,
                    hint="upgrade whichever of the two is older",
                )
            if len(auth.deviceId) and auth.deviceId != self.device:
                raise not_your_key()
            yield self.params

    def require_own(self, device: DeviceKey) -> None:
        if device != self.device:
            raise not_your_key()


def not_your_key() -> Refused:
    return Refused(
        "not-your-key",
        "only the device itself may do this for its key",
        hint="connect with the device key that you name",
    )
