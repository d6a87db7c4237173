"""NodeService as a typed client: values in, values or Faults out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from node.delivery.limits import DeliveryLimits
from node.engine.values import OwnTokens
from schemas import limits as wire
from schemas.addresses import Address, RelayAddress, read_addresses, read_processes
from schemas.capnp_codec import blaming_the_peer, counter, exactly, items, sized, text
from schemas.errors import Blame, Malformed, Refused, Unreachable
from schemas.frames import ErrorFrame, read_error
from schemas.ids import BlobId, DeviceKey, IdentityKey
from schemas.node_service import (
    Enqueued,
    EnqueueItem,
    Mailbox,
    ParcelSink,
    StoredParcel,
    fill_addresses,
    fill_auth,
    fill_enqueue_item,
    read_enqueue_result,
    read_mailbox,
    read_meet,
    read_parcels,
)
from schemas.records import HYBRID_KEY_LENGTH, SIGNATURE_LENGTH, Signed, fill_signed, read_signed
from transport import CloseCode, Connection, ConnectionLost, RpcService

_NOT_FOUND = "not-found"
_DRAINING = "draining"  # that process is about to end


class Subscriber(Protocol):
    """What a relay tells its subscriber. All may be called again before they have returned."""

    async def take(self, parcels: tuple[StoredParcel, ...]) -> None: ...

    def observed(self, address: Address) -> None:
        """The relay sees us there now."""

    async def meet(self, device: DeviceKey, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        """The device wants us to dial it there; where we are, if we do."""


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    version: str
    uptime_s: int
    clock_ms: int | None  # Unix time there; None of a relay that does not say
    processes: tuple[Address, ...] = ()  # where those of the relay listen; none: it does not say


class RelayRefused(Refused):
    """The relay's `error` in a result."""

    @classmethod
    def of(cls, error: ErrorFrame) -> RelayRefused:
        fault = cls(error.code, error.message, blame=Blame.PEER, hint=error.hint)
        fault.retry_after_s = error.retry_after_ms / 1000
        return fault


