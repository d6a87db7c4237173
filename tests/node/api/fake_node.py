"""A Node that answers from fixed values and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar, cast

from node import views
from node.delivery.accounts import AccountDevice
from node.delivery.dht import DhtStatus
from node.delivery.paths import DevicePaths, PathView
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine import values as v
from node.engine.relay_commands import ChangeRelays, SetRelayToken
from node.relay_accounts import RelayAccountView
from schemas.addresses import Address, RelayAddress
from schemas.errors import Refused, Unreachable
from schemas.ids import DeviceKey, EpochId, GroupId, IdentityKey, MessageId
from schemas.path_policy import PathPolicy
from schemas.records import Signed
from schemas.visibility import DhtVisibility
from telemetry.checks import Check
from transport.nat import Nat, NatFiltering, NatMapping
from transport.port_mapping import Mapped, MappingProtocol

R = TypeVar("R")

ALICE, BOB = IdentityKey(b"a" * 32), IdentityKey(b"b" * 32)
DEVICE, BOBS = DeviceKey(b"d" * 32), DeviceKey(b"e" * 32)
FRIENDS = GroupId(b"g" * 16)
MESSAGE = MessageId(b"m" * 16)
RELAY = f"192.0.2.1:7000#{DEVICE}"
CARD = "quicnprotochat:card"

MEMBERS = (
    v.MemberView(ALICE, (DEVICE,), "Alice", "admin"),
    v.MemberView(BOB, (BOBS,), "Bob", "member"),
)
GROUP = v.GroupView(
    FRIENDS,
    "friends",
    "group",
    3,
    "hybrid",
    v.GroupStatus.ACTIVE,
    True,
    None,
    MEMBERS,
    EpochId(b"x" * 32),
)
BLOCKED = v.BlockedView(BOB, "Bob", 5.0)
CONTACT = v.ContactView(BOB, (BOBS,), "Bob", False, "12345", True)
INBOX = v.MessageView(
    7, MESSAGE, FRIENDS, "friends", BOB, BOBS, "Bob", 1, "hi", 0.0, 1.5, "direct", False
)


def _find(text: str, known: dict[str, R], code: str) -> R:
    try:
        return known[text]
    except KeyError:
        raise Refused(code, f"nobody knows {text!r}", hint="look at the list") from None


class FakeAccounts:
    """Of one account at one relay."""

    async def register(self, name: str, password: bytes, relay: str | None, tokens: Any) -> Any:
        return RelayAccountView(name, relay or RELAY, 5.0)

    async def login(self, name: str, password: bytes, relay: str | None) -> Any:
        return RelayAccountView(name, relay or RELAY, 5.0)

    async def devices(self, relay: str | None) -> Any:
        return RelayAddress.parse(RELAY), [AccountDevice(DEVICE, "laptop", 1)]

    async def revoke(self, device: DeviceKey, relay: str | None) -> RelayAddress:
        return RelayAddress.parse(RELAY)

    async def delete(self, relay: str | None) -> Any:
        return "alice", RelayAddress.parse(RELAY)


class FakeNode:
    """`answers` overrides what a command answers; a Fault in it is raised."""

    listen = Address("192.0.2.9", 7000)
    device = DEVICE
    started_at = 0.0
    counters: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answers: dict[type, Any] = {
            c.WhoAmI: v.AccountView(ALICE, DEVICE, "Alice", CARD, "111", (RELAY,), ("h:1",)),
            c.ListContacts: (CONTACT,),
            c.VerifyContact: CONTACT,
            c.SetName: None,
            c.ListBlocked: (BLOCKED,),
            c.Block: BLOCKED,
            c.Unblock: BLOCKED,
            c.ListGroups: (GROUP,),
            c.ExamineGroup: (Check("membership", True, "a member"),),
            c.CreateGroup: GROUP,
            c.Join: GROUP,
            c.Leave: GROUP,
            c.RemoveMember: GROUP,
            c.UpdateKey: GROUP,
            c.ListRequests: (v.RequestView(FRIENDS, "friends", "group", BOB, "Bob", True),),
            c.Send: v.SentView(MESSAGE, FRIENDS, "queued"),
            c.ReadMessages: (INBOX,),
            c.ReadHistory: (INBOX,),
            r.SetRelays: None,
            ChangeRelays: None,
            SetRelayToken: None,
            c.MoveCursor: None,
            c.ReadLedger: (
                v.LedgerView(BOB, BOBS, "Bob", v.State.HELD, "relay", RELAY, 9.0, 2.0, None),
            ),
            c.TakeBackup: b"everything",
            d.PendingCount: 0,
            c.ListPathPolicies: (v.PolicyView(None, "", PathPolicy.AUTO),),
            c.PathPolicyOf: v.PolicyView(BOB, "Bob", PathPolicy.LAN_ONLY),
            c.SetPathPolicy: v.PolicyView(BOB, "Bob", PathPolicy.RELAY_ONLY),
            c.DevicesOf: (BOBS,),
            d.OwnRecords: (Signed(b"bundle", bytes(32), bytes(64)), None),
            d.AnswerKeyPackage: b"package",
            d.ReadOutbox: (),
            c.Why: (v.WhyView(BOB, BOBS, "Bob", v.State.QUEUED, "Bob is away.", "Wait."),),
        }
        self.queues: list[asyncio.Queue[v.Event]] = []
        self.hold: asyncio.Event | None = None

    async def ask(self, command: c.Command[R]) -> R:
        self.asked.append(command)
        if isinstance(command, c.FindPerson):
            return cast(R, _find(command.text, {"Bob": BOB, BOB.hex(): BOB}, "unknown-person"))
        if isinstance(command, c.FindGroup):
            return cast(R, _find(command.text, {"friends": GROUP, "a/b ü": GROUP}, "unknown-group"))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers[type(command)]
        if isinstance(answer, Exception):
            raise answer
        return cast(R, answer)

    @contextmanager
    def subscribe(self) -> Iterator[AsyncIterator[v.Event]]:
        queue: asyncio.Queue[v.Event] = asyncio.Queue()
        self.queues.append(queue)

        async def events() -> AsyncIterator[v.Event]:
            while True:
                yield await queue.get()

        try:
            yield events()
        finally:
            self.queues.remove(queue)

    def tell(self, event: v.Event) -> None:
        for queue in self.queues:
            queue.put_nowait(event)

    async def invite(
        self,
        group: GroupId,
        people: Sequence[IdentityKey],
        *,
        admin: bool = False,
        again: bool = False,
    ) -> v.GroupView:
        self.asked.append(("invite", group, tuple(people), admin, again))
        return GROUP

    async def direct_group(self, identity: IdentityKey, *, suite: int | None = None) -> v.GroupView:
        self.asked.append(("direct_group", identity, suite))
        return GROUP

    async def add_contact(self, card: str) -> v.ContactView:
        self.asked.append(("add_contact", card))
        return CONTACT

    async def ping(self, target: str) -> views.PingView:
        if target == "away":
            raise Unreachable("unreachable", "no answer", hint="wait")
        return views.PingView(BOBS, 1.23456, "direct")

    async def health(self, relay: str | None = None) -> tuple[views.HealthView, ...]:
        return (views.HealthView(relay or RELAY, "ok", "0.1", 12, None),)

    async def relays(self) -> tuple[views.RelayView, ...]:
        return (views.RelayView(RELAY, 1, "connected", None, None),)

    @property
    def relay_accounts(self) -> Any:
        return FakeAccounts()

    async def register(self) -> tuple[views.RegisterView, ...]:
        return (views.RegisterView(DEVICE, "ff", RELAY, "hybrid", 20),)

    async def refresh_key_package(self) -> tuple[views.RegisterView, ...]:
        return await self.register()

    async def fetch_key(
        self, identity: IdentityKey, suite: int | None = None
    ) -> tuple[views.FetchedKeyView, ...]:
        return (views.FetchedKeyView(identity, BOBS, "ff", RELAY, "hybrid", False),)

    async def check_key(self, identity: IdentityKey) -> tuple[views.KeyHoldingView, ...]:
        return (views.KeyHoldingView(identity, BOBS, RELAY, 2, True, False),)

    async def peers(self) -> tuple[views.PeerLinkView, ...]:
        return (views.PeerLinkView(BOBS, None, "Bob", ("h:1",), "mdns", False, None, None, None),)

    async def paths(self, identity: IdentityKey) -> tuple[DevicePaths, ...]:
        way = PathView(BOBS, "h:1", "lan", "mdns", 1.0, "answered", 2.0, True, 0.51234)
        return (DevicePaths(BOBS, PathPolicy.AUTO, "Linked.", (way,)),)

    def dht_status(self) -> DhtStatus | None:
        return DhtStatus(12, True, 3, 1, DhtVisibility.PRIVATE, 1.5, 10)

    async def look_up(self, target: str, token: str) -> tuple[PathView, ...]:
        self.asked.append(("look_up", target, token))
        return (PathView(BOBS, "h:1", "lan", "dht", 1.0, None, None, False, None),)

    async def network(self, deadline_s: float) -> views.NetworkView:
        return views.NetworkView(
            Address("0.0.0.0", 7000),
            Nat(NatMapping.UNKNOWN, NatFiltering.UNKNOWN, None, 0, 0, 0),
            ("192.168.7.2",),
            True,
            Mapped(Address("11.0.0.2", 7000), MappingProtocol.PCP, "192.168.7.1", 0.0),
            1,
            1,
            True,
            None,
        )

    async def looked(self, deadline_s: float) -> None:
        self.asked.append("looked")

    async def drained(self, deadline_s: float) -> bool:
        return True


OnLoop = Callable[[Callable[[], object]], None]
