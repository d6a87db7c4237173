"""The personal node: engine, delivery and discovery composed behind one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from node.engine.commands import Command
from node.engine.values import ContactView, Event, GroupView
from node.views import (
    FetchedKeyView,
    HealthView,
    KeyHoldingView,
    PeerLinkView,
    PingView,
    RegisterView,
)
from schemas.addresses import Address
from schemas.ids import DeviceKey, GroupId, IdentityKey

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How to run a node.

    `listen` None is a command's short-lived node: any free port, not published, not advertised.
    `relays` None is as remembered; given, they are remembered. `mdns_interfaces` are local
    addresses such as 127.0.0.1; None is all.
    """

    home: Path
    listen: Address | None = None
    relays: tuple[str, ...] | None = None
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] | None = None
    relay_fallback_s: float = 1.5
    bundle_deadline_s: float = 2.0


class Node:
    """A running node. Made by `running`; ends when that context is left."""

    listen: Address  # where it is bound
    device: DeviceKey
    identity: IdentityKey
    name: str
    started_at: float  # Unix seconds
    counters: Counter[str]  # what was dropped or refused, by reason

    @classmethod
    @asynccontextmanager
    async def running(cls, config: NodeConfig) -> AsyncIterator[Node]:
        """Run the node of a home; inside `kj_loop`.

        Raises Fault `already-running`, `port-busy`, `no-account`, `database-newer`.
        """
        raise NotImplementedError
        yield cls()

    async def ask(self, command: Command[R]) -> R:
        """The engine's answer, on disk. Raises the Fault that refuses it."""
        raise NotImplementedError

    def subscribe(self) -> AbstractContextManager[AsyncIterator[Event]]:
        """Events from now on. A slow reader gets Event("lagged", {}) once, then goes on."""
        raise NotImplementedError

    async def invite(
        self, group: GroupId, people: Sequence[IdentityKey], *, admin: bool = False
    ) -> GroupView:
        """Add people to a group, with KeyPackages from their devices, else from relays.

        Raises Refused `no-key-package`, Unreachable `unreachable` (both with names), and what
        Invite raises.
        """
        raise NotImplementedError

    async def direct_group(self, identity: IdentityKey, *, suite: int | None = None) -> GroupView:
        """The one-to-one group with a person, made if there is none. Raises as `invite`."""
        raise NotImplementedError

    async def add_contact(self, card: str) -> ContactView:
        """AddContact; then tries to get the bundle. Never fails because the peer is away."""
        raise NotImplementedError

    async def ping(self, target: str) -> PingView:
        """A person, device or relay. Raises Refused `unknown-person`, Unreachable."""
        raise NotImplementedError

    async def health(self, relay: str | None = None) -> tuple[HealthView, ...]:
        """Of one relay (HOST:PORT#KEY), or all of ours."""
        raise NotImplementedError

    async def register(self) -> tuple[RegisterView, ...]:
        """Make KeyPackages and upload them to our relays, one per suite and relay."""
        raise NotImplementedError

    async def refresh_key_package(self) -> tuple[RegisterView, ...]:
        """Replace our last-resort KeyPackages at our relays."""
        raise NotImplementedError

    async def fetch_key(
        self, identity: IdentityKey, suite: int | None = None
    ) -> tuple[FetchedKeyView, ...]:
        """Take a KeyPackage of each of a person's devices from a relay."""
        raise NotImplementedError

    async def check_key(self, identity: IdentityKey) -> tuple[KeyHoldingView, ...]:
        """What relays hold for a person, without taking anything."""
        raise NotImplementedError

    async def peers(self) -> tuple[PeerLinkView, ...]:
        """Links and LAN peers, links first."""
        raise NotImplementedError

    async def drained(self, deadline_s: float) -> bool:
        """Wait until no parcel is left that has not left this node; False after `deadline_s`."""
        raise NotImplementedError
