"""What the operations about our relays do with the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from node.api import operations as op
from node.api import relay_shapes as rs
from node.api import shapes as s
from node.api.convert import utc
from node.engine import commands as c
from node.engine.relay_commands import ChangeRelays
from node.views import RelayView
from schemas.addresses import RelayAddress
from schemas.errors import Refused

R = TypeVar("R")

_PREFIX = 6  # hex digits of a device key that name a relay


class RelayNode(Protocol):
    """What these operations need of a Node."""

    async def ask(self, command: c.Command[R]) -> R: ...
    async def relays(self) -> tuple[RelayView, ...]: ...


def relay_handlers(node: RelayNode) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    handlers = _Relays(node)
    return {
        op.RELAYS.name: handlers.show,
        op.CHANGE_RELAYS.name: handlers.change,
    }


class _Relays:
    def __init__(self, node: RelayNode) -> None:
        self._node = node

    async def show(self, _: s.Nothing) -> list[rs.Relay]:
        return [_relay(view) for view in await self._node.relays()]

    async def change(self, request: rs.ChangeRelays) -> list[rs.Relay]:
        add = tuple(str(RelayAddress.parse(text)) for text in request.add)
        views = await self._node.relays()
        drop = tuple(chosen(text, views) for text in request.drop)
        await self._node.ask(ChangeRelays(add, drop, request.first, request.at_once))
        return [_relay(view) for view in await self._node.relays()]


def chosen(text: str, relays: Sequence[RelayView]) -> str:
    """Of these relays the one that is meant: by its address, HOST:PORT of a process, or the first
    digits of its key. Raises Refused `not-our-relay`, `ambiguous-relay`."""
    text = text.strip()
    found = {view.relay for view in relays if _is_meant(text, RelayAddress.parse(view.relay))}
    if len(found) == 1:
        return found.pop()
    hint = "`quicnprotochat relays` lists them"
    if found:
        raise Refused("ambiguous-relay", f"several relays are {text[:80]!r}", hint=hint)
    raise Refused("not-our-relay", f"no relay of ours is {text[:80]!r}", hint=hint)


def _is_meant(text: str, relay: RelayAddress) -> bool:
    where, _, key = text.rpartition("#")
    if where:
        return key.lower() == relay.device.hex()
    if text in map(str, relay.processes):
        return True
    return len(text) >= _PREFIX and relay.device.hex().startswith(text.lower())


def _relay(view: RelayView) -> rs.Relay:
    return rs.Relay(
        relay=view.relay,
        order=view.order,
        state=view.state,
        reason=view.reason,
        refused_since=None if view.refused_since is None else utc(view.refused_since),
        left_at=None if view.left_at is None else utc(view.left_at),
        read_until=None if view.read_until is None else utc(view.read_until),
    )
