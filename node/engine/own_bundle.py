"""Our own bundle: what it says of us, when that changes, and who is told.

Every change makes a bundle with the next number. Relays get it, and everybody who reaches us by
what it says: over a link at once, else as a parcel that waits in a mailbox.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from discovery.record import sign_endpoint_record
from identity.bundle import bundle_device, sign_bundle
from identity.envelope import HybridKeyPair, generate_hybrid
from identity.signing import sign
from node.engine import values
from node.engine.core import DISCOVERY_SECRET, Core
from node.engine.delivery_tokens import DeliveryTokens
from node.engine.outbox import MESSAGE_LIFETIME_S, Outbox
from schemas.addresses import RelayAddress
from schemas.ids import DeviceKey, IdentityKey
from schemas.parcels import NO_GROUP, BundlesContent
from schemas.records import BundleCore, BundlePrivate, EndpointRecord, Signed, SignedType

HYBRID_KEY_S: Final = 30 * 86_400.0  # then a new one is made
HYBRID_KEPT_S: Final = float(MESSAGE_LIFETIME_S)  # what was sealed to the old one is opened
HIDING: Final = "hiding_sequence"  # in meta: of the record made while hidden from somebody
KIND: Final = "own-bundle"  # of its parcels in the outbox


class OwnBundle:
    def __init__(self, core: Core, outbox: Outbox, tokens: DeliveryTokens) -> None:
        self._core = core
        self._outbox = outbox
        self._tokens = tokens
        self._seen: tuple[int, int] | None = None

    @property
    def current(self) -> tuple[Signed, BundleCore]:
        found = self._core.people.bundle(self._core.identity.public)
        if found is None:
            raise RuntimeError("an account without a bundle")
        return found

    def make_anew(self) -> None:
        """In place of one that was lost; its number is the time, which is more than it was."""
        core = self._core
        me, public = core.identity.public, core.hybrid_keys[0].public
        issued = int(core.clock.believed)
        device = bundle_device(me, core.device, "first", public, issued=issued)
        relays = tuple(RelayAddress.parse(relay) for relay in core.relays)
        bundle = BundleCore(me, issued, core.account_name, (device,), relays, brings_tokens=True)
        core.people.put_bundle(sign_bundle(core.identity, bundle), bundle)

    @property
    def endpoint(self) -> Signed | None:
        found = self._core.people.endpoint(self._core.device.public)
        return None if found is None else found[0]

    @property
    def endpoint_for_all(self) -> Signed | None:
        """What anybody may read: no address of ours, while somebody must not know it.

        Its number is the one before the record's, so whom we give that prefers it. None until
        there is a record for what the policies say now: no number is used twice, or stale.
        """
        core = self._core
        found = core.people.endpoint(core.device.public)
        if found is None or not self.fits_policies(found[1]):
            return None
        signed, record = found
        if not core.policies.hides:
            return signed
        return sign_endpoint_record(
            core.device,
            dataclasses.replace(record, sequence=record.sequence - 1, addresses=()),
        )

    def fits_policies(self, record: EndpointRecord) -> bool:
        """Whether our record was made while our address was hidden from somebody, as it is now,
        or from nobody."""
        core = self._core
        return (core.people.setting(HIDING) == record.sequence) is core.policies.hides

    def endpoints_for(self, reader: IdentityKey | None) -> tuple[Signed, ...]:
        """Our record, unless our address is hidden from this person."""
        hidden = self._core.policies.of(reader).hides_address
        return () if hidden or self.endpoint is None else (self.endpoint,)

    def revise(self, **changes: Any) -> None:
        """A bundle with these fields changed and the next number; everybody concerned is told."""
        core = self._core
        old = self.current[1]
        new = dataclasses.replace(old, number=old.number + 1, **changes)
        core.people.put_bundle(sign_bundle(core.identity, new), new)
        core.effects.append(values.BundleChanged())
        self.tell(core.people.acquaintances(core.device.public))

    def tell(self, devices: Iterable[DeviceKey]) -> None:
        """Our bundle and endpoint record, and to contacts the private part, in parcels.

        Devices that nothing can be sealed to yet learn it from the next hello.
        """
        core = self._core
        signed, bundle = self.current
        alike: dict[tuple[Signed, ...], list[DeviceKey]] = {}
        for device in devices:
            identity = core.people.owner(device)
            if identity is None or core.people.hybrid_key(device) is None:
                continue
            core.outbox.remove_kind(NO_GROUP, KIND, device)
            endpoints = self.endpoints_for(identity)
            if core.people.is_blocked(identity):
                # A fellow member still: the groups need this, and where we are is not their news.
                alike.setdefault((), []).append(device)
            elif core.people.contact(identity) is None:
                alike.setdefault(endpoints, []).append(device)
            else:
                core.people.set_told(identity)
                private = self._private(bundle, identity)
                self._outbox.put(KIND, BundlesContent((signed,), endpoints, private), [device])
        for endpoints, readers in alike.items():
            self._outbox.put(KIND, BundlesContent((signed,), endpoints), readers)

    def flush(self) -> None:
        """At the end of a batch: contacts who are in a group with us now get their private part."""
        bringers = self._core.bringers
        if bringers.changed != self._seen:
            self._seen = bringers.changed
            for contact in bringers.contacts_to_tell():
                self.tell(self._core.people.devices(contact))

    def _private(self, bundle: BundleCore, reader: IdentityKey) -> Signed:
        secret = self._core.people.secret(DISCOVERY_SECRET) or b""
        token = self._tokens.of_contact(reader)
        private = BundlePrivate(bundle.identity, bundle.number, reader, secret, token)
        return sign(SignedType.BUNDLE_PRIVATE, self._core.identity, private.encode())

    # --- rotation

    def tick(self) -> None:
        """Makes a new hybrid key when ours is a month old, and deletes what nobody seals to."""
        core = self._core
        now = core.clock.believed
        if not self.current[1].brings_tokens:  # made by an older version
            self.revise(brings_tokens=True)
        keys = core.people.hybrid_key_times()  # newest first
        if keys[0][1] > now:  # made while the clock was ahead
            core.people.redate_hybrid_key(keys[0][0], now)
        elif now - keys[0][1] >= HYBRID_KEY_S:
            self._rotate(now)
        gone = [old for (old, _), (_, since) in _pairs(keys) if now - since >= HYBRID_KEPT_S]
        for public in gone:
            core.people.delete_hybrid_key(public)
        if gone:
            core.load_hybrid_keys()

    def _rotate(self, now: float) -> None:
        core = self._core
        hybrid: HybridKeyPair = generate_hybrid(core.random)
        core.people.add_hybrid_key(hybrid.public, hybrid.private, now)
        core.load_hybrid_keys()
        devices = tuple(
            bundle_device(
                core.identity.public, core.device, entry.name, hybrid.public, issued=int(now)
            )
            if entry.key == core.device.public
            else entry
            for entry in self.current[1].devices
        )
        self.revise(devices=devices)


def _pairs(
    keys: list[tuple[bytes, float]],
) -> Iterable[tuple[tuple[bytes, float], tuple[bytes, float]]]:
    """(a key, the one that came after it)."""
    return zip(keys[1:], keys, strict=False)
