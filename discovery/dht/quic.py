"""The DHT's requests over QUIC, by two personas: our device, and nobody in particular."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from discovery.dht.connections import Connections
from discovery.dht.contact import DhtContact
from discovery.dht.dial_budget import DialBudget
from discovery.dht.exchange import only_frame_untrusted
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS, QuicLimits
from schemas.addresses import Address
from schemas.dht import (
    DHT_ALPN,
    Contacts,
    DhtError,
    DhtRequest,
    DhtResponse,
    DialBack,
    DialedBack,
    FindNode,
    FindValue,
    Store,
    Stored,
    ToldContact,
    Values,
    decode_dht_response,
    encode_dht_request,
)
from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable
from schemas.ids import DeviceKey, DhtId
from schemas.limits import DHT_RESPONSE
from schemas.records import Signed
from transport import (
    AnonymousEndpoint,
    CloseCode,
    Connection,
    ConnectionLost,
    Endpoint,
    StreamReset,
    write_frame,
)
from transport.supervise import Supervisor

OpenAnonymous = Callable[[], Awaitable[AnonymousEndpoint]]


class QuicRpc:
    """An `rpc.Rpc`. Requests that announce us go out by the device's own endpoint; those that
    would say who looks for whom, by one that names nobody and is made anew each hour.

    `counts[reason]` says what failed; `answered` is set once anybody did. Ended by `close`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        open_anonymous: OpenAnonymous,
        *,
        limits: QuicLimits = DEFAULT_QUIC_LIMITS,
    ) -> None:
        self._open_anonymous = open_anonymous
        self._limits = limits
        self.counts: Counter[str] = Counter()
        self.answered = asyncio.Event()
        self._budget = DialBudget(limits)
        self._as_device = Connections(endpoint, self._budget, limits, self.counts)
        self._nobody: tuple[AnonymousEndpoint, Connections] | None = None
        self._nobody_since = 0.0
        self._changing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._tasks = Supervisor(lambda name: self.counts.update([f"{name}-crashed"]))

    # --- rpc.Rpc

    async def find_node(
        self, contact: DhtContact, target: DhtId, *, announce: bool
    ) -> Sequence[ToldContact]:
        by = self._as_device if announce else (await self._anonymous())[1]
        response = await self._ask(by, contact, FindNode(target, announce))
        if not isinstance(response, Contacts):
            raise self._wrong_answer()
        return response.contacts

    async def find_value(self, contact: DhtContact, key: DhtId) -> Values:
        response = await self._ask((await self._anonymous())[1], contact, FindValue(key))
        if not isinstance(response, Values):
            raise self._wrong_answer()
        return response

    async def store(self, contact: DhtContact, key: DhtId, value: Signed) -> None:
        response = await self._ask((await self._anonymous())[1], contact, Store(key, value))
        if not isinstance(response, Stored):
            raise self._wrong_answer()

    # --- besides

    async def dial_back(self, contact: DhtContact) -> DialedBack:
        """Have `contact` dial our own endpoint's address as it sees it. Raises as `rpc.Rpc`."""
        response = await self._ask(self._as_device, contact, DialBack())
        if not isinstance(response, DialedBack):
            raise self._wrong_answer()
        return response

    async def meet(self, address: Address, device: DeviceKey | None = None) -> DhtContact:
        """Whoever answers at `address` (which may be a name); with `device`, nobody else.

        From then on the key is pinned. They do not learn who we are. Raises Unreachable.
        """
        endpoint, connections = await self._anonymous()
        within_s = self._limits.dial_s
        try:
            if device is None:
                dial = endpoint.dial_unpinned(address, alpn=DHT_ALPN, deadline_s=within_s)
            else:
                dial = endpoint.dial([address], expected=device, alpn=DHT_ALPN, deadline_s=within_s)
            connection = await dial
        except Fault as fault:
            raise self._failed(f"dial-{fault.code}", fault.message) from fault
        contact = DhtContact(connection.peer, connection.remote)
        connections.adopt(connection)
        return contact

    async def close(self) -> None:
        await self._tasks.close(0)
        await self._as_device.close()
        if self._nobody is not None:
            endpoint, connections = self._nobody
            await connections.close()
            await endpoint.close()

    # --- inside

    async def _anonymous(self) -> tuple[AnonymousEndpoint, Connections]:
        """Raises Unreachable."""
        async with self._changing:
            old = self._nobody
            if old is not None and self._loop.time() - self._nobody_since < self._limits.persona_s:
                return old
            try:
                endpoint = await self._open_anonymous()
            except Fault as fault:
                raise self._failed(fault.code, fault.message) from fault
            made = Connections(endpoint, self._budget, self._limits, self.counts)
            self._nobody, self._nobody_since = (endpoint, made), self._loop.time()
            if old is not None:
                self._tasks.start(self._retire(*old), name="retire")
            return self._nobody

    async def _retire(self, endpoint: AnonymousEndpoint, connections: Connections) -> None:
        try:
            await asyncio.sleep(self._limits.retire_s)
        finally:
            await connections.close()
            await endpoint.close()

    async def _ask(self, by: Connections, contact: DhtContact, request: DhtRequest) -> DhtResponse:
        """Any response but an error. Raises as `rpc.Rpc`."""
        began = self._loop.time()
        try:
            while True:
                async with by.to(contact.device, contact.address) as connection:
                    try:
                        async with asyncio.timeout(self._deadline_s(request)):
                            response = await _exchange(connection, request)
                    except ConnectionLost:
                        if connection.opened_at < began:
                            continue  # it had ended before we asked: dialled anew, once
                        raise
                    except Malformed:
                        connection.close_now(CloseCode.PROTOCOL)
                        raise
                break
        except TimeoutError:
            raise self._failed("no-answer", f"{contact} did not answer in time") from None
        except (ConnectionLost, StreamReset) as fault:
            raise self._failed(fault.code, fault.message) from fault
        except Malformed as fault:
            self.counts[fault.code] += 1
            raise
        self.answered.set()
        if isinstance(response, DhtError):
            self.counts["refused"] += 1
            raise Refused(response.code, response.message, blame=Blame.PEER)
        return response

    def _deadline_s(self, request: DhtRequest) -> float:
        more = self._limits.dial_back_s if isinstance(request, DialBack) else 0.0
        return self._limits.request_s + more

    def _failed(self, code: str, message: str) -> Unreachable:
        self.counts[code] += 1
        return Unreachable(code, message)

    def _wrong_answer(self) -> Malformed:
        self.counts["wrong-answer"] += 1
        return Malformed("wrong-answer", "an answer to another question")


async def _exchange(connection: Connection, request: DhtRequest) -> DhtResponse:
    stream = await connection.open_stream()
    try:
        await write_frame(stream, encode_dht_request(request))
        await stream.finish()
        frame = await only_frame_untrusted(stream, DHT_RESPONSE)
    finally:
        stream.cancel()
    return decode_dht_response(frame)[0]
