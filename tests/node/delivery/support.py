"""What delivery's tests share: an engine that only remembers, nodes around it, raw peers."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.scope import NetworksNow, networks_now
from identity.bundle import bundle_device, bundle_hash, sign_bundle
from identity.credential import issue_credential, verify_credential_untrusted
from identity.envelope import generate_hybrid, open_untrusted
from identity.keys import device_from_seed, identity_from_seed, new_seed
from identity.relay_statement import sign_relay_statement
from identity.signing import prefixed
from node.delivery.config import DeliveryConfig
from node.delivery.delivery import Delivery, open_delivery
from node.delivery.limits import DeliveryLimits
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine import values as v
from node.engine_thread import EngineThread
from relay.config import RelayConfig, load_config
from relay.server import Relay, open_relay
from schemas import limits as wire
from schemas.addresses import Address, RelayAddress
from schemas.errors import Fault, Refused
from schemas.frames import (
    MEET,
    P2P_ALPN,
    BundleResponse,
    Frame,
    Hello,
    decode_frame,
    encode_frame,
)
from schemas.ids import DeviceKey, IdentityKey, ParcelId
from schemas.parcels import unpad
from schemas.path_policy import PathPolicy
from schemas.records import BundleCore, Signed, SignedType
from transport import Address as TransportAddress
from transport import Connection, Endpoint, FrameStream, TransportLimits

T = TypeVar("T")

LOOPBACK = Address("127.0.0.1", 0)
QUICK = DeliveryLimits(
    hello_deadline_s=0.5,
    retire_quiet_s=0.1,
    poll_s=0.05,
    redial_first_s=0.2,
    ping_deadline_s=1.0,
    request_burst=5,
)
QUICK_TRANSPORT = TransportLimits(
    idle_timeout_s=2.0, keep_alive_s=0.5, dial_deadline_s=1.0, close_grace_s=0.2
)


async def within(work: Awaitable[T], seconds: float = 10.0) -> T:
    """Wait for an event with a deadline; a test that hangs says where."""
    async with asyncio.timeout(seconds):
        return await work


async def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for state that no event announces."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Answered:
    answers: tuple[object, ...]
    effects: tuple[v.Effect, ...]
    wake_at: float | None = None


@dataclass
class Known:
    """What a fake engine has been told of a device."""

    identity: IdentityKey | None = None
    hints: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    tokens: tuple[bytes, ...] = ()


class FakeEngine:
    """Remembers what it is asked, and answers by a few rules that tests can change.

    `gate`, when cleared, holds every commit, as a slow disk would.
    """

    def __init__(self) -> None:
        self.device = device_from_seed(new_seed())
        self.identity = identity_from_seed(new_seed())
        self.hybrid = generate_hybrid()
        entry = bundle_device(
            self.identity.public, self.device, "fake", self.hybrid.public, issued=0
        )
        self.core = BundleCore(self.identity.public, 1, "fake", (entry,), ())
        self.bundle = sign_bundle(self.identity, self.core)
        self.gate = threading.Event()
        self.gate.set()
        self.verdict: Callable[[d.Arrived], v.Verdict] = lambda arrived: v.Accepted()
        self.known: dict[DeviceKey, Known] = defaultdict(Known)
        self.bundles: dict[IdentityKey, Signed] = {}
        self.due: dict[DeviceKey, dict[ParcelId, v.OutboxItem]] = defaultdict(dict)
        self.out: dict[ParcelId, v.OutboxItem] = {}
        self.outcomes: dict[ParcelId, list[d.Outcome]] = defaultdict(list)
        self.arrived: list[d.Arrived] = []
        self.asked: list[c.Command[Any]] = []
        self.linked: Counter[DeviceKey] = Counter()
        self.summaries: list[tuple[DeviceKey, Signed]] = []
        self.relays: tuple[str, ...] = ()
        self.former_relays: tuple[str, ...] = ()
        self.tokens = v.OwnTokens((), optional=True)
        self.refuse: dict[type, Fault] = {}
        self.versions: tuple[int, ...] = (1,)
        self.introducers: tuple[DeviceKey, ...] = ()
        self.policy = PathPolicy.AUTO

    @property
    def key(self) -> DeviceKey:
        return self.device.public

    def run(self, batch: Sequence[c.Command[Any]], now: float) -> Answered:
        answers: list[object] = []
        effects: list[v.Effect] = []
        for command in batch:
            self.asked.append(command)
            refusal = self.refuse.get(type(command))
            answers.append(refusal or self._answer(command, effects))
        self.gate.wait(10)
        return Answered(tuple(answers), tuple(effects))

    def _answer(self, command: c.Command[Any], effects: list[v.Effect]) -> object:
        match command:
            case d.OwnHello(observed):
                return self.hello(observed)
            case d.LinkUp(device, hello):
                verify_credential_untrusted(device, hello.credential)
                self.linked[device] += 1
                if hello.credential[:32] not in self.bundles:
                    return d.BundleWish(IdentityKey(hello.credential[:32]), 0)
                return None
            case d.LinkDown(device):
                self.linked[device] = 0
            case d.Retry(device):
                if self.due[device]:
                    effects.append(v.OutboxReady(frozenset([device])))
            case d.Arrived():
                self.arrived.append(command)
                return self.verdict(command)
            case d.TakeDue(recipient, limit):
                taken = list(self.due[recipient].values())[:limit]
                for item in taken:
                    del self.due[recipient][item.parcel]
                    self.out[item.parcel] = item
                return tuple(
                    dataclasses.replace(item, hybrid_key=self.hybrid_key_of(recipient))
                    if item.hybrid_key is None
                    else item
                    for item in taken
                )
            case d.ReportOutcomes(outcomes):
                for outcome in outcomes:
                    self._report(outcome, effects)
            case d.LookUpPeer(device):
                known = self.known[device]
                return v.PeerView(
                    device,
                    known.identity,
                    "",
                    None,
                    known.hints,
                    known.relays,
                    self.policy,
                    tokens=known.tokens,
                )
            case d.PeersToGreet():
                return ()
            case d.Introducers():
                return self.introducers
            case d.Acquainted(device):
                return self.known[device].identity is not None
            case c.WhoAmI():
                return v.AccountView(
                    self.identity.public, self.key, "fake", "", "", self.relays, ()
                )
            case r.FollowRelay(relay):
                followed = RelayAddress.parse(relay)
                self.relays = tuple(
                    relay if RelayAddress.parse(each).device == followed.device else each
                    for each in self.relays
                )
                effects.append(v.BundleChanged())
            case d.SetEndpoint():
                return self.bundle
            case d.OwnRecords():
                return self.bundle, None
            case r.OwnRelayStatement():
                return sign_relay_statement(self.identity, self.core)
            case r.ListFormerRelays():
                return tuple(r.FormerRelayView(relay, 0.0, 0.0) for relay in self.former_relays)
            case r.ReadRelayTokens():
                return {}
            case r.FormerRelayEmpty() | r.ReceiveRelayStatement():
                return False
            case d.OwnDeliveryTokens():
                return self.tokens
            case d.OwnHybridKey():
                covered = prefixed(SignedType.HYBRID_KEY, self.hybrid.public)
                return self.hybrid.public, self.device.sign(covered)
            case d.MakeKeyPackage(suite):
                return b"package %d %d" % (suite, len(self.asked)), b"ref"
            case d.AnswerKeyPackage(_, suite, request_id):
                return b"package %d " % suite + request_id
            case d.AnswerBundle(identity, newer_than):
                mine = identity == self.identity.public and newer_than < 1
                return BundleResponse(self.bundle if mine else None, ())
            case d.ReceiveBundle(core):
                if core is not None:
                    self.bundles[BundleCore.decode(core.payload).identity] = core
            case d.KnownNumber(identity):
                return 1 if identity in self.bundles else 0
            case d.ReceiveSummary(device, summary):
                self.summaries.append((device, summary))
            case d.PendingCount():
                return len(self.out) + sum(map(len, self.due.values()))
            case c.Tick():
                pass
            case _:
                return Refused("not-faked", f"{command!r}")
        return None

    def _report(self, outcome: d.Outcome, effects: list[v.Effect]) -> None:
        item = self.out.pop(outcome.parcel, None)
        assert item is not None, f"an outcome for a parcel that is not out: {outcome}"
        self.outcomes[outcome.parcel].append(outcome)
        final = outcome.acked or outcome.held or outcome.refused
        if not final and outcome.retry_after_s == 0.0:
            self.due[item.recipient][item.parcel] = item
            effects.append(v.OutboxReady(frozenset([item.recipient])))

    def hybrid_key_of(self, device: DeviceKey) -> bytes | None:
        for signed in self.bundles.values():
            for entry in BundleCore.decode(signed.payload).devices:
                if entry.key == device:
                    return entry.hybrid_key
        return None

    def hello(self, observed: str) -> Hello:
        credential = issue_credential(self.identity, self.key)
        return Hello(
            credential,
            1,
            bundle_hash(self.bundle),
            0,
            observed,
            versions=self.versions,
            features=(MEET,),
        )

    def open(self, arrived: d.Arrived) -> bytes:
        return unpad(open_untrusted(self.hybrid, arrived.parcel.sealed))

    def count(self, kind: type) -> int:
        return sum(isinstance(command, kind) for command in self.asked)


@dataclass
class FakeNode:
    """A fake engine on its thread, with real delivery around it."""

    engine: FakeEngine
    thread: EngineThread[FakeEngine]
    delivery: Delivery
    bodies: int = field(default=0)

    @property
    def address(self) -> TransportAddress:
        return self.delivery.endpoint.address

    def knows(
        self, other: FakeEngine, *, at: str | None = None, relays: Sequence[str] = ()
    ) -> None:
        self.engine.known[other.key] = Known(
            other.identity.public, () if at is None else (at,), tuple(relays)
        )

    def meets(self, other: FakeNode) -> None:
        self.knows(other.engine, at=str(other.address))

    def post(
        self, to: FakeEngine, count: int = 1, *, keyless: bool = False, size: int = 100
    ) -> list[ParcelId]:
        """Parcels for a device, due now."""
        parcels = []
        for _ in range(count):
            self.bodies += 1
            parcel = ParcelId(self.engine.key[:8] + self.bodies.to_bytes(8, "big"))
            body = b"body %d " % self.bodies + bytes(size)
            key = None if keyless else to.hybrid.public
            self.engine.due[to.key][parcel] = v.OutboxItem(parcel, to.key, body, key, 2**37)
            parcels.append(parcel)
        self.delivery.couriers.wake([to.key])
        return parcels

    async def outcomes(self, parcels: Sequence[ParcelId], seconds: float = 10.0) -> list[d.Outcome]:
        """The one final outcome of each, when all are there."""
        await eventually(lambda: all(self.engine.outcomes[p] for p in parcels), seconds)
        return [self.engine.outcomes[parcel][-1] for parcel in parcels]


async def linked(a: FakeNode, b: FakeNode) -> None:
    """A dials b; neither has anything more to ask, so a gate cleared now holds what comes."""
    a.meets(b)
    assert await within(a.delivery.dialer.reach(b.engine.key, 5.0)) is not None
    await eventually(lambda: b.delivery.links.get(a.engine.key))
    await eventually(lambda: b.engine.identity.public in a.engine.bundles)
    await eventually(lambda: a.engine.identity.public in b.engine.bundles)


class FakeNodes:
    """Opens fake nodes that are closed at the end of the test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def __call__(self, **options: Any) -> FakeNode:
        return await self._stack.enter_async_context(fake_node(**options))


