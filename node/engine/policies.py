"""By which paths a person may be reached, and by which all others: what the user sets and sees."""

from __future__ import annotations

from collections.abc import Iterable

from node.engine import commands, values
from node.engine.core import Core
from node.engine.own_bundle import OwnBundle
from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey


class Policies:
    def __init__(self, core: Core, own: OwnBundle) -> None:
        self._core = core
        self._own = own

    def list(self, _: commands.ListPathPolicies) -> tuple[values.PolicyView, ...]:
        core = self._core
        own = [
            values.PolicyView(identity, core.name_of(identity), policy)
            for identity, policy in core.policies.own()
        ]
        return (values.PolicyView(None, "", core.policies.for_all), *own)

    def of_person(self, command: commands.PathPolicyOf) -> values.PolicyView:
        core, identity = self._core, command.identity
        return values.PolicyView(identity, core.name_of(identity), core.policies.of(identity))

    def choose(self, command: commands.SetPathPolicy) -> values.PolicyView:
        """Links that the new policy may not like end; what waited because of the old one goes."""
        core, identity = self._core, command.identity
        if identity == core.identity.public:
            raise Refused("yourself", "this is about how others are reached")
        if identity is not None and not self._knows(identity):
            raise Refused(
                "unknown-person",
                "no contact, and in no group of ours",
                hint="name a person, or give their identity key: a device's is another",
            )
        known = core.linked if identity is None else set(core.people.devices(identity))
        before = core.policies.of(identity)
        if identity is not None:
            core.policies.put(identity, command.policy)
        elif command.policy is not None:
            core.policies.set_for_all(command.policy)
        now = core.policies.of(identity)
        if now is not before:
            self._changed(identity, known)
        name = "" if identity is None else core.name_of(identity)
        return values.PolicyView(identity, name, now)

    def _knows(self, identity: IdentityKey) -> bool:
        people = self._core.people
        return people.contact(identity) is not None or people.shares_group(identity)

    def _changed(self, identity: IdentityKey | None, devices: set[DeviceKey]) -> None:
        core = self._core
        core.effects.append(values.PolicyChanged())
        for device in sorted(devices):
            core.effects.append(values.LinkUnwanted(device))
        waiting: Iterable[DeviceKey] = (
            core.outbox.waiting_recipients() if identity is None else devices
        )
        for device in sorted(waiting):
            core.outbox.bring_forward(device, "queued", core.now)
        if identity is not None:
            self._own.tell(devices)  # where we are, or no longer
