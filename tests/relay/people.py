"""Accounts as a client has them: registration and login by OPAQUE, both of its messages."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from opaque_ke import KSF_LATEST, ClientLogin, ClientRegistration, InvalidLogin

from identity.credential import issue_credential
from identity.keys import KeyPair
from schemas.accounts import (
    LOGIN_RESPONSE,
    REGISTRATION_RESPONSE,
    framed,
    login_context,
    unframed,
)
from schemas.ids import DeviceKey, IdentityKey
from schemas.node_service import AUTH_VERSION
from schemas.records import Signed
from tests.relay.support import Client, new_identity

PASSWORD = b"correct horse battery staple"


@dataclass(frozen=True)
class Person:
    """Somebody with a name, an identity and a password."""

    name: str
    identity: KeyPair[IdentityKey]
    password: bytes = PASSWORD


def person(name: str) -> Person:
    return Person(name, new_identity())


def credential(identity: KeyPair[IdentityKey], device: DeviceKey) -> Signed:
    data = issue_credential(identity, device)
    return Signed(bytes(device), data[:32], data[32:])


def auth(client: Client, token: bytes = b"") -> dict[str, Any]:
    return {"version": AUTH_VERSION, "deviceId": bytes(client.device.public), "accessToken": token}


async def register(
    client: Client, who: Person, *, token: bytes = b"", by: Signed | None = None
) -> str:
    """The error code, empty when the account was made with this client's device in it."""
    client_side = ClientRegistration(who.password)
    common = {"name": who.name, "auth": auth(client, token)}
    request = framed(KSF_LATEST, client_side.request)
    started = await client.call("opaqueRegisterStart", request=request, **common)
    if started.error.code:
        return str(started.error.code)
    ksf, response = unframed(started.response, REGISTRATION_RESPONSE)
    upload = framed(ksf, client_side.finish(response, ksf=ksf).upload)
    by = credential(who.identity, client.device.public) if by is None else by
    return await client.code(
        "opaqueRegisterFinish", upload=upload, credential=by, deviceName="laptop", **common
    )


@dataclass(frozen=True)
class Halfway:
    """A login after its first message."""

    login: bytes
    response: bytes
    finalization: bytes | None  # None: the client sees that the password is wrong


async def begin_login(client: Client, relay: DeviceKey, name: str, password: bytes) -> Halfway:
    client_side = ClientLogin(password)
    started = await client.call(
        "opaqueLoginStart", name=name, request=framed(KSF_LATEST, client_side.request)
    )
    assert started.error.code == "", started.error.code
    ksf, response = unframed(started.response, LOGIN_RESPONSE)
    context = login_context(relay, client.device.public)
    finalization = None
    with contextlib.suppress(InvalidLogin):
        finalization = framed(
            ksf, client_side.finish(response, ksf=ksf, context=context).finalization
        )
    return Halfway(bytes(started.login), bytes(started.response), finalization)


async def login(client: Client, relay: DeviceKey, who: Person) -> bytes:
    """The token of a new session."""
    halfway = await begin_login(client, relay, who.name, who.password)
    assert halfway.finalization is not None, "wrong password"
    done = await client.call(
        "opaqueLoginFinish", login=halfway.login, finalization=halfway.finalization
    )
    assert done.error.code == "", done.error.code
    return bytes(done.accessToken)
