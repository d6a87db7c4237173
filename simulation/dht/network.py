"""An internet of DHT nodes in virtual time: who answers whom, after how long, for how many bytes.

It stands where QUIC stands otherwise (`discovery/dht/quic.py`), with the same limits: the first
request to somebody costs a handshake, a connection is kept for a while, dials that nobody answers
are budgeted.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from discovery.dht.contact import DhtContact
from discovery.dht.dial_budget import DialBudget
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS
from discovery.dht.rpc import Asker
from schemas.addresses import Address
from schemas.dht import (
    Contacts,
    DhtError,
    DhtResponse,
    FindNode,
    FindValue,
    Store,
    Stored,
    ToldContact,
    Values,
)
from schemas.errors import Blame, Malformed, Refused, Unreachable
from schemas.ids import DeviceKey, DhtId
from schemas.records import Signed
from simulation.dht.sizes import HANDSHAKE_BYTES, UNANSWERED_BYTES, exchange_bytes

MAINTENANCE: Final = "maintenance"
PUBLISHING: Final = "publishing"
LOOKUPS: Final = "look-ups"
PURPOSES: Final = (MAINTENANCE, PUBLISHING, LOOKUPS)

NAT_S: Final = 120.0  # for so long a NAT lets those in whom somebody behind it has dialled

Request = FindNode | FindValue | Store
Answer = Callable[[Asker, Request], DhtResponse]

purpose: ContextVar[str] = ContextVar("purpose", default=PUBLISHING)
"""What the requests of this task are for, unless they keep a routing table."""


@dataclass(slots=True)
class Host:
    """A machine that is online. `behind_nat`: only those reach it whom it dialled just before."""

    name: str
    device: DeviceKey
    address: Address
    answer: Answer
    behind_nat: bool = False
    dialled: dict[str, float] = field(default_factory=dict)  # host -> when

    def lets_in(self, asker: Address, now: float) -> bool:
        return not self.behind_nat or now - self.dialled.get(asker.host, -math.inf) < NAT_S


class Network:
    """`digest` covers every request: who asked whom for what, when."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency_s: float) -> None:
        self.loop = loop
        self.latency_s = latency_s
        self.hosts: dict[Address, Host] = {}
        self.requests: Counter[str] = Counter()  # by purpose
        self.bytes: Counter[str] = Counter()
        self.carried = 0
        self._log = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._log.copy().hexdigest()

    def note(self, line: str) -> None:
        self._log.update(f"{self.loop.time():.6f} {line}\n".encode())

    def join(self, host: Host) -> None:
        self.hosts[host.address] = host

    def leave(self, host: Host) -> None:
        """It is silent from now on, as after a power cut."""
        del self.hosts[host.address]

    def reaches(self, asker: Address, contact: DhtContact) -> bool:
        """Whether whoever is at `contact` would answer somebody at `asker` now."""
        host = self.hosts.get(contact.address)
        return (
            host is not None
            and host.device == contact.device
            and host.lets_in(asker, self.loop.time())
        )


class NetworkRpc:
    """An `rpc.Rpc` for one host while it is online."""

    def __init__(self, network: Network, host: Host, nobody: DeviceKey) -> None:
        """`nobody`: the throw-away key under which it looks up and stores."""
        self._network = network
        self._host = host
        self._limits = DEFAULT_QUIC_LIMITS
        self._budget = DialBudget(self._limits)
        self._used: dict[tuple[bool, DhtContact], float] = {}  # connection -> last request
        self._as_device = Asker(host.device, host.address)
        self._as_nobody = Asker(nobody, Address(host.address.host, host.address.port + 1))

    async def find_node(
        self, contact: DhtContact, target: DhtId, *, announce: bool
    ) -> Sequence[ToldContact]:
        response = await self._ask(contact, FindNode(target, announce), announce)
        if not isinstance(response, Contacts):
            raise Malformed("wrong-answer", "an answer to another question")
        return response.contacts

    async def find_value(self, contact: DhtContact, key: DhtId) -> Values:
        response = await self._ask(contact, FindValue(key))
        if not isinstance(response, Values):
            raise Malformed("wrong-answer", "an answer to another question")
        return response

    async def store(self, contact: DhtContact, key: DhtId, value: Signed) -> None:
        response = await self._ask(contact, Store(key, value))
        if not isinstance(response, Stored):
            raise Malformed("wrong-answer", "an answer to another question")

    async def _ask(
        self, contact: DhtContact, request: Request, announce: bool = False
    ) -> DhtResponse:
        network, now = self._network, self._network.loop.time()
        connection = (announce, contact)
        known = now - self._used.get(connection, -math.inf) < self._limits.idle_s
        if not known and not self._budget.take(contact.address, now):
            raise Unreachable("dial-budget", f"{contact.address} did not answer often enough")
        why = MAINTENANCE if announce else purpose.get()
        network.carried += 1
        network.requests[why] += 1
        network.note(f"{self._host.name} {contact.address} {type(request).__name__} {why}")
        self._host.dialled[contact.address.host] = now
        if not known and not network.reaches(self._host.address, contact):
            network.bytes[why] += UNANSWERED_BYTES
            await asyncio.sleep(self._limits.dial_s)
            raise Unreachable("no-answer", f"nobody at {contact.address}")
        response = await self._exchange(contact, request, announce, handshake=not known)
        network.bytes[why] += exchange_bytes(request, response)
        if not known:
            network.bytes[why] += HANDSHAKE_BYTES
            self._budget.answered(contact.address, network.loop.time())
        self._used[connection] = network.loop.time()
        if isinstance(response, DhtError):
            raise Refused(response.code, response.message, blame=Blame.PEER)
        return response

    async def _exchange(
        self, contact: DhtContact, request: Request, announce: bool, *, handshake: bool
    ) -> DhtResponse:
        """A request and its answer; before them, a handshake of one round trip."""
        loop, latency_s = self._network.loop, self._network.latency_s
        answered: asyncio.Future[DhtResponse] = loop.create_future()
        asker = self._as_device if announce else self._as_nobody

        def arrive() -> None:
            host = self._network.hosts.get(contact.address)
            if host is None or host.device != contact.device:  # gone meanwhile: silence
                loop.call_later(self._limits.request_s, give_up)
            else:
                loop.call_later(latency_s, come_back, host.answer(asker, request))

        def come_back(response: DhtResponse) -> None:
            if not answered.done():
                answered.set_result(response)

        def give_up() -> None:
            if not answered.done():
                answered.set_exception(Unreachable("no-answer", f"{contact.address} is gone"))

        loop.call_later(latency_s * (3 if handshake else 1), arrive)
        return await answered
