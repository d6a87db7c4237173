"""Parcels and introductions that travel in a file: what goes into one, and what comes out."""

from __future__ import annotations

from typing import Final

from identity.bundle import open_bundle_untrusted
from node.engine import delivery_commands as d
from node.engine import values
from node.engine.contacts import Contacts
from node.engine.core import Core
from node.engine.outbox import CARRIED, Outbox
from node.engine.values import State
from schemas.errors import Blame, Malformed, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.parcels import readdress

EXPORTED: Final = "exported: "  # reason in the ledger; the file's name follows


class ByHand:
    def __init__(self, core: Core, outbox: Outbox, contacts: Contacts) -> None:
        self._core = core
        self._outbox = outbox
        self._contacts = contacts

    # --- out

    def read_outbox(self, command: d.ReadOutbox) -> tuple[values.WaitingParcel, ...]:
        core = self._core
        rows = core.outbox.waiting(command.after, command.limit, command.recipients, command.group)
        return tuple(
            values.WaitingParcel(
                values.OutboxItem(
                    row.parcel,
                    row.recipient,
                    readdress(row.body, row.parcel),
                    core.people.hybrid_key(row.recipient),
                    int(row.expires),
                ),
                row.message,
                (row.payload, row.parcel),
            )
            for row in rows
        )

    def note_exported(self, command: d.NoteExported) -> None:
        """The parcels wait on: a file may be lost, and a network come back."""
        reason = f"{EXPORTED}{command.file}"
        for message, device in command.messages:
            self._outbox.note(message, device, State.CARRIED, path=CARRIED, reason=reason)

    # --- in

    def receive_introduction(self, command: d.ReceiveIntroduction) -> IdentityKey:
        core, introduction = self._core, command.introduction
        bundle = open_bundle_untrusted(introduction.core)
        identity = bundle.identity
        known = core.people.contact(identity) is not None or core.people.shares_group(identity)
        if not known or core.people.is_blocked(identity):
            raise Refused(
                "not-a-contact",
                f"it introduces {bundle.name} ({identity.hex()[:12]}), who is not in your contacts",
                blame=Blame.PEER,
                hint="add their card with `contacts add`, then import the file again",
            )
        self._contacts.keep_bundle(introduction.core, bundle, wanted=False)
        devices = core.people.devices(identity)
        for package in introduction.key_packages:
            self._keep(package, identity, devices)
        return identity

    def _keep(self, package: bytes, identity: IdentityKey, devices: tuple[DeviceKey, ...]) -> None:
        core = self._core
        info = core.library.verify_key_package(package)
        device = DeviceKey(info.signature_key)
        owner = core.credential_owner(info.signature_key, info.credential)
        if owner != identity or device not in devices:
            raise Malformed("wrong-key-package", "a KeyPackage of another device")
        core.key_packages.keep_carried(
            info.reference, device, info.suite, package, float(info.not_after)
        )

    def take_key_package(self, command: d.TakeKeyPackage) -> bytes | None:
        core = self._core
        return core.key_packages.take_carried(command.device, command.suite, core.now)