@asynccontextmanager
async def fake_node(
    *,
    engine: FakeEngine | None = None,
    limits: DeliveryLimits = QUICK,
    listen: Address = LOOPBACK,
    transport_limits: TransportLimits = QUICK_TRANSPORT,
    networks: NetworksNow = networks_now,
    announce: Callable[[v.Event], None] = lambda event: None,
    **changes: Any,
) -> AsyncIterator[FakeNode]:
    made = FakeEngine() if engine is None else engine
    early: list[v.Effect] = []
    deliveries: list[Delivery] = []

    @contextmanager
    def opened() -> Iterator[FakeEngine]:
        yield made

    def on_effect(effect: v.Effect) -> None:
        if deliveries:
            deliveries[0].on_effect(effect)
        else:
            early.append(effect)

    thread: EngineThread[FakeEngine] = EngineThread(opened, on_effect)
    await thread.start()
    try:
        config = DeliveryConfig(
            listen,
            mdns=False,
            limits=dataclasses.replace(limits, **changes),
            transport_limits=transport_limits,
            networks=networks,
        )
        async with open_delivery(
            made.device, thread.ask, config, counters=Counter(), announce=announce
        ) as delivery:
            deliveries.append(delivery)
            for effect in early:
                delivery.on_effect(effect)
            yield FakeNode(made, thread, delivery)
            made.gate.set()
        assert not made.out, f"parcels without an outcome: {made.out}"
    finally:
        await thread.stop()
    crashed = {k: n for k, n in (delivery.counters + thread.counters).items() if "crash" in k}
    assert not crashed


