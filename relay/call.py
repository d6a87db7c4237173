"""One call as a method sees it: who makes it, and what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay.callers import Caller
from schemas.capnp_codec import blaming_the_peer
from schemas.errors import Blame, Refused
from schemas.ids import DeviceKey
from schemas.node_service import AUTH_VERSION
from telemetry.correlation import Trace
from transport import Connection, RpcSession, Stream


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One RPC stream of a caller."""

    caller: Caller
    connection: Connection
    rpc: RpcSession
    stream: Stream
    trace: Trace


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

    def request(self) -> _Request:
        """The parameters, to be read inside the block; what is wrong with them is Malformed.

        Raises Refused `unsupported-auth`, `not-your-key`.
        """
        return _Request(self)

    def check_auth(self) -> None:
        auth = self.params.auth
        version = auth.version
        if version != AUTH_VERSION:
            raise Refused(
                "unsupported-auth",
                f"this relay reads version {AUTH_VERSION} of Auth, not {version}",
                blame=Blame.INCOMPATIBLE,
                hint="upgrade whichever of the two is older",
            )
        device = auth.deviceId
        if device and device != self.device:
            raise not_your_key()

    def require_own(self, device: DeviceKey) -> None:
        if device != self.device:
            raise not_your_key()


class _Request:
    """`with call.request() as params:`, without the cost of a generator for every call."""

    __slots__ = ("_blaming", "_call")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._blaming = blaming_the_peer("request")

    def __enter__(self) -> Any:
        with self._blaming:
            self._call.check_auth()
        return self._call.params

    def __exit__(self, *raised: Any) -> None:
        self._blaming.__exit__(*raised)


def not_your_key() -> Refused:
    return Refused(
        "not-your-key",
        "only the device itself may do this for its key",
        hint="connect with the device key that you name",
    )
