"""Blocked people: nothing of theirs is shown, and they see what they would if we were away.

Their invitations, one-to-one messages and bundles are dropped and counted, never refused. In a
group that both of us are in their commits still count, or the group would fall apart; their
messages there are kept out of sight, and get no receipt.
"""

from __future__ import annotations

from identity.bundle import open_bundle_untrusted
from node.engine import commands, values
from node.engine.core import DISCOVERY_SECRET, Core
from node.engine.own_bundle import OwnBundle
from node.store.groups import GroupRow
from schemas.card import SECRET_LENGTH
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.messages import GroupKind
from schemas.parcels import Content, MessageContent, WelcomeContent


class Away(Fault):
    """Raised to a link of somebody blocked: it ends as if this node stopped."""


class Unwanted(Exception):
    """A parcel of somebody blocked, to be passed over."""


class Blocking:
    def __init__(self, core: Core, own: OwnBundle) -> None:
        self._core = core
        self._own = own

    def block(self, command: commands.Block) -> values.BlockedView:
        core = self._core
        if command.identity == core.identity.public:
            raise Refused("yourself", "you cannot block yourself")
        if not core.people.is_blocked(command.identity):
            core.people.block(command.identity, core.now)
            # They know the old one, and with it where to look for us.
            core.people.set_secret(DISCOVERY_SECRET, core.random(SECRET_LENGTH))
            self._own.revise()
            for device in core.people.devices(command.identity):
                if self.shuts_out(command.identity):
                    core.effects.append(values.LinkUnwanted(device))
        return self._view(command.identity)

    def unblock(self, command: commands.Unblock) -> values.BlockedView:
        view = self._view(command.identity)
        self._core.people.unblock(command.identity)
        return view

    def list(self, _: commands.ListBlocked) -> tuple[values.BlockedView, ...]:
        return tuple(self._view(identity) for identity, _ in self._core.people.blocked())

    def _view(self, identity: IdentityKey) -> values.BlockedView:
        since = dict(self._core.people.blocked()).get(identity)
        if since is None:
            raise Refused("not-blocked", "this person is not blocked")
        return values.BlockedView(identity, self._core.name_of(identity), since)

    # --- what the others ask

    def shuts_out(self, identity: IdentityKey | None) -> bool:
        """Blocked, and no group needs a link to them."""
        people = self._core.people
        return (
            identity is not None
            and people.is_blocked(identity)
            and not people.shares_entered_group(identity)
        )

    def admit(self, identity: IdentityKey | None) -> None:
        """Raises Away for a peer that gets no link."""
        if self.shuts_out(identity):
            self._core.count("blocked-link")
            raise Away("away", "the node stops", blame=Blame.ENVIRONMENT)

    def drops(self, row: GroupRow | None, content: Content) -> bool:
        """Whether a parcel's content is passed over; counted. Raises Malformed."""
        core = self._core
        if isinstance(content, WelcomeContent):
            inviter = open_bundle_untrusted(content.inviter).identity
            reason = "blocked-invitation" if core.people.is_blocked(inviter) else None
        elif isinstance(content, MessageContent) and row is not None:
            direct = row.kind == GroupKind.DIRECT.value
            reason = "blocked-message" if direct and core.people.has_blocked(row.id) else None
        else:
            return False
        if reason is not None:
            core.count(reason)
        return reason is not None

    def answers(self, device: DeviceKey) -> bool:
        """Whether this linked device gets our bundle and KeyPackages."""
        owner = self._core.people.owner(device)
        return owner is None or not self._core.people.is_blocked(owner)
