"""Where mail is read: our relays and how we leave one, and where others said that they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from identity.relay_statement import open_relay_statement_untrusted, sign_relay_statement
from node.engine import relay_commands as r
from node.engine import values
from node.engine.core import Core
from node.engine.outbox import MESSAGE_LIFETIME_S
from node.engine.own_bundle import KIND, OwnBundle
from node.store.relays import RelayStore
from schemas import limits
from schemas.addresses import RelayAddress, each_once
from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.parcels import NO_GROUP
from schemas.records import BundleCore, RelayStatement, Signed

READ_AT_LEAST_S: Final = 3600.0  # a parcel was under way there when its sender learnt that we left
READ_AT_MOST_S: Final = float(MESSAGE_LIFETIME_S)  # no parcel lives longer


class Relays:
    """Our own. One that we leave is read on: until it is empty, READ_AT_LEAST_S are over, and each
    acquaintance has said that our new bundle is on its disk; else until READ_AT_MOST_S."""

    def __init__(self, core: Core, own: OwnBundle) -> None:
        self._core = core
        self._own = own
        self._store = RelayStore(core.db)

    def change(self, command: r.ChangeRelays) -> None:
        ours = [RelayAddress.parse(text) for text in self._core.relays]
        add = each_once(RelayAddress.parse(text) for text in command.add)
        drop = [RelayAddress.parse(text) for text in command.drop]
        former = [relay.address for relay in self._store.former()]
        for relay in drop:
            if relay.device not in _devices([*ours, *former]):
                raise Refused(
                    "not-our-relay",
                    f"{relay} is not a relay of this node",
                    hint="`quicnprotochat relays` lists them",
                )
        named = _devices([*add, *drop])
        kept = [relay for relay in ours if relay.device not in named]
        self.use([*add, *kept] if command.first else [*kept, *add])
        if command.at_once:
            for relay in drop:
                self._store.drop_former(relay)
            self._core.effects.append(values.BundleChanged())

    def use(self, relays: list[RelayAddress]) -> None:
        """These are ours now. Refused `too-many-relays`."""
        core = self._core
        if len(relays) > limits.BUNDLE_RELAYS:
            raise Refused("too-many-relays", f"at most {limits.BUNDLE_RELAYS} relays")
        texts = tuple(map(str, relays))
        if texts == core.relays:
            return
        before = [RelayAddress.parse(text) for text in core.relays]
        for relay in before:
            if relay.device not in _devices(relays):
                self._store.put_former(relay, core.now)
        for relay in relays:
            self._store.drop_former(relay)
        core.people.set_setting("relays", json.dumps(texts))
        self._own.revise(relays=tuple(relays))

    def statement(self, _: r.OwnRelayStatement) -> Signed:
        return sign_relay_statement(self._core.identity, self._own.current[1])

    # --- those that were ours

    def former(self, _: r.ListFormerRelays) -> tuple[r.FormerRelayView, ...]:
        return tuple(
            r.FormerRelayView(str(relay.address), relay.since, relay.since + READ_AT_MOST_S)
            for relay in self._store.former()
        )

    def empty(self, command: r.FormerRelayEmpty) -> None:
        core = self._core
        device = RelayAddress.parse(command.relay).device
        for relay in self._store.former():
            long_ago = core.now - relay.since >= READ_AT_LEAST_S
            all_know = not core.outbox.has_kind(NO_GROUP, KIND)
            if relay.address.device == device and long_ago and all_know:
                self._let_go(relay.address)

    def tick(self) -> None:
        for relay in self._store.former():
            if relay.since > self._core.now:  # left while the clock was ahead
                self._store.put_former(relay.address, self._core.now)
            elif self._core.now - relay.since >= READ_AT_MOST_S:
                self._let_go(relay.address)

    def _let_go(self, relay: RelayAddress) -> None:
        self._store.drop_former(relay)
        self._core.emit("relay-left", relay=str(relay))
        self._core.effects.append(values.BundleChanged())


class OthersRelays:
    """Of each person the newest signed word counts: their bundle, or a statement after it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = RelayStore(core.db)

    def of(self, identity: IdentityKey) -> tuple[RelayAddress, ...] | None:
        """Where they read their mail, in their order; None while they have not said."""
        found = self._core.people.bundle(identity)
        statement = self._store.statement(identity)
        if statement is not None and (found is None or statement.number > found[1].number):
            return statement.relays
        return None if found is None else found[1].relays

    def reads_at(self, device: DeviceKey, relay: str) -> bool:
        """False when this device's owner has named relays, and not this one."""
        identity = self._core.people.owner(device)
        said = None if identity is None else self.of(identity)
        return not said or RelayAddress.parse(relay).device in _devices(said)

    def where(
        self, device: DeviceKey, identity: IdentityKey | None
    ) -> tuple[list[RelayAddress], list[RelayAddress]]:
        """(relays that take parcels for a device, in its order; others that may know of it).

        What a card or an endpoint record says may be older than the bundle, and the relay one that
        is not read any more: parcels go there only while nothing better is known.
        """
        people = self._core.people
        said: list[RelayAddress] = []
        hints: list[RelayAddress] = []
        if identity is not None:
            said += self.of(identity) or ()
            bundle, contact = people.bundle(identity), people.contact(identity)
            hints += () if bundle is None else bundle[1].relays
            if contact is not None and contact.card.relay is not None:
                hints.append(contact.card.relay)
        endpoint = people.endpoint(device)
        known = _devices(said)
        if endpoint is not None:  # it may know more processes of a relay
            said += [relay for relay in endpoint[1].relays if relay.device in known]
            hints = [*endpoint[1].relays, *hints]
        said = each_once(said)
        others = [relay for relay in each_once(hints) if relay.device not in known]
        return (said, others) if said else (others, [])

    def keep(self, command: r.ReceiveRelayStatement) -> bool:
        """For somebody that the caller knows."""
        signed = command.statement
        statement = open_relay_statement_untrusted(signed)
        if not self._is_news(statement):
            return False
        before = self.of(statement.identity)
        self._store.put_statement(signed, statement)
        self._core.count("relay-statement-kept")
        self.follow(statement.identity, before)
        return True

    def _is_news(self, statement: RelayStatement) -> bool:
        people, identity = self._core.people, statement.identity
        contact, held = people.contact(identity), self._store.statement(identity)
        numbers = [people.bundle_number(identity)]
        numbers += [] if contact is None else [contact.card.bundle_number]
        numbers += [] if held is None else [held.number]
        if statement.number < max(numbers):
            self._core.count("relay-statement-stale")
        return statement.number > max(numbers)

    def took(self, bundle: BundleCore) -> None:
        """A newer bundle says as much as the statement before it."""
        statement = self._store.statement(bundle.identity)
        if statement is not None and statement.number <= bundle.number:
            self._store.drop_statement(bundle.identity)

    def follow(self, identity: IdentityKey, before: tuple[RelayAddress, ...] | None) -> None:
        """What waits for them, or at a relay that they may not read any more, is handed over anew,
        when they moved since `before`."""
        core = self._core
        if before is not None and _devices(before) == _devices(self.of(identity) or ()):
            return
        stages = ("queued",) if before is None else ("queued", "held")
        for device in core.people.devices(identity):
            for stage in stages:
                core.outbox.bring_forward(device, stage, core.now)
            if core.outbox.has_due(device, core.now):
                core.effects.append(values.OutboxReady(frozenset({device})))


def _devices(relays: Iterable[RelayAddress]) -> list[DeviceKey]:
    return [relay.device for relay in relays]
