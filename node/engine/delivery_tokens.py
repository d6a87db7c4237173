"""Which delivery tokens open our mailboxes, and which open those of others.

Relays are told the hashes whenever they change, and refuse parcels without one as soon as everybody
who may bring some is known to know of tokens, or had a month to learn it.
"""

from __future__ import annotations

from typing import Final

from identity.delivery_token import card_token, contact_token, group_token, token_hash
from node.engine import delivery_commands as d
from node.engine import values
from node.engine.core import DISCOVERY_SECRET, Core
from schemas.card import SECRET_LENGTH
from schemas.ids import DeviceKey, IdentityKey
from schemas.limits import DELIVERY_TOKENS
from schemas.parcels import NO_GROUP

DELIVERY_SECRET: Final = "delivery_secret"  # noqa: S105 - the name of a row
SINCE: Final = "delivery_tokens_since"  # in meta: when this database first had them
PATIENCE_S: Final = 30 * 86_400.0  # with those who do not know of tokens yet
GROUPS_TRIED: Final = 4


class DeliveryTokens:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._seen: tuple[int, int] | None = None
        self._told: values.OwnTokens | None = None

    # --- ours

    def of_contact(self, reader: IdentityKey) -> bytes:
        """What goes into the private part of our bundle for this contact."""
        return contact_token(self._secret(), reader)

    def own(self, _: d.OwnDeliveryTokens) -> values.OwnTokens:
        core, store = self._core, self._core.bringers
        me = core.device.public
        hashes = [token_hash(card_token(core.people.secret(DISCOVERY_SECRET) or b"", me))]
        of_groups = [token_hash(group_token(group, me)) for group in store.groups()]
        hashes += of_groups
        hashes += [token_hash(self.of_contact(contact)) for contact in store.contacts()]
        # Whom there is no room for has the card's.
        # Contacts have the card's, too; who is in a group with us may have no other.
        return values.OwnTokens(
            tuple(hashes[:DELIVERY_TOKENS]), not self._all_know(), frozenset(of_groups)
        )

    def _all_know(self) -> bool:
        core = self._core
        since = core.people.setting(SINCE)
        if since is not None and core.clock.believed - since >= PATIENCE_S:
            return True
        return core.bringers.all_bring_tokens(core.identity.public)

    def _secret(self) -> bytes:
        core = self._core
        secret = core.people.secret(DELIVERY_SECRET)
        if secret is None:
            secret = core.random(SECRET_LENGTH)
            core.people.set_secret(DELIVERY_SECRET, secret)
            core.people.set_setting(SINCE, core.clock.believed)
        return secret

    def flush(self) -> None:
        """At the end of a batch: relays hear of it when something is another now."""
        seen = self._core.bringers.changed
        if seen == self._seen:
            return
        self._seen = seen
        tokens = self.own(d.OwnDeliveryTokens())
        if tokens != self._told:
            self._told = tokens
            self._core.effects.append(values.TokensChanged())

    def look_again(self) -> None:
        """Time has passed, or the last batch was not written."""
        self._seen = self._told = None

    # --- others'

    def for_device(self, device: DeviceKey, identity: IdentityKey | None) -> tuple[bytes, ...]:
        """What may open this device's mailbox, the best first."""
        core = self._core
        found: list[bytes] = []
        if identity is not None:
            token = core.people.delivery_token(identity)
            found += [] if not token else [token]
            secrets = [core.people.discovery_secret(identity)]
            contact = core.people.contact(identity)
            secrets += [] if contact is None else [contact.card.discovery_secret]
            found += [card_token(each, device) for each in dict.fromkeys(secrets) if each]
        groups = dict.fromkeys(core.outbox.groups_waiting(device)[:GROUPS_TRIED])
        groups |= dict.fromkeys(core.bringers.groups_with(device, GROUPS_TRIED))
        found += [group_token(group, device) for group in groups if group != NO_GROUP]
        return tuple(dict.fromkeys(found))
