"""Our own account: keys, bundle, endpoint record, card and KeyPackages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from discovery.record import sign_endpoint_record
from identity.bundle import bundle_device, bundle_hash, sign_bundle
from identity.envelope import generate_hybrid
from identity.keys import SEED_LENGTH, KeyPair, device_from_seed, identity_from_seed
from identity.safety import fingerprint
from node.engine import commands, values
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine.blocking import Blocking
from node.engine.core import DEVICE_SEED, DISCOVERY_SECRET, IDENTITY_SEED, Core
from node.engine.own_bundle import HIDING, OwnBundle
from node.engine.relays import Relays
from node.store.database import Database
from node.store.people import PeopleStore
from schemas import limits
from schemas.addresses import AddressKind, EndpointAddress, RelayAddress, each_once
from schemas.card import SECRET_LENGTH, Card
from schemas.errors import Blame, Refused
from schemas.ids import IdentityKey
from schemas.records import BundleCore, EndpointRecord, Signed

CARD_LIFETIME_S = 365 * 86_400
KEY_PACKAGE_LIFETIME_S = 90 * 86_400
LAST_RESORT_LIFETIME_S = 365 * 86_400
RENEW_ENDPOINT_S = 24 * 3600  # before it expires


def checked_name(name: str) -> str:
    """A display name, its white space folded. Raises Refused `bad-name`."""
    clean = " ".join(name.split())
    if not clean or len(clean.encode()) > limits.DISPLAY_NAME or not clean.isprintable():
        raise Refused(
            "bad-name",
            f"a name is 1 to {limits.DISPLAY_NAME} bytes of printable text",
            hint="choose another name",
        )
    return clean


def create_account(
    database: Database, name: str, random: Callable[[int], bytes], now: float
) -> None:
    """A new identity with its first device, in an empty database. Raises Refused."""
    clean = checked_name(name)
    with database.transaction():
        require_no_account(database)
        identity = identity_from_seed(random(SEED_LENGTH))
        write_account(database, identity, clean, random(SECRET_LENGTH), random, now)


def require_no_account(database: Database) -> None:
    """Raises Refused `home-exists`."""
    if PeopleStore(database).secret(IDENTITY_SEED) is not None:
        raise Refused("home-exists", "this home has an account", hint="use another --home")


def write_account(
    database: Database,
    identity: KeyPair[IdentityKey],
    name: str,
    discovery_secret: bytes,
    random: Callable[[int], bytes],
    now: float,
    *,
    number: int = 1,
    relays: tuple[RelayAddress, ...] = (),
) -> None:
    """An identity with a new device, the only one that its bundle of that number lists."""
    people = PeopleStore(database)
    device, hybrid = device_from_seed(random(SEED_LENGTH)), generate_hybrid(random)
    people.set_secret(IDENTITY_SEED, identity.seed)
    people.set_secret(DEVICE_SEED, device.seed)
    people.set_secret(DISCOVERY_SECRET, discovery_secret)
    people.add_hybrid_key(hybrid.public, hybrid.private, now)
    people.set_setting("name", name)
    entry = bundle_device(identity.public, device, "first", hybrid.public, issued=int(now))
    core = BundleCore(identity.public, number, name, (entry,), relays, brings_tokens=True)
    people.put_bundle(sign_bundle(identity, core), core)


class Account:
    def __init__(self, core: Core, own: OwnBundle, blocking: Blocking, relays: Relays) -> None:
        self._core = core
        self._own = own
        self._own_relays = relays
        self._blocking = blocking

    def who_am_i(self, _: commands.WhoAmI) -> values.AccountView:
        core = self._core
        endpoint = core.people.endpoint(core.device.public)
        addresses = () if endpoint is None else endpoint[1].addresses
        return values.AccountView(
            core.identity.public,
            core.device.public,
            core.account_name,
            str(self._card()),
            fingerprint(core.identity.public),
            core.relays,
            tuple(str(found.address) for found in addresses),
        )

    def _card(self) -> Card:
        """With as many hints as fit; what was punched is forgotten long before the card expires."""
        core = self._core
        endpoint = core.people.endpoint(core.device.public)
        addresses = () if endpoint is None else endpoint[1].addresses
        signed, bundle = self._own.current
        secret = core.people.secret(DISCOVERY_SECRET) or b""
        lasting = [found.address for found in addresses if found.kind is not AddressKind.PUNCHED]
        hints = tuple(lasting[: limits.CARD_ADDRESSES])
        relay = self._relays[0].nearest(core.device.public, 1) if core.relays else None
        card = Card(
            core.identity.public,
            core.device.public,
            secret,
            bundle.number,
            bundle_hash(signed),
            int(core.now) + CARD_LIFETIME_S,
            hints,
            relay,
        )
        while True:
            try:
                card.encode()
            except ValueError:
                if not card.addresses:
                    raise
                card = dataclasses.replace(card, addresses=card.addresses[:-1])
            else:
                return card

    # --- what others may know

    def set_endpoint(self, command: d.SetEndpoint) -> Signed:
        core = self._core
        hidden = core.policies.for_all.hides_address
        addresses = () if hidden else command.addresses[: limits.ENDPOINT_ADDRESSES]
        relays = self._relays_in_record(addresses)
        held = core.people.endpoint(core.device.public)
        if held is not None:
            signed, record = held
            same = record.addresses == addresses and record.relays == relays
            current = record.issued <= core.now < record.expires - RENEW_ENDPOINT_S
            if same and current and self._own.fits_policies(record):
                return signed
        # At least the time, so that numbers go on after a home was restored from a backup. The
        # number before is for what all may read while our address is hidden from somebody.
        sequence = max(core.people.endpoint_sequence(core.device.public) + 2, int(core.now))
        issued = int(core.now)
        record = EndpointRecord(
            core.device.public,
            sequence,
            addresses,
            relays,
            issued,
            issued + limits.ENDPOINT_LIFETIME_S,
        )
        signed = sign_endpoint_record(core.device, record)
        core.people.put_endpoint(signed, record, core.now)
        core.effects.append(values.BundleChanged())
        if core.policies.hides:
            core.people.set_setting(HIDING, sequence)
        if core.policies.hides and not hidden:
            # No relay tells it the others.
            self._own.tell(core.people.acquaintances(core.device.public))
        else:
            self._own.tell(sorted(core.linked))  # the others ask when they meet us
        return signed

    def _relays_in_record(self, addresses: tuple[EndpointAddress, ...]) -> tuple[RelayAddress, ...]:
        """With as many processes of each as fit beside these addresses."""
        me, named = self._core.device.public, self._relays[: limits.ENDPOINT_RELAYS]
        for count in range(limits.RECORD_PROCESSES, 0, -1):
            relays = tuple(relay.nearest(me, count) for relay in named)
            record = EndpointRecord(me, 0, addresses, relays, 0, 0)
            if len(record.encode()) <= limits.ENDPOINT_RECORD:
                break
        return relays

    @property
    def _relays(self) -> list[RelayAddress]:
        return each_once(map(RelayAddress.parse, self._core.relays))

    def set_relays(self, command: r.SetRelays) -> None:
        """Of a relay that we know, naming a process again does not make us forget the others."""
        known = {relay.device: relay for relay in self._relays}
        relays = []
        for relay in each_once(RelayAddress.parse(text) for text in command.relays):
            old = known.get(relay.device, relay)
            relays.append(old if set(relay.processes) <= set(old.processes) else relay)
        self._own_relays.use(relays)

    def follow_relay(self, command: r.FollowRelay) -> None:
        """A relay of ours says what its processes are now."""
        new = RelayAddress.parse(command.relay)
        relays = [new if relay.device == new.device else relay for relay in self._relays]
        self._own_relays.use(relays)

    def set_name(self, command: commands.SetName) -> None:
        core, name = self._core, checked_name(command.name)
        if name != core.account_name:
            core.people.set_setting("name", name)
            self._own.revise(name=name)

    def own_records(self, _: d.OwnRecords) -> tuple[Signed, Signed | None]:
        return self._own.current[0], self._own.endpoint_for_all

    def own_hybrid_key(self, _: d.OwnHybridKey) -> tuple[bytes, bytes]:
        me = self._core.device.public
        device = next(entry for entry in self._own.current[1].devices if entry.key == me)
        return device.hybrid_key, device.hybrid_signature

    # --- KeyPackages

    def make_key_package(self, command: d.MakeKeyPackage) -> tuple[bytes, bytes]:
        return self._make(command.suite, last_resort=command.last_resort, request=None)

    def answer_key_package(self, command: d.AnswerKeyPackage) -> bytes:
        core = self._core
        if not self._blocking.answers(command.device):
            core.count("blocked-key-package")
            raise Refused("no-key-package", "no KeyPackage is left", blame=Blame.ENVIRONMENT)
        request = command.device + command.suite.to_bytes(4, "big") + command.request_id
        answered = core.key_packages.answered(request)
        if answered is not None:
            return answered
        message, _ = self._make(command.suite, last_resort=False, request=request)
        core.key_packages.trim()
        return message

    def _make(self, suite: int, *, last_resort: bool, request: bytes | None) -> tuple[bytes, bytes]:
        core = self._core
        lifetime_s = LAST_RESORT_LIFETIME_S if last_resort else KEY_PACKAGE_LIFETIME_S
        try:
            package = core.mls.key_package(
                suite, now=int(core.now), lifetime_s=lifetime_s, last_resort=last_resort
            )
        except ValueError as error:
            raise Refused("unknown-suite", f"no cipher suite {suite}") from error
        core.write_log()
        core.key_packages.describe(
            package.reference, suite, package.message, last_resort=last_resort, request=request
        )
        return package.message, package.reference
