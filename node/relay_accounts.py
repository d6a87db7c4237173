"""What the user asks about their account at a relay: made, logged in to, its devices, its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.delivery.accounts import AccountClient, AccountDevice
from node.delivery.asking import Ask
from node.delivery.delivery import Delivery
from node.engine.commands import WhoAmI
from node.engine.relay_commands import (
    ChangeRelays,
    ForgetRelaySession,
    KeepRelaySession,
    ListRelaySessions,
    OwnCredential,
    RelaySession,
)
from schemas.accounts import account_name
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey
from schemas.records import Signed

_OTHER_TOKEN = ("bad-invite", "not-admitted")  # the relay's codes
_NOT_LOGGED_IN = "not-logged-in"  # the relay's code


@dataclass(frozen=True, slots=True)
class RelayAccountView:
    """Our account at a relay; the login ends at `expires` (Unix s), the device stays let in."""

    account: str
    relay: str
    expires: float


class RelayAccounts:
    """A relay is the one that is named, which becomes ours, else the first of ours."""

    def __init__(self, ask: Ask, delivery: Delivery, device: DeviceKey) -> None:
        self._ask = ask
        self._delivery = delivery
        self._device = device

    async def register(
        self, name: str, password: bytes, relay: str | None, tokens: Sequence[bytes]
    ) -> RelayAccountView:
        """Make an account with this device in it, and log in. The relay is shown one of `tokens`
        after the other. Raises Refused with the relay's code, `no-relay`; Unreachable."""
        name = account_name(name)
        address = await self._choose(relay)
        client = await self._client(address)
        credential = await self._credential()
        device_name = (await self._ask(WhoAmI())).name
        for number, token in enumerate(tokens, 1):
            try:
                await client.register(name, password, credential, device_name, token)
                break
            except Refused as fault:
                if fault.code not in _OTHER_TOKEN or number == len(tokens):
                    raise
        return await self._log_in(client, address, name, password)

    async def login(self, name: str, password: bytes, relay: str | None) -> RelayAccountView:
        """Log in, and have this device let in for good. Raises as `register`."""
        name = account_name(name)
        address = await self._choose(relay)
        client = await self._client(address)
        view = await self._log_in(client, address, name, password)
        session = await self._session(address)
        device_name = (await self._ask(WhoAmI())).name
        await client.register_device(session.token, await self._credential(), device_name)
        self._delivery.own_relays.try_again(address)
        return view

    async def devices(self, relay: str | None) -> tuple[RelayAddress, Sequence[AccountDevice]]:
        """Raises Refused `not-logged-in` with what to do."""
        address = await self._choose(relay)
        session = await self._session(address)
        try:
            return address, await (await self._client(address)).devices(session.token)
        except Fault as fault:
            raise self._explained(fault, address) from None

    async def revoke(self, device: DeviceKey, relay: str | None) -> RelayAddress:
        """The relay lets that device in no more, and forgets what it kept for it."""
        address = await self._choose(relay)
        session = await self._session(address)
        client = await self._client(address)
        try:
            await client.revoke_device(session.token, device)
        except Fault as fault:
            raise self._explained(fault, address) from None
        if device == self._device:
            await self._ask(ForgetRelaySession(address.device))
            client.hang_up()
        return address

    async def delete(self, relay: str | None) -> tuple[str, RelayAddress]:
        """(the account's name, its relay): it is gone, with everything that was kept for it."""
        address = await self._choose(relay)
        session = await self._session(address)
        client = await self._client(address)
        try:
            await client.delete(session.token)
        except Fault as fault:
            raise self._explained(fault, address) from None
        await self._ask(ForgetRelaySession(address.device))
        client.hang_up()
        return session.name, address

    async def _log_in(
        self, client: AccountClient, address: RelayAddress, name: str, password: bytes
    ) -> RelayAccountView:
        token, expires = await client.login(name, password)
        await self._ask(KeepRelaySession(RelaySession(address.device, name, token, expires)))
        ours = [RelayAddress.parse(text).device for text in (await self._ask(WhoAmI())).relays]
        if address.device not in ours:
            await self._ask(ChangeRelays(add=(str(address),)))
        self._delivery.own_relays.try_again(address)
        return RelayAccountView(name, str(address), expires)

    async def _choose(self, relay: str | None) -> RelayAddress:
        """Raises Refused `bad-relay`, `no-relay`."""
        if relay:
            return RelayAddress.parse(relay)
        ours = (await self._ask(WhoAmI())).relays
        if not ours:
            raise Refused(
                "no-relay",
                "this node has no relay",
                hint="name one with --relay HOST:PORT#DEVICE_KEY",
            )
        return RelayAddress.parse(ours[0])

    async def _client(self, address: RelayAddress) -> AccountClient:
        return AccountClient(await self._delivery.pool.client(address, eager=True), self._device)

    async def _credential(self) -> Signed:
        data = await self._ask(OwnCredential())
        return Signed(bytes(self._device), data[:32], data[32:])

    async def _session(self, address: RelayAddress) -> RelaySession:
        for session in await self._ask(ListRelaySessions()):
            if session.relay == address.device:
                return session
        raise _log_in_first(address)

    def _explained(self, fault: Fault, address: RelayAddress) -> Fault:
        return _log_in_first(address) if fault.code == _NOT_LOGGED_IN else fault


def _log_in_first(address: RelayAddress) -> Refused:
    return Refused(
        _NOT_LOGGED_IN,
        f"not logged in at {address.address}: a login lasts a day",
        hint="`quicnprotochat login NAME`",
    )
