"""People: cards, bundles, endpoint records, links, and finding somebody by what users type."""

from __future__ import annotations

from functools import lru_cache

from discovery.record import open_endpoint_record_untrusted
from identity.bundle import bundle_hash, check_against_card, open_bundle_untrusted
from identity.credential import verify_credential_untrusted
from identity.safety import safety_number
from identity.signing import open_signed
from node.engine import commands, values
from node.engine import delivery_commands as d
from node.engine.blocking import Blocking
from node.engine.catch_up import CatchUp
from node.engine.core import DISCOVERY_SECRET, Core
from node.engine.delivery_tokens import DeliveryTokens
from node.engine.own_bundle import OwnBundle
from node.engine.relay_commands import ReceiveRelayStatement
from node.engine.relays import OthersRelays
from node.engine.views import matching_key
from node.store.people import ContactRow
from schemas.card import PREFIX, Card
from schemas.errors import Malformed, Refused
from schemas.frames import MEET, BundleResponse, Hello
from schemas.ids import DeviceKey, IdentityKey
from schemas.parcels import BundlesContent
from schemas.records import BundleCore, BundlePrivate, Signed, SignedType

_ADD = "`quicnprotochat contacts add CARD`; `contacts` and `members GROUP` list who is known"
_safety_number = lru_cache(maxsize=1024)(safety_number)


