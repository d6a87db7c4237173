"""The methods on key packages, hybrid keys, bundles and endpoint records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from discovery.record import open_endpoint_record_untrusted
from identity.bundle import open_bundle_untrusted
from identity.keys import signature_holds
from identity.signing import prefixed
from relay.admission import Admission
from relay.call import Call, not_your_key
from relay.refusals import error_frame
from relay.store.contract import RelayStore, StoredHybridKey
from schemas import limits
from schemas.capnp_codec import exactly, sized
from schemas.errors import Malformed, Refused
from schemas.frames import fill_error
from schemas.ids import DeviceKey, IdentityKey
from schemas.node_service import read_devices
from schemas.records import (
    HYBRID_KEY_LENGTH,
    SIGNATURE_LENGTH,
    SignedType,
    fill_signed,
    read_signed,
)


class DirectoryMethods:
    """They raise Fault to refuse. `clock` gives Unix seconds."""

    def __init__(self, store: RelayStore, admission: Admission, clock: Callable[[], float]) -> None:
        self._store = store
        self._admission = admission
        self._clock = clock

    # Key packages and hybrid keys

    async def upload_key_package(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.identityKey)
            suite = params.suite
            package = sized(params.package, limits.KEY_PACKAGE)
            if not package:
                raise ValueError("an empty key package")
            last_resort = params.lastResort
        call.require_own(device)
        await self._admission.introduce(call)
        call.caller.use(size=len(package))
        stock = await self._store.put_key_package(
            device, suite, package, last_resort=last_resort, now=int(self._clock())
        )
        call.results.fingerprint = hashlib.sha256(package).digest()
        call.results.stock = stock

    async def fetch_key_package(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.identityKey)
            suite = params.suite
            request = exactly(params.requestId, limits.REQUEST_ID)
        answer = await self._store.take_key_package(device, suite, request, now=int(self._clock()))
        if answer is None:
            raise Refused(
                "no-key-package",
                "the relay holds no key package of that device for this suite",
                hint="they upload one when they are online; ask them, or try the other suite",
            )
        call.results.package = answer.package
        call.results.lastResort = answer.last_resort

    async def upload_hybrid_key(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.identityKey)
            key = StoredHybridKey(
                exactly(params.hybridKey, HYBRID_KEY_LENGTH),
                exactly(params.signature, SIGNATURE_LENGTH),
            )
        call.require_own(device)
        if not _signed_by(device, key):
            raise Malformed("bad-signature", "the hybrid key is not signed by its device")
        await self._admission.introduce(call)
        call.caller.use(size=len(key.hybrid_key))
        await self._store.put_hybrid_key(device, key, now=int(self._clock()))

    async def fetch_hybrid_key(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.identityKey)
        [key] = await self._store.hybrid_keys([device])
        if key is None or not _signed_by(device, key):
            raise _no_hybrid_key()
        _fill_hybrid_key(call.results.init("key"), key)

    async def fetch_hybrid_keys(self, call: Call) -> None:
        with call.request() as params:
            devices = read_devices(params.identityKeys, limits.BATCH_ITEMS)
        keys = await self._store.hybrid_keys(devices)
        slots = call.results.init("keys", len(keys))
        for slot, device, key in zip(slots, devices, keys, strict=True):
            if key is None or not _signed_by(device, key):
                fill_error(slot.init("error"), error_frame(_no_hybrid_key()))
            else:
                _fill_hybrid_key(slot, key)

    # Bundles and endpoint records

    async def publish_bundle(self, call: Call) -> None:
        with call.request() as params:
            signed = read_signed(params.bundle, limits.BUNDLE)
            core = open_bundle_untrusted(signed)
        if call.device not in {device.key for device in core.devices}:
            raise not_your_key()
        await self._admission.introduce(call)
        call.caller.use(size=len(signed.payload))
        await self._store.put_bundle(
            core.identity, core.number, signed, by=call.device, now=int(self._clock())
        )

    async def resolve_identity(self, call: Call) -> None:
        with call.request() as params:
            identity = IdentityKey(params.identity)
        signed = await self._store.bundle(identity)
        if signed is None:
            raise Refused("not-found", "the relay holds no bundle of that person")
        open_bundle_untrusted(signed)
        fill_signed(call.results.init("bundle"), signed)

    async def publish_endpoint(self, call: Call) -> None:
        now = int(self._clock())
        with call.request() as params:
            device = DeviceKey(params.identityKey)
            signed = read_signed(params.record, limits.ENDPOINT_RECORD)
            record = open_endpoint_record_untrusted(signed, now=now)
        call.require_own(device)
        call.require_own(record.device)
        await self._admission.introduce(call)
        call.caller.use(size=len(signed.payload))
        await self._store.put_endpoint(device, record.sequence, record.expires, signed, now=now)

    async def resolve_endpoint(self, call: Call) -> None:
        now = int(self._clock())
        with call.request() as params:
            device = DeviceKey(params.identityKey)
        signed = await self._store.endpoint(device, now=now)
        if signed is None:
            raise Refused("not-found", "the relay holds no live endpoint record of that device")
        open_endpoint_record_untrusted(signed, now=now)
        fill_signed(call.results.init("record"), signed)


def _signed_by(device: DeviceKey, key: StoredHybridKey) -> bool:
    covered = prefixed(SignedType.HYBRID_KEY, key.hybrid_key)
    return signature_holds(device, key.signature, covered)


def _fill_hybrid_key(builder: Any, key: StoredHybridKey) -> None:
    builder.hybridKey = key.hybrid_key
    builder.signature = key.signature


def _no_hybrid_key() -> Refused:
    return Refused("not-found", "the relay holds no hybrid key of that device")