class RawPeer:
    """A peer that says whatever a test wants, byte by byte."""

    def __init__(self, endpoint: Endpoint, engine: FakeEngine) -> None:
        self.endpoint = endpoint
        self.engine = engine

    async def dial(self, node: FakeNode) -> Connection:
        return await within(
            self.endpoint.dial([node.address], expected=node.engine.key, alpn=P2P_ALPN)
        )

    async def greet(self, node: FakeNode, hello: Hello | None = None) -> RawLink:
        connection = await self.dial(node)
        frames = FrameStream(await connection.open_stream(), max_read=wire.FRAME)
        link = RawLink(connection, frames)
        await link.say(self.engine.hello("127.0.0.1:1") if hello is None else hello)
        return link


@dataclass
class RawLink:
    connection: Connection
    frames: FrameStream

    async def say(self, frame: Frame) -> None:
        await self.frames.write(encode_frame(frame))

    async def hear(self) -> Frame | None:
        payload = await within(self.frames.read())
        return None if payload is None else decode_frame(payload)


@asynccontextmanager
async def raw_peer(engine: FakeEngine | None = None) -> AsyncIterator[RawPeer]:
    made = FakeEngine() if engine is None else engine
    endpoint = await Endpoint.open(
        made.device.private,
        TransportAddress(*LOOPBACK),
        handlers={},
        limits=QUICK_TRANSPORT,
    )
    try:
        yield RawPeer(endpoint, made)
    finally:
        await endpoint.close()


async def silent_address(stack: AsyncExitStack) -> str:
    """An address where datagrams vanish."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    stack.callback(transport.close)
    return "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])


class Relays:
    """Real relays on loopback, closed at the end of the test."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.folder = folder
        self.stack = stack

    async def __call__(self, name: str = "relay", **changes: Any) -> Relay:
        config = dataclasses.replace(relay_config(self.folder / name), **changes)
        return await self.stack.enter_async_context(open_relay(config, limits=QUICK_TRANSPORT))


def relay_config(folder: Path, listen: str = "127.0.0.1:0") -> RelayConfig:
    return load_config({"listen": listen, "data_dir": str(folder)}, {}, None)


def stranger() -> DeviceKey:
    return DeviceKey(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
