"""NodeService: each method reads its request, asks the store, and fills in the answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from discovery.record import open_endpoint_record_untrusted
from identity.bundle import open_bundle_untrusted
from identity.keys import signature_holds
from identity.signing import prefixed
from relay.refusals import TryLater, error_frame
from relay.store.contract import MAX_NUMBER, MailboxName, RelayStore, StoredHybridKey
from schemas import limits
from schemas.capnp_codec import blaming_the_peer, exactly, items, sized
from schemas.errors import Blame, Malformed, Refused
from schemas.frames import ErrorFrame, fill_error
from schemas.ids import DeviceKey, IdentityKey
from schemas.node_service import (
    AUTH_VERSION,
    Enqueued,
    EnqueueItem,
    fill_enqueue_result,
    fill_mailbox,
    read_channel,
    read_devices,
    read_enqueue_item,
)
from schemas.records import (
    HYBRID_KEY_LENGTH,
    SIGNATURE_LENGTH,
    SignedType,
    fill_signed,
    read_signed,
)

REPLY_BYTES: Final = limits.FRAME - 64 * limits.KIB  # a client's transport reads 1 MiB at once


@dataclass(frozen=True, slots=True)
class Call:
    """One call: who makes it (proven by TLS), and its untyped parameters and results."""

    caller: DeviceKey
    params: Any
    results: Any

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
            if len(auth.deviceId) and auth.deviceId != self.caller:
                raise _not_your_key()
            yield self.params

    def require_own(self, device: DeviceKey) -> None:
        if device != self.caller:
            raise _not_your_key()


Handler = Callable[["RelayService", Call], Awaitable[None]]


class RelayService:
    """The methods of NodeService that this relay has; `METHODS` maps their names on the wire.

    They raise Fault to refuse. `clock` gives Unix seconds, `uptime` seconds since the start;
    `refusals` counts by code.
    """

    def __init__(
        self,
        store: RelayStore,
        *,
        parcel_ttl_s: int,
        version: str,
        clock: Callable[[], float],
        uptime: Callable[[], float],
    ) -> None:
        self._store = store
        self._parcel_ttl_s = parcel_ttl_s
        self._version = version
        self._clock = clock
        self._uptime = uptime
        self.refusals: Counter[str] = Counter()

    def _now(self) -> int:
        return int(self._clock())

    async def health(self, call: Call) -> None:
        call.results.status = "ok"
        call.results.version = self._version
        call.results.uptimeS = int(self._uptime())

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
        stock = await self._store.put_key_package(device, suite, package, last_resort=last_resort)
        call.results.fingerprint = hashlib.sha256(package).digest()
        call.results.stock = stock

    async def fetch_key_package(self, call: Call) -> None:
        with call.request() as params:
            device = DeviceKey(params.identityKey)
            suite = params.suite
            request = exactly(params.requestId, limits.REQUEST_ID)
        answer = await self._store.take_key_package(device, suite, request, now=self._now())
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
        await self._store.put_hybrid_key(device, key)

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
        if call.caller not in {device.key for device in core.devices}:
            raise _not_your_key()
        await self._store.put_bundle(core.identity, core.number, signed)

    async def resolve_identity(self, call: Call) -> None:
        with call.request() as params:
            identity = IdentityKey(params.identity)
        signed = await self._store.bundle(identity)
        if signed is None:
            raise Refused("not-found", "the relay holds no bundle of that person")
        open_bundle_untrusted(signed)
        fill_signed(call.results.init("bundle"), signed)

    async def publish_endpoint(self, call: Call) -> None:
        now = self._now()
        with call.request() as params:
            device = DeviceKey(params.identityKey)
            signed = read_signed(params.record, limits.ENDPOINT_RECORD)
            record = open_endpoint_record_untrusted(signed, now=now)
        call.require_own(device)
        call.require_own(record.device)
        await self._store.put_endpoint(device, record.sequence, record.expires, signed)

    async def resolve_endpoint(self, call: Call) -> None:
        now = self._now()
        with call.request() as params:
            device = DeviceKey(params.identityKey)
        signed = await self._store.endpoint(device, now=now)
        if signed is None:
            raise Refused("not-found", "the relay holds no live endpoint record of that device")
        open_endpoint_record_untrusted(signed, now=now)
        fill_signed(call.results.init("record"), signed)

    # Mailboxes

    async def enqueue(self, call: Call) -> None:
        with call.request() as params:
            item = read_enqueue_item(params.item)
        [outcome] = await self._enqueue([item])
        result = call.results.init("result")
        fill_enqueue_result(result, self._counted(outcome))
        if isinstance(outcome, ErrorFrame):
            fill_error(call.results.init("error"), outcome)

    async def batch_enqueue(self, call: Call) -> None:
        with call.request() as params:
            batch = items(params.items, limits.BATCH_ITEMS, _read_item_or_error)
        outcomes = iter(await self._enqueue([i for i in batch if isinstance(i, EnqueueItem)]))
        slots = call.results.init("results", len(batch))
        for slot, item in zip(slots, batch, strict=True):
            outcome = item if isinstance(item, ErrorFrame) else next(outcomes)
            fill_enqueue_result(slot, self._counted(outcome))

    async def _enqueue(self, batch: list[EnqueueItem]) -> list[Enqueued | ErrorFrame]:
        now = self._now()
        live = [
            _keep_at_most(item, now + self._parcel_ttl_s) for item in batch if item.expires > now
        ]
        stored = iter(await self._store.enqueue(live, now=now) if live else ())
        outcomes = [next(stored) if item.expires > now else _expired() for item in batch]
        return [
            outcome if isinstance(outcome, Enqueued) else error_frame(outcome)
            for outcome in outcomes
        ]

    def _counted(self, outcome: Enqueued | ErrorFrame) -> Enqueued | ErrorFrame:
        if isinstance(outcome, ErrorFrame):
            self.refusals[outcome.code] += 1
        return outcome

    async def peek(self, call: Call) -> None:
        with call.request() as params:
            name = _read_mailbox_name(params)
            after = min(params.after, MAX_NUMBER)
            limit = min(params.limit or limits.MAILBOX_PARCELS, limits.MAILBOX_PARCELS)
        _require_own_mailbox(call, name)
        mailbox = await self._store.peek(
            name, after=after, limit=limit, max_bytes=REPLY_BYTES, now=self._now()
        )
        fill_mailbox(call.results, mailbox)

    async def ack(self, call: Call) -> None:
        with call.request() as params:
            name = _read_mailbox_name(params)
            sequences = items(params.sequences, limits.MAILBOX_PARCELS, int)
        _require_own_mailbox(call, name)
        known = [sequence for sequence in sequences if sequence <= MAX_NUMBER]
        call.results.acknowledged = await self._store.acknowledge(name, known)


METHODS: Final[dict[str, Handler]] = {
    "uploadKeyPackage": RelayService.upload_key_package,
    "fetchKeyPackage": RelayService.fetch_key_package,
    "enqueue": RelayService.enqueue,
    "health": RelayService.health,
    "uploadHybridKey": RelayService.upload_hybrid_key,
    "fetchHybridKey": RelayService.fetch_hybrid_key,
    "publishEndpoint": RelayService.publish_endpoint,
    "resolveEndpoint": RelayService.resolve_endpoint,
    "peek": RelayService.peek,
    "ack": RelayService.ack,
    "batchEnqueue": RelayService.batch_enqueue,
    "fetchHybridKeys": RelayService.fetch_hybrid_keys,
    "resolveIdentity": RelayService.resolve_identity,
    "publishBundle": RelayService.publish_bundle,
}


def _read_mailbox_name(params: Any) -> MailboxName:
    return MailboxName(DeviceKey(params.recipientKey), read_channel(params.channelId))


def _require_own_mailbox(call: Call, name: MailboxName) -> None:
    if name.recipient != call.caller:
        raise Refused(
            "not-your-mailbox",
            "a mailbox opens to its own device only",
            hint="connect with the device key that the mailbox belongs to",
        )


def _read_item_or_error(reader: Any) -> EnqueueItem | ErrorFrame:
    """One bad item must not sink the batch."""
    try:
        with blaming_the_peer("parcel"):
            return read_enqueue_item(reader)
    except Malformed as fault:
        return error_frame(fault)


def _keep_at_most(item: EnqueueItem, until: int) -> EnqueueItem:
    if item.expires <= until:
        return item
    return EnqueueItem(item.recipient, item.id, until, item.sealed, item.channel)


def _expired() -> Refused:
    return Refused("parcel-expired", "the parcel has expired", hint="send the message again")


def _signed_by(device: DeviceKey, key: StoredHybridKey) -> bool:
    covered = prefixed(SignedType.HYBRID_KEY, key.hybrid_key)
    return signature_holds(device, key.signature, covered)


def _fill_hybrid_key(builder: Any, key: StoredHybridKey) -> None:
    builder.hybridKey = key.hybrid_key
    builder.signature = key.signature


def _no_hybrid_key() -> Refused:
    return Refused("not-found", "the relay holds no hybrid key of that device")


def _not_your_key() -> Refused:
    return Refused(
        "not-your-key",
        "only the device itself may do this for its key",
        hint="connect with the device key that you name",
    )


def stopping_refusal() -> TryLater:
    return TryLater(
        "stopping", "the relay is shutting down", retry_after_ms=5_000, hint="try again"
    )