class Contacts:
    def __init__(
        self,
        core: Core,
        catch_up: CatchUp,
        own: OwnBundle,
        tokens: DeliveryTokens,
        blocking: Blocking,
    ) -> None:
        self._core = core
        self._tokens = tokens
        self._catch_up = catch_up
        self._own = own
        self._blocking = blocking
        self.relays = OthersRelays(core)

    # --- the address book

    def add(self, command: commands.AddContact) -> values.ContactView:
        core = self._core
        card = Card.parse(command.card)
        if card.identity == core.identity.public:
            raise Refused("yourself", "this is your own card", hint="give it to somebody else")
        if card.expires < core.now:
            raise Refused("expired-card", "this card has expired", hint="ask for a new one")
        core.people.put_contact(card, core.now)
        core.effects.append(values.ContactsChanged())
        return self._view(self._contact(card.identity))

    def list(self, _: commands.ListContacts) -> tuple[values.ContactView, ...]:
        return tuple(self._view(contact) for contact in self._core.people.contacts())

    def verify(self, command: commands.VerifyContact) -> values.ContactView:
        self._contact(command.identity)
        self._core.people.set_verified(command.identity)
        return self._view(self._contact(command.identity))

    def _contact(self, identity: IdentityKey) -> ContactRow:
        contact = self._core.people.contact(identity)
        if contact is None:
            raise Refused("unknown-person", "not in your contacts", hint=_ADD)
        return contact

    def _view(self, contact: ContactRow) -> values.ContactView:
        core = self._core
        bundle = core.people.bundle(contact.identity)
        return values.ContactView(
            contact.identity,
            core.people.devices(contact.identity),
            core.name_of(contact.identity),
            contact.verified,
            _safety_number(core.identity.public, contact.identity),
            bundle is not None,
        )

    def find(self, command: commands.FindPerson) -> IdentityKey:
        """Among contacts and members of our groups; a whole key need not be known."""
        core, text = self._core, command.text.strip()
        if text.startswith(PREFIX):
            return Card.parse(text).identity
        known = {contact.identity for contact in core.people.contacts()}
        for row in core.groups.all():
            known.update(member.identity for member in core.groups.members(row.id))
        known.discard(core.identity.public)
        found = {key for key in known if matching_key(text, key)}
        found = found or {key for key in known if core.name_of(key) == text}
        if len(found) == 1:
            return found.pop()
        if found:
            keys = ", ".join(sorted(key.hex()[:8] for key in found))
            raise Refused("ambiguous-name", f"{text!r} could be {keys}", hint="use the key")
        try:
            return IdentityKey.from_hex(text)
        except ValueError:
            raise Refused("unknown-person", f"nobody called {text[:80]!r}", hint=_ADD) from None

    def devices_of(self, command: commands.DevicesOf) -> tuple[DeviceKey, ...]:
        return self._core.people.devices(command.identity)

    # --- bundles and endpoints

    def receive_bundles(self, content: BundlesContent) -> bool:
        """From a parcel: of people in our groups or contacts. True when some are strangers yet."""
        strangers = False
        for signed in content.cores:
            bundle = open_bundle_untrusted(signed)
            strangers |= not self._knows(bundle.identity)
            self.keep_bundle(signed, bundle, wanted=False)
        for signed in content.endpoints:
            self.keep_endpoint(signed)
        if content.private is not None:
            self._keep_private(content.private)
        return strangers

    def _keep_private(self, signed: Signed) -> None:
        """Of contacts, meant for us. Raises Malformed."""
        private = open_signed(
            SignedType.BUNDLE_PRIVATE, signed, BundlePrivate.decode, lambda p: p.identity
        )
        core = self._core
        if private.reader != core.identity.public:
            raise Malformed("wrong-reader", "a private part for somebody else")
        wanted = core.people.contact(private.identity) is not None
        if wanted and not core.people.is_blocked(private.identity):
            old = core.people.delivery_token(private.identity)
            core.people.put_private(private)
            if core.people.delivery_token(private.identity) != old:
                self._try_again(private.identity)
            core.effects.append(values.ContactsChanged())

    def _try_again(self, identity: IdentityKey) -> None:
        """Their relays may have refused what we had."""
        core = self._core
        devices = core.people.devices(identity)
        for device in devices:
            core.outbox.bring_forward(device, "queued", core.now)
        due = frozenset(device for device in devices if core.outbox.has_due(device, core.now))
        if due:
            core.effects.append(values.OutboxReady(due))

    def _knows(self, identity: IdentityKey) -> bool:
        people = self._core.people
        if self._blocking.shuts_out(identity):
            return False
        return (
            identity == self._core.identity.public
            or people.contact(identity) is not None
            or people.shares_group(identity)
        )

    def receive(self, command: d.ReceiveBundle) -> None:
        if command.core is not None:
            self.keep_bundle(command.core, open_bundle_untrusted(command.core), wanted=False)
        for signed in command.endpoints:
            self.keep_endpoint(signed)

    def receive_statement(self, command: ReceiveRelayStatement) -> bool:
        return self._knows(IdentityKey(command.statement.signer)) and self.relays.keep(command)

    def keep_bundle(self, signed: Signed, bundle: BundleCore, *, wanted: bool) -> None:
        """The newest of each person we know. Raises Malformed when the card contradicts it."""
        people = self._core.people
        contact = people.contact(bundle.identity)
        mine = bundle.identity == self._core.identity.public
        if mine or not (wanted or self._knows(bundle.identity)):
            return
        if bundle.number <= people.bundle_number(bundle.identity):
            return
        if contact is not None:
            check_against_card(bundle, signed, contact.card)
        before = self.relays.of(bundle.identity)
        people.put_bundle(signed, bundle)
        self.relays.took(bundle)
        self.relays.follow(bundle.identity, before)
        self._core.emit(
            "contact-changed",
            identity=bundle.identity.hex(),
            name=bundle.name,
            number=bundle.number,
        )

    def keep_endpoint(self, signed: Signed) -> None:
        """A stale or foreign record is passed over: it is a hint, not news."""
        core = self._core
        try:
            record = open_endpoint_record_untrusted(signed, now=core.now)
        except Malformed:
            return
        newer = record.sequence > core.people.endpoint_sequence(record.device)
        if newer and record.device != core.device.public and core.people.owner(record.device):
            core.people.put_endpoint(signed, record, core.now)

    def look_up(self, command: d.LookUpPeer) -> values.PeerView:
        people = self._core.people
        identity = people.owner(command.device)
        endpoint = people.endpoint(command.device)
        hints: tuple[str, ...] = ()
        name = ""
        if identity is not None:
            name = self._core.name_of(identity)
            contact = people.contact(identity)
            if contact is not None and contact.card.device == command.device:
                hints = tuple(str(address) for address in contact.card.addresses)
        relays, others = self.relays.where(command.device, identity)
        return values.PeerView(
            command.device,
            identity,
            name,
            None if endpoint is None else endpoint[0].encode(),
            hints,
            tuple(map(str, relays)),
            self._core.policies.of(identity),
            tuple(map(str, others)),
            self._tokens.for_device(command.device, identity),
        )

    def to_greet(self, command: d.PeersToGreet) -> tuple[DeviceKey, ...]:
        return tuple(self._core.people.greetable(self._core.device.public, command.limit))

    def discovery_secrets(self, _: d.ReadDiscoverySecrets) -> values.DiscoverySecrets:
        core, people = self._core, self._core.people
        found = [
            (device, core.name_of(contact.identity), secret)
            for contact in people.contacts()
            if not people.is_blocked(contact.identity)
            and (secret := people.discovery_secret(contact.identity)) is not None
            for device in people.devices(contact.identity)
        ]
        return values.DiscoverySecrets(people.secret(DISCOVERY_SECRET) or b"", tuple(found))

    def known_number(self, command: d.KnownNumber) -> int:
        return self._core.people.bundle_number(command.identity)

    # --- links

    def own_hello(self, command: d.OwnHello) -> Hello:
        core = self._core
        if command.device is not None:
            self._blocking.admit(core.people.owner(command.device))
        signed, bundle = self._own.current
        return Hello(
            core.credential,
            bundle.number,
            bundle_hash(signed),
            core.people.endpoint_sequence(core.device.public),
            command.observed,
            features=(MEET,),
        )

    def link_up(self, command: d.LinkUp) -> d.BundleWish | None:
        core, hello = self._core, command.hello
        identity = verify_credential_untrusted(command.device, hello.credential)
        self._blocking.admit(identity)
        core.linked.add(command.device)
        self._catch_up.link_up(command.device)
        if core.people.contact(identity) is None and not core.people.shares_group(identity):
            return None  # a stranger's bundle is of no use here
        held = core.people.bundle_number(identity)
        newer_endpoint = hello.endpoint_sequence > core.people.endpoint_sequence(command.device)
        if hello.bundle_number > held or newer_endpoint:
            return d.BundleWish(identity, held)
        return None

    def link_down(self, command: d.LinkDown) -> None:
        self._core.linked.discard(command.device)
        self._catch_up.link_down(command.device)

    def answer_bundle(self, command: d.AnswerBundle) -> BundleResponse:
        asker = command.device
        if command.identity != self._core.identity.public or (
            asker is not None and not self._blocking.answers(asker)
        ):
            return BundleResponse(None, ())
        signed, bundle = self._own.current
        owner = None if asker is None else self._core.people.owner(asker)
        return BundleResponse(
            signed if bundle.number > command.newer_than else None, self._own.endpoints_for(owner)
        )
