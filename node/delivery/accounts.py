"""Our account at a relay, by OPAQUE (RFC 9807): the relay never sees the password.

Stretching a password takes 64 MiB and some tenths of a second, and is done on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opaque_ke import KSF_LATEST, KSF_VERSIONS, ClientLogin, ClientRegistration, OpaqueError

from node.delivery.relay_client import RelayClient, check
from schemas import limits as wire
from schemas.accounts import (
    ACCESS_TOKEN,
    LOGIN_ID,
    LOGIN_RESPONSE,
    REGISTRATION_RESPONSE,
    framed,
    login_context,
    unframed,
)
from schemas.capnp_codec import blaming_the_peer, exactly, items, text, unix_time
from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed, fill_signed
from transport import CloseCode

DEVICES_SHOWN = 256


@dataclass(frozen=True, slots=True)
class AccountDevice:
    """A device that the relay lets in for our account; `registered` in Unix seconds."""

    device: DeviceKey
    name: str
    registered: int


class AccountClient:
    """Raises as RelayClient, and Refused with the relay's code."""

    def __init__(self, client: RelayClient, own: DeviceKey) -> None:
        self._client = client
        self._own = own

    async def register(
        self, name: str, password: bytes, credential: Signed, device_name: str, invite: bytes
    ) -> None:
        """Make an account with this device in it; `invite` is a token of the relay, or empty."""
        registration = ClientRegistration(password)
        request = self._client.request("opaqueRegisterStart", invite or None)
        request.name = name
        request.request = framed(KSF_LATEST, registration.request)
        answer = await self._client.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            ksf, response = unframed(answer.response, REGISTRATION_RESPONSE)
        _check_ksf(ksf)
        try:
            record = await asyncio.to_thread(registration.finish, response, ksf=ksf)
        except OpaqueError as error:
            raise Malformed(
                "malformed-relay-answer", f"the relay does not speak OPAQUE: {error.code}"
            ) from error
        request = self._client.request("opaqueRegisterFinish", invite or None)
        request.name = name
        request.upload = framed(ksf, record.upload)
        fill_signed(request.init("credential"), credential)
        request.deviceName = device_name
        check(await self._client.send(request))

    async def login(self, name: str, password: bytes) -> tuple[bytes, int]:
        """A session of this device: (token, its end in Unix seconds). Raises Refused
        `login-failed`, whatever is wrong."""
        login = ClientLogin(password)
        request = self._client.request("opaqueLoginStart")
        request.name = name
        request.request = framed(KSF_LATEST, login.request)
        answer = await self._client.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            pending = exactly(answer.login, LOGIN_ID)
            ksf, response = unframed(answer.response, LOGIN_RESPONSE)
        _check_ksf(ksf)
        context = login_context(self._client.address.device, self._own)
        try:
            done = await asyncio.to_thread(login.finish, response, ksf=ksf, context=context)
        except OpaqueError:
            raise login_failed() from None
        request = self._client.request("opaqueLoginFinish")
        request.login = pending
        request.finalization = framed(ksf, done.finalization)
        answer = await self._client.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            return exactly(answer.accessToken, ACCESS_TOKEN), unix_time(answer.expires)

    async def register_device(self, token: bytes, credential: Signed, name: str) -> None:
        """From now on the relay lets this device in by its key alone."""
        request = self._client.request("registerDevice", token)
        request.device = bytes(self._own)
        request.name = name
        fill_signed(request.init("credential"), credential)
        check(await self._client.send(request))

    async def devices(self, token: bytes) -> Sequence[AccountDevice]:
        answer = await self._client.send(self._client.request("listDevices", token))
        with blaming_the_peer("relay-answer"):
            check(answer)
            return items(answer.devices, DEVICES_SHOWN, _read_device)

    async def revoke_device(self, token: bytes, device: DeviceKey) -> None:
        request = self._client.request("revokeDevice", token)
        request.device = bytes(device)
        check(await self._client.send(request))

    async def delete(self, token: bytes) -> None:
        """The account, and everything that the relay keeps for it."""
        check(await self._client.send(self._client.request("deleteAccount", token)))

    def hang_up(self) -> None:
        """What the relay allowed this connection, it may allow no more: the next one tells."""
        self._client.connection.close_now(CloseCode.NORMAL, "this device was let in no more")

    async def resolve(self, name: str) -> IdentityKey:
        """Whose account that is, by the relay's word alone. Raises Refused `not-found`."""
        request = self._client.request("resolveUser")
        request.name = name
        answer = await self._client.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            return IdentityKey(answer.identity)


def login_failed() -> Refused:
    return Refused(
        "login-failed",
        "no account at this relay has this name and this password",
        hint="check both, and which relay it is",
    )


def _check_ksf(version: int) -> None:
    """A relay that asks for another stretching than there is, or for a weaker one to come."""
    if version not in KSF_VERSIONS:
        raise Fault(
            "unsupported-ksf",
            f"the relay stretches passwords in a way (version {version}) unknown here",
            blame=Blame.INCOMPATIBLE,
            hint="upgrade quicnprotochat",
        )


def _read_device(reader: Any) -> AccountDevice:
    return AccountDevice(
        DeviceKey(reader.device),
        text(reader.name, wire.DISPLAY_NAME),
        unix_time(reader.registered),
    )
