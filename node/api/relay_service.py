"""What the operations about our relays do with the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from identity.sealed_file import normalised
from node.api import convert
from node.api import operations as op
from node.api import relay_shapes as rs
from node.api import shapes as s
from node.engine import commands as c
from node.engine.relay_commands import ChangeRelays, SetRelayToken
from node.relay_accounts import RelayAccounts, RelayAccountView
from node.views import HealthView, RelayView
from schemas.accounts import ACCESS_TOKEN
from schemas.addresses import RelayAddress
from schemas.errors import Refused
from schemas.ids import DeviceKey

R = TypeVar("R")

_PREFIX = 6  # hex digits of a device key that name a relay


class RelayNode(Protocol):
    """What these operations need of a Node."""

    @property
    def device(self) -> DeviceKey: ...
    @property
    def relay_accounts(self) -> RelayAccounts: ...
    async def ask(self, command: c.Command[R]) -> R: ...
    async def relays(self) -> tuple[RelayView, ...]: ...
    async def health(self, relay: str | None = None) -> tuple[HealthView, ...]: ...


def relay_handlers(node: RelayNode) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    handlers = _Relays(node)
    return {
        op.RELAYS.name: handlers.show,
        op.HEALTH.name: handlers.health,
        op.CHANGE_RELAYS.name: handlers.change,
        op.SET_RELAY_TOKEN.name: handlers.set_token,
        op.REGISTER_USER.name: handlers.register_user,
        op.LOGIN.name: handlers.login,
        op.ACCOUNT_DEVICES.name: handlers.devices,
        op.REVOKE_DEVICE.name: handlers.revoke_device,
        op.DELETE_ACCOUNT.name: handlers.delete_account,
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

    async def set_token(self, request: rs.SetRelayToken) -> list[rs.Relay]:
        relay = RelayAddress.parse(chosen(request.relay, await self._node.relays()))
        await self._node.ask(SetRelayToken(relay.device, request.token.encode()))
        return await self.show(s.Nothing())

    async def health(self, request: rs.HealthOf) -> list[rs.Health]:
        try:
            views = await self._node.health(request.relay or None)
        except Refused as fault:
            if request.relay or fault.code != "no-relay":
                raise
            return []  # all of none
        return [convert.health(view) for view in views]

    # --- our account at one

    async def register_user(self, request: rs.RegisterUser) -> rs.RelayAccount:
        return _account(
            await self._node.relay_accounts.register(
                request.name,
                normalised(request.password),
                await self._meant(request.relay),
                _tokens(request.invite),
            )
        )

    async def login(self, request: rs.Login) -> rs.RelayAccount:
        relay = await self._meant(request.relay)
        accounts = self._node.relay_accounts
        return _account(await accounts.login(request.name, normalised(request.password), relay))

    async def devices(self, request: rs.AtRelay) -> list[rs.RelayDevice]:
        relay, found = await self._node.relay_accounts.devices(await self._named(request.relay))
        return [
            rs.RelayDevice(
                device=each.device.hex(),
                name=each.name,
                current=each.device == self._node.device,
                linked_at=convert.utc(each.registered),
                relay=str(relay),
            )
            for each in found
        ]

    async def revoke_device(self, request: rs.RevokeDevice) -> rs.RevokedDevice:
        named = await self._named(request.relay)
        _, known = await self._node.relay_accounts.devices(named)
        text = request.device.strip().lower()
        found = [each.device for each in known if each.device.hex().startswith(text)]
        if len(text) < _PREFIX or len(found) != 1:
            raise Refused(
                "unknown-device",
                f"not one device of your account: {text[:80]!r}",
                hint="`quicnprotochat devices` lists them",
            )
        relay = await self._node.relay_accounts.revoke(found[0], named)
        return rs.RevokedDevice(device=found[0].hex(), relay=str(relay))

    async def delete_account(self, request: rs.AtRelay) -> rs.RelayAccount:
        named = await self._named(request.relay)
        name, relay = await self._node.relay_accounts.delete(named)
        return rs.RelayAccount(account=name, relay=str(relay), expires_at=None)

    async def _meant(self, text: str) -> str | None:
        """As `_named`, for what takes any relay: of one that is not ours, its key is missing.

        Raises Refused `bad-relay`.
        """
        try:
            return await self._named(text)
        except Refused as fault:
            if fault.code == "not-our-relay" and ":" in text:
                RelayAddress.parse(text)
            raise

    async def _named(self, text: str) -> str | None:
        """A relay's whole address, or one of ours as `chosen` takes it; None for none."""
        if not text:
            return None
        return text if "#" in text else chosen(text, await self._node.relays())


def _tokens(text: str) -> list[bytes]:
    """An invite is hex; a relay's own token is any text, and may look like hex."""
    text = text.strip()
    try:
        invite = bytes.fromhex(text)
    except ValueError:
        invite = b""
    return [invite, text.encode()] if len(invite) == ACCESS_TOKEN else [text.encode()]


def _account(view: RelayAccountView) -> rs.RelayAccount:
    return rs.RelayAccount(
        account=view.account, relay=view.relay, expires_at=convert.utc(view.expires)
    )


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
        refused_since=None if view.refused_since is None else convert.utc(view.refused_since),
        left_at=None if view.left_at is None else convert.utc(view.left_at),
        read_until=None if view.read_until is None else convert.utc(view.read_until),
    )
