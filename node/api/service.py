"""What each operation of the table does with the node."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from identity.sealed_file import normalised
from node.api import convert
from node.api import network_shapes as ns
from node.api import operations as op
from node.api import relay_shapes as rs
from node.api import shapes as s
from node.api.relay_service import RelayNode, relay_handlers
from node.backup_file import write_backup
from node.by_hand import export_parcels, import_parcels
from node.delivery.dht import DhtStatus
from node.delivery.paths import DevicePaths, PathView
from node.engine import commands as c
from node.engine import relay_commands as r
from node.engine.values import ContactView, Event, GroupView
from node.views import (
    FetchedKeyView,
    KeyHoldingView,
    NetworkView,
    PeerLinkView,
    PingView,
    RegisterView,
)
from schemas.addresses import Address, RelayAddress
from schemas.card import PREFIX as CARD_PREFIX
from schemas.errors import Refused
from schemas.ids import GroupId, IdentityKey

R = TypeVar("R")

VERSION: Final = version("quicnprotochat")
LOOK_S: Final = 3.0  # for relays to answer a command that wants to know what is there


class ServedNode(RelayNode, Protocol):
    """What the API needs of a Node."""

    @property
    def listen(self) -> Address: ...
    @property
    def started_at(self) -> float: ...
    @property
    def counters(self) -> Mapping[str, int]: ...
    def subscribe(self) -> AbstractContextManager[AsyncIterator[Event]]: ...
    async def invite(
        self,
        group: GroupId,
        people: Sequence[IdentityKey],
        *,
        admin: bool = False,
        again: bool = False,
    ) -> GroupView: ...
    async def direct_group(
        self, identity: IdentityKey, *, suite: int | None = None
    ) -> GroupView: ...
    async def add_contact(self, card: str) -> ContactView: ...
    async def ping(self, target: str) -> PingView: ...
    async def register(self) -> tuple[RegisterView, ...]: ...
    async def refresh_key_package(self) -> tuple[RegisterView, ...]: ...
    async def fetch_key(
        self, identity: IdentityKey, suite: int | None = None
    ) -> tuple[FetchedKeyView, ...]: ...
    async def check_key(self, identity: IdentityKey) -> tuple[KeyHoldingView, ...]: ...
    async def peers(self) -> tuple[PeerLinkView, ...]: ...
    async def network(self, deadline_s: float) -> NetworkView: ...
    async def paths(self, identity: IdentityKey) -> tuple[DevicePaths, ...]: ...
    def dht_status(self) -> DhtStatus | None: ...
    async def look_up(self, target: str, token: str) -> tuple[PathView, ...]: ...
    async def looked(self, deadline_s: float) -> None: ...
    async def drained(self, deadline_s: float) -> bool: ...


class Service:
    """Answers operations from one node. `lasting`: it runs until told to end."""

    def __init__(self, node: ServedNode, *, lasting: bool) -> None:
        self.node = node
        self._lasting = lasting
        self._handlers: dict[str, Callable[[Any], Awaitable[Any]]] = {
            op.NODE.name: self.status,
            op.WHOAMI.name: self.whoami,
            op.SET_NAME.name: self.set_name,
            op.BACK_UP.name: self.back_up,
            op.SET_RELAYS.name: self.set_relays,
            op.REGISTER.name: self.register,
            op.REFRESH_KEY_PACKAGE.name: self.refresh_key_package,
            op.FETCH_KEY.name: self.fetch_key,
            op.CHECK_KEY.name: self.check_key,
            op.LOOK.name: self.look,
            op.PEERS.name: self.peers,
            op.NETWORK.name: self.network,
            op.PATHS.name: self.paths,
            op.DHT.name: self.dht,
            op.DHT_LOOKUP.name: self.dht_lookup,
            op.POLICIES.name: self.policies,
            op.SET_POLICY.name: self.set_policy,
            op.PING.name: self.ping,
            op.CONTACTS.name: self.contacts,
            op.ADD_CONTACT.name: self.add_contact,
            op.VERIFY_CONTACT.name: self.verify_contact,
            op.BLOCKED.name: self.blocked,
            op.BLOCK.name: self.block,
            op.UNBLOCK.name: self.unblock,
            op.GROUPS.name: self.groups,
            op.GROUP.name: self.group,
            op.EXAMINE_GROUP.name: self.examine_group,
            op.CREATE_GROUP.name: self.create_group,
            op.DIRECT.name: self.direct,
            op.INVITE.name: self.invite,
            op.REQUESTS.name: self.requests,
            op.JOIN.name: self.join,
            op.LEAVE.name: self.leave,
            op.REMOVE.name: self.remove,
            op.UPDATE_KEY.name: self.update_key,
            op.SEND.name: self.send,
            op.READ_MESSAGES.name: self.read_messages,
            op.HISTORY.name: self.history,
            op.MOVE_CURSOR.name: self.move_cursor,
            op.EXPORT_PARCELS.name: self.export_parcels,
            op.IMPORT_PARCELS.name: self.import_parcels,
            op.LEDGER.name: self.ledger,
            op.WHY.name: self.why,
            **relay_handlers(node),
        }

    async def answer(self, operation: op.Operation[op.Q, op.A], request: op.Q) -> op.A:
        """Raises the Fault that refuses it."""
        answer: op.A = await self._handlers[operation.name](request)
        return answer

    # --- names to ids

    async def _person(self, text: str) -> IdentityKey:
        return await self.node.ask(c.FindPerson(text))

    async def _group(self, text: str) -> GroupId:
        return (await self.node.ask(c.FindGroup(text))).group

    async def _person_or_card(self, text: str) -> IdentityKey:
        if text.strip().startswith(CARD_PREFIX):
            return (await self.node.add_contact(text)).identity
        return await self._person(text)

    async def _person_or_group(self, text: str) -> tuple[IdentityKey | None, GroupId | None]:
        """A person first: a group of two is called after the other one."""
        try:
            return await self._person_or_card(text), None
        except Refused as fault:
            if fault.code != "unknown-person":
                raise
            nobody = fault
        try:
            return None, await self._group(text)
        except Refused as fault:
            raise nobody if fault.code == "unknown-group" else fault from None

    # --- the node and its account

    async def status(self, _: s.Nothing) -> s.NodeStatus:
        return s.NodeStatus(
            pid=os.getpid(),
            lasting=self._lasting,
            version=VERSION,
            listen=str(self.node.listen),
            device=self.node.device.hex(),
            uptime_s=round(time.time() - self.node.started_at, 3),
            counters=dict(self.node.counters),
        )

    async def whoami(self, _: s.Nothing) -> s.Account:
        return convert.account(await self.node.ask(c.WhoAmI()))

    async def set_name(self, request: s.SetName) -> s.Account:
        await self.node.ask(c.SetName(request.name))
        return convert.account(await self.node.ask(c.WhoAmI()))

    async def back_up(self, request: s.BackUp) -> s.BackedUp:
        content = await self.node.ask(c.TakeBackup())
        size = await asyncio.to_thread(
            write_backup, Path(request.file), content, normalised(request.passphrase)
        )
        return s.BackedUp(file=request.file, bytes=size)

    async def set_relays(self, request: rs.SetRelays) -> s.Account:
        for relay in request.relays:
            RelayAddress.parse(relay)
        await self.node.ask(r.SetRelays(tuple(request.relays)))
        return convert.account(await self.node.ask(c.WhoAmI()))

    async def register(self, _: s.Nothing) -> list[s.Registered]:
        return [convert.registered(view) for view in await self.node.register()]

    async def refresh_key_package(self, _: s.Nothing) -> list[s.Registered]:
        return [convert.registered(view) for view in await self.node.refresh_key_package()]

    async def fetch_key(self, request: s.FetchKey) -> list[s.FetchedKey]:
        views = await self.node.fetch_key(
            await self._person_or_card(request.person), convert.SUITES.get(request.suite)
        )
        return [convert.fetched_key(view) for view in views]

    async def check_key(self, request: s.ByPerson) -> list[s.KeyHolding]:
        views = await self.node.check_key(await self._person(request.person))
        return [convert.key_holding(view) for view in views]

    # --- the network

    async def look(self, _: s.Nothing) -> s.Done:
        await self.node.looked(LOOK_S)
        return s.Done()

    async def peers(self, _: s.Nothing) -> list[ns.Peer]:
        return [convert.peer(view) for view in await self.node.peers()]

    async def network(self, _: s.Nothing) -> ns.Network:
        return convert.network(await self.node.network(LOOK_S))

    async def paths(self, request: s.ByPerson) -> list[ns.DevicePaths]:
        views = await self.node.paths(await self._person(request.person))
        return [convert.device_paths(view) for view in views]

    async def policies(self, request: ns.PoliciesOf) -> list[ns.Policy]:
        if request.person:
            of = c.PathPolicyOf(await self._person(request.person))
            return [convert.policy(await self.node.ask(of))]
        return [convert.policy(view) for view in await self.node.ask(c.ListPathPolicies())]

    async def set_policy(self, request: ns.SetPolicy) -> ns.Policy:
        if not request.person and not request.policy:
            raise Refused("bad-request", "name a person or a policy")
        identity = await self._person(request.person) if request.person else None
        command = c.SetPathPolicy(identity, convert.path_policy(request.policy))
        return convert.policy(await self.node.ask(command))

    async def dht(self, _: s.Nothing) -> ns.Dht:
        return convert.dht(self.node.dht_status())

    async def dht_lookup(self, request: ns.DhtLookup) -> list[ns.Path]:
        return [
            convert.path(view) for view in await self.node.look_up(request.target, request.token)
        ]

    async def ping(self, request: ns.Ping) -> ns.Pong:
        return convert.pong(await self.node.ping(request.target))

    # --- people

    async def contacts(self, _: s.Nothing) -> list[s.Contact]:
        return [convert.contact(view) for view in await self.node.ask(c.ListContacts())]

    async def add_contact(self, request: s.AddContact) -> s.Contact:
        return convert.contact(await self.node.add_contact(request.card))

    async def verify_contact(self, request: s.ByPerson) -> s.Contact:
        identity = await self._person(request.person)
        return convert.contact(await self.node.ask(c.VerifyContact(identity)))

    async def blocked(self, _: s.Nothing) -> list[s.Blocked]:
        return [convert.blocked(view) for view in await self.node.ask(c.ListBlocked())]

    async def block(self, request: s.ByPerson) -> s.Blocked:
        identity = await self._person(request.person)
        return convert.blocked(await self.node.ask(c.Block(identity)))

    async def unblock(self, request: s.ByPerson) -> s.Blocked:
        identity = await self._person(request.person)
        return convert.blocked(await self.node.ask(c.Unblock(identity)))

    # --- groups

    async def groups(self, _: s.Nothing) -> list[s.Group]:
        return [convert.group(view) for view in await self.node.ask(c.ListGroups())]

    async def group(self, request: s.ByGroup) -> s.Group:
        return convert.group(await self.node.ask(c.FindGroup(request.group, standings=True)))

    async def examine_group(self, request: s.ByGroup) -> list[s.Examined]:
        command = c.ExamineGroup(await self._group(request.group))
        return [convert.examined(check) for check in await self.node.ask(command)]

    async def create_group(self, request: s.CreateGroup) -> s.Group:
        command = c.CreateGroup(request.name, convert.SUITES[request.suite])
        return convert.group(await self.node.ask(command))

    async def _direct(self, person: str) -> GroupView:
        return await self.node.direct_group(await self._person_or_card(person))

    async def direct(self, request: s.ByPerson) -> s.Group:
        return convert.group(await self._direct(request.person))

    async def invite(self, request: s.Invite) -> s.Invited:
        group = await self._group(request.group)
        people = [await self._person_or_card(text) for text in request.people]
        people = list(dict.fromkeys(people))
        admin = request.role == "admin"
        view = await self.node.invite(group, people, admin=admin, again=request.again)
        return s.Invited(
            group=view.group.hex(),
            name=view.name,
            epoch=view.epoch,
            invited=[person.hex() for person in people],
        )

    async def requests(self, _: s.Nothing) -> list[s.Invitation]:
        return [convert.invitation(view) for view in await self.node.ask(c.ListRequests())]

    async def join(self, request: s.ByGroup) -> s.Group:
        return convert.group(await self.node.ask(c.Join(await self._group(request.group))))

    async def leave(self, request: s.ByGroup) -> s.Group:
        return convert.group(await self.node.ask(c.Leave(await self._group(request.group))))

    async def remove(self, request: s.Remove) -> s.Group:
        command = c.RemoveMember(
            await self._group(request.group), await self._person(request.person)
        )
        return convert.group(await self.node.ask(command))

    async def update_key(self, request: s.ByGroup) -> s.Group:
        return convert.group(await self.node.ask(c.UpdateKey(await self._group(request.group))))

    # --- messages

    async def send(self, request: s.Send) -> s.Sent:
        if bool(request.group) == bool(request.person):
            raise Refused("bad-request", "name either a group or a person")
        if request.group:
            group = await self._group(request.group)
        else:
            group = (await self._direct(request.person)).group
        return convert.sent(await self.node.ask(c.Send(group, request.text)))

    async def read_messages(self, request: s.ReadMessages) -> list[s.Message]:
        group = await self._group(request.group) if request.group else None
        command = c.ReadMessages(request.cursor, group, request.limit)
        return [convert.message(view) for view in await self.node.ask(command)]

    async def history(self, request: s.ReadHistory) -> list[s.Message]:
        command = c.ReadHistory(await self._group(request.group), request.after, request.limit)
        return [convert.message(view) for view in await self.node.ask(command)]

    async def move_cursor(self, request: s.MoveCursor) -> s.Done:
        try:
            seen = tuple((GroupId.from_hex(each.group), each.arrival) for each in request.seen)
        except ValueError:
            raise Refused("bad-request", "a group's id is 32 hex digits") from None
        await self.node.ask(c.MoveCursor(request.cursor, seen))
        return s.Done()

    async def export_parcels(self, request: s.ExportParcels) -> s.ExportedParcels:
        person, group = await self._person_or_group(request.to) if request.to else (None, None)
        done = await export_parcels(
            self.node.ask,
            Path(request.file),
            person=person,
            group=group,
            replace=request.replace,
        )
        return convert.exported(request.file, done)

    async def import_parcels(self, request: s.ImportParcels) -> s.ImportedParcels:
        done = await import_parcels(self.node.ask, Path(request.file))
        return convert.imported(request.file, done)

    async def ledger(self, request: s.ByMessage) -> list[s.LedgerRow]:
        rows = await self.node.ask(c.ReadLedger(request.message))
        return [convert.ledger_row(row) for row in rows]

    async def why(self, request: s.ByMessage) -> list[s.WhyRow]:
        return [convert.why_row(row) for row in await self.node.ask(c.Why(request.message))]
