"""The methods on accounts: OPAQUE's four messages, devices, names, and the end of an account."""

from __future__ import annotations

from collections.abc import Callable

from identity.credential import verify_credential_untrusted
from relay.accounts import Accounts
from relay.admission import Admission, not_admitted
from relay.call import Call
from relay.store.accounts import AccountStore, Session
from schemas import limits
from schemas.accounts import (
    LOGIN_FINALIZATION,
    LOGIN_ID,
    LOGIN_REQUEST,
    REGISTRATION_REQUEST,
    REGISTRATION_UPLOAD,
    account_name,
    unframed,
)
from schemas.capnp_codec import exactly, text
from schemas.errors import Malformed, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed, read_signed


class AccountMethods:
    """They raise Fault to refuse. `clock` gives Unix seconds."""

    def __init__(
        self,
        accounts: Accounts,
        store: AccountStore,
        admission: Admission,
        clock: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._admission = admission
        self._clock = clock

    # OPAQUE

    async def register_start(self, call: Call) -> None:
        with call.request() as params:
            name = account_name(params.name)
            ksf, request = unframed(params.request, REGISTRATION_REQUEST)
        await self._admission.check_registration(call, now=int(self._clock()))
        call.results.response = await self._accounts.start_registration(
            call.caller, name, ksf, request
        )

    async def register_finish(self, call: Call) -> None:
        with call.request() as params:
            name = account_name(params.name)
            ksf, upload = unframed(params.upload, REGISTRATION_UPLOAD)
            identity = _owner_of(call.device, read_signed(params.credential, limits.BUNDLE))
            device_name = text(params.deviceName, limits.DISPLAY_NAME)
        invite = await self._admission.check_registration(call, now=int(self._clock()))
        await self._accounts.finish_registration(
            call.caller, name, identity, ksf, upload, device_name, invite=invite
        )

    async def login_start(self, call: Call) -> None:
        with call.request() as params:
            name = account_name(params.name)
            ksf, request = unframed(params.request, LOGIN_REQUEST)
        login, response = await self._accounts.start_login(call.caller, name, ksf, request)
        call.results.login = login
        call.results.response = response

    async def login_finish(self, call: Call) -> None:
        with call.request() as params:
            login = exactly(params.login, LOGIN_ID)
            _, finalization = unframed(params.finalization, LOGIN_FINALIZATION)
        token = await self._accounts.finish_login(call.caller, login, finalization)
        call.results.accessToken = token.secret
        call.results.expires = token.expires

    # Devices, by whoever is logged in

    async def register_device(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.device)
            name = text(params.name, limits.DISPLAY_NAME)
            identity = _owner_of(call.device, read_signed(params.credential, limits.BUNDLE))
        call.require_own(device)  # else an account could be deleted with somebody else's mail
        session = await self._session(call)
        if identity != session.identity:
            raise _not_your_identity()
        await self._accounts.add_device(session, device, name)

    async def list_devices(self, call: Call) -> None:
        with call.request():
            pass
        devices = await self._accounts.devices(await self._session(call))
        slots = call.results.init("devices", len(devices))
        for slot, each in zip(slots, devices, strict=True):
            slot.device = bytes(each.device)
            slot.name = each.name
            slot.registered = each.registered

    async def revoke_device(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.device)
        await self._accounts.revoke_device(await self._session(call), call.caller, device)

    async def delete_account(self, call: Call) -> None:
        with call.request():
            pass
        await self._accounts.delete(await self._session(call), call.caller)

    async def _session(self, call: Call) -> Session:
        return await self._accounts.session(call.device, bytes(call.params.auth.accessToken))

    # Names

    async def resolve_user(self, call: Call) -> None:
        with call.request() as params:
            name = account_name(params.name)
        if not await self._admission.admits(call):
            raise not_admitted()
        identity = await self._store.owner(name)
        if identity is None:
            raise Refused(
                "not-found", "no account here has that name", hint="ask them how they spell it"
            )
        call.results.identity = bytes(identity)


def _owner_of(device: DeviceKey, credential: Signed) -> IdentityKey:
    """Whose device the caller's is, by that person's signature. Raises Malformed."""
    if credential.payload != device:
        raise Malformed("bad-credential", "a device credential for another device")
    return verify_credential_untrusted(device, credential.signer + credential.signature)


def _not_your_identity() -> Refused:
    return Refused(
        "not-your-identity",
        "the credential is of another person than the account",
        hint="use the identity that the account was made with",
    )