class RelayClient:
    """A connected relay.

    Every method raises RelayRefused with the relay's code, Malformed for an answer that is not
    one, Unreachable `draining` from a process about to end, and what RPC raises: Unreachable
    `rpc-deadline`, ConnectionLost, Fault `rpc-failed`.
    """

    def __init__(
        self,
        service: RpcService,
        export: Callable[[Any, object], Any],
        own: DeviceKey,
        address: RelayAddress,
        connection: Connection,
        limits: DeliveryLimits,
        access_token: Callable[[], bytes] = bytes,
    ) -> None:
        self._access_token = access_token
        self._service = service
        self._export = export  # makes a capability for the relay of an object here
        self._own = own
        self.address = address
        self.connection = connection
        self._limits = limits
        self._loop = asyncio.get_running_loop()

    async def health(self) -> Health:
        answer = await self.send(self._service.health_request())
        with blaming_the_peer("relay-answer"):
            check(answer)
            return Health(
                text(answer.status, 64),
                text(answer.version, 64),
                counter(answer.uptimeS),
                counter(answer.clockMs) or None,
                tuple(read_processes(answer.processes)),
            )

    # Mailboxes

    async def enqueue(self, batch: Sequence[EnqueueItem]) -> tuple[Enqueued | ErrorFrame, ...]:
        """One result per parcel, in order; Enqueued means on the relay's disk."""
        request = self.request("batchEnqueue")
        slots = request.init("items", len(batch))
        for slot, item in zip(slots, batch, strict=True):
            fill_enqueue_item(slot, item)
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            results = items(answer.results, wire.BATCH_ITEMS, read_enqueue_result)
        if len(results) != len(batch):
            raise Malformed("malformed-relay-answer", "the relay answers for another batch")
        return results

    async def peek(self, after: int, limit: int) -> Mailbox:
        request = self.request("peek")
        request.recipientKey = bytes(self._own)
        request.after = after
        request.limit = limit
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            return read_mailbox(answer)

    async def ack(self, sequences: Sequence[int]) -> None:
        request = self.request("ack")
        request.recipientKey = bytes(self._own)
        request.sequences = list(sequences)
        check(await self.send(request))

    async def subscribe(self, after: int, subscriber: Subscriber) -> None:
        """From now on the relay pushes what comes into our mailbox after that number, and news.

        It ends with the connection, a newer one, or when `take` raises or is slow. Raises Refused
        `unimplemented` where the relay does not push.
        """
        request = self.request("subscribe")
        request.recipientKey = bytes(self._own)
        request.after = after
        request.sink = self._export(ParcelSink, _Sink(subscriber))
        check(await self.send(request))

    async def set_delivery_tokens(self, tokens: OwnTokens) -> None:
        """From now on these, and no others, open our mailbox."""
        request = self.request("setDeliveryTokens")
        request.hashes = list(tokens.hashes)
        request.optional = tokens.optional
        check(await self.send(request))

    # Meetings

    async def observe_address(self) -> Address:
        """Where the relay sees us."""
        answer = await self.send(self.request("observeAddress"))
        with blaming_the_peer("relay-answer"):
            check(answer)
            [address] = read_addresses([answer.address])
            return address

    async def rendezvous(
        self, device: DeviceKey, addresses: Sequence[Address]
    ) -> tuple[Address, ...]:
        """Have `device` dial us at these addresses: where it is. RelayRefused `not-here`."""
        request = self.request("rendezvous")
        request.peerKey = bytes(device)
        fill_addresses(request, addresses)
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            return read_addresses(answer.addresses)

    # Key packages

    async def upload_key_package(self, suite: int, package: bytes, *, last_resort: bool) -> int:
        """How many of this suite the relay holds for us now."""
        request = self.request("uploadKeyPackage")
        request.identityKey = bytes(self._own)
        request.suite = suite
        request.package = package
        request.lastResort = last_resort
        answer = await self.send(request)
        check(answer)
        return int(answer.stock)

    async def fetch_key_package(
        self, device: DeviceKey, suite: int, request_id: bytes
    ) -> tuple[bytes, bool]:
        """A KeyPackage of `device`, used up unless the second part says last resort."""
        request = self.request("fetchKeyPackage")
        request.identityKey = bytes(device)
        request.suite = suite
        request.requestId = request_id
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            return sized(answer.package, wire.KEY_PACKAGE), bool(answer.lastResort)

    # Blobs

    async def upload_blob(self, blob: BlobId, offset: int, chunk: bytes, total: int) -> int:
        """How many bytes the relay has of ours; an empty chunk asks. At `total` others may read it.

        RelayRefused `blob-mismatch`: the bytes were not those of the id, and are gone.
        """
        request = self.request("uploadBlob")
        request.blob = bytes(blob)
        request.offset = offset
        request.chunk = chunk
        request.total = total
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            received = counter(answer.received)
        if received > total:
            raise Malformed("malformed-relay-answer", "the relay has more than there is")
        return received

    async def download_blob(self, blob: BlobId, offset: int) -> tuple[bytes, int]:
        """(bytes from `offset`, at most BLOB_CHUNK, the length of all); nobody has checked them.

        RelayRefused `not-found`.
        """
        request = self.request("downloadBlob")
        request.blob = bytes(blob)
        request.offset = offset
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            check(answer)
            return sized(answer.chunk, wire.BLOB_CHUNK), counter(answer.total)

    # Keys and records

    async def upload_hybrid_key(self, hybrid_key: bytes, signature: bytes) -> None:
        request = self.request("uploadHybridKey")
        request.identityKey = bytes(self._own)
        request.hybridKey = hybrid_key
        request.signature = signature
        check(await self.send(request))

    async def holds_hybrid_key(self, device: DeviceKey) -> bool:
        request = self.request("fetchHybridKey")
        request.identityKey = bytes(device)
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            if _missing(answer):
                return False
            exactly(answer.key.hybridKey, HYBRID_KEY_LENGTH)
            exactly(answer.key.signature, SIGNATURE_LENGTH)
            return True

    async def publish_bundle(self, core: Signed) -> None:
        request = self.request("publishBundle")
        fill_signed(request.init("bundle"), core)
        check(await self.send(request))

    async def resolve_identity(self, identity: IdentityKey) -> Signed | None:
        """The bundle that the relay holds of a person; nobody has checked it."""
        request = self.request("resolveIdentity")
        request.identity = bytes(identity)
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            return None if _missing(answer) else read_signed(answer.bundle, wire.BUNDLE)

    async def publish_relay_statement(self, statement: Signed) -> None:
        request = self.request("relayStatement")
        request.identity = statement.signer
        fill_signed(request.init("statement"), statement)
        check(await self.send(request))

    async def relay_statement(self, identity: IdentityKey) -> Signed | None:
        """Where a person reads their mail, by what the relay holds; nobody has checked it."""
        request = self.request("relayStatement")
        request.identity = bytes(identity)
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            if _missing(answer):
                return None
            return read_signed(answer.statement, wire.RELAY_STATEMENT)

    async def publish_endpoint(self, record: Signed) -> None:
        request = self.request("publishEndpoint")
        request.identityKey = bytes(self._own)
        fill_signed(request.init("record"), record)
        check(await self.send(request))

    async def resolve_endpoint(self, device: DeviceKey) -> Signed | None:
        """The endpoint record that the relay holds of a device; nobody has checked it."""
        request = self.request("resolveEndpoint")
        request.identityKey = bytes(device)
        answer = await self.send(request)
        with blaming_the_peer("relay-answer"):
            return None if _missing(answer) else read_signed(answer.record, wire.ENDPOINT_RECORD)

    async def send(self, request: Any) -> Any:
        """The results; their `error` is for `check`, unless the process is about to end: then it
        is gone, and the relay has not said no."""
        try:
            answer = await self._answer(request)
            error = _error(answer)
            if error is not None and error.code == _DRAINING:
                raise Unreachable(_DRAINING, error.message)
            return answer
        except (ConnectionLost, Unreachable):
            # A relay that does not answer is dialled anew, or backed off; see RelayPool.
            self.connection.close_now(CloseCode.NORMAL, "a call was not answered")
            raise

    async def _answer(self, request: Any) -> Any:
        """Waits while the relay gives signs of life: one that was killed, and may be back already,
        is silent for as long as the call may take."""
        call = asyncio.ensure_future(request.send())
        try:
            while not (await asyncio.wait({call}, timeout=self._limits.doubt_s))[0]:
                if self._loop.time() - self.connection.last_heard_at >= self._limits.doubt_s:
                    await self.connection.ping(self._limits.relay_proof_s)
            return await call
        finally:
            if not call.done():
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

    def request(self, method: str, access_token: bytes | None = None) -> Any:
        """A method's parameters, to be filled, with our Auth; None: the relay's own token."""
        request = getattr(self._service, f"{method}_request")()
        token = self._access_token() if access_token is None else access_token
        fill_auth(request.init("auth"), self._own, token)
        return request


class _Sink:
    """What the relay calls."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    async def parcels_context(self, context: Any) -> None:
        with blaming_the_peer("relay-push"):
            parcels = read_parcels(context.params)
        await self._subscriber.take(parcels)

    async def observed_context(self, context: Any) -> None:
        with blaming_the_peer("relay-push"):
            [address] = read_addresses([context.params.address])
        self._subscriber.observed(address)

    async def meet_context(self, context: Any) -> None:
        with blaming_the_peer("relay-push"):
            device, addresses = read_meet(context.params)
        fill_addresses(context.results, await self._subscriber.meet(device, addresses))


def _error(answer: Any) -> ErrorFrame | None:
    with blaming_the_peer("relay-answer"):
        error = read_error(answer.error)
    return error if error.code else None


def check(answer: Any) -> None:
    """Raises RelayRefused for a result that is an error."""
    error = _error(answer)
    if error is not None:
        raise RelayRefused.of(error)


def _missing(answer: Any) -> bool:
    """The relay has no such thing; any other error is raised."""
    error = _error(answer)
    if error is not None and error.code != _NOT_FOUND:
        raise RelayRefused.of(error)
    return error is not None
