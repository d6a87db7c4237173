"""A backup taken of a running engine, and an account made from one."""

from __future__ import annotations

from collections.abc import Callable

from identity.bundle import open_bundle_untrusted
from identity.keys import identity_from_seed
from node import backup as format_
from node.engine import commands
from node.engine.account import checked_name, require_no_account, write_account
from node.engine.core import DISCOVERY_SECRET, Core
from node.engine.values import HOLDING, GroupStatus
from node.store import history
from node.store.database import Database
from node.store.people import PeopleStore
from schemas.addresses import RelayAddress
from schemas.card import SECRET_LENGTH, Card
from schemas.errors import Refused
from schemas.records import Signed

# Groups whose MLS state is gone with the old device.
_STATUS = {str(status): str(GroupStatus.RESTORED) for status in HOLDING}


def take_backup(core: Core, _: commands.TakeBackup) -> bytes:
    """The content of a backup, not sealed yet."""
    me = core.identity.public
    return format_.encode(
        format_.Backup(
            format=format_.FORMAT,
            version=format_.VERSION,
            made=core.now,
            identity_seed=core.identity.seed,
            discovery_secret=core.people.secret(DISCOVERY_SECRET) or b"",
            name=core.account_name,
            bundle_number=core.people.bundle_number(me),
            relays=list(core.relays),
            contacts=history.contacts(core.db),
            bundles=history.bundles(core.db, me),
            blocked=history.blocked(core.db),
            groups=history.groups(core.db, core.device.public),
            messages=history.messages(core.db),
            cursors=history.cursors(core.db),
            ledger=history.ledger(core.db),
        )
    )


def restore_account(
    database: Database, content: bytes, random: Callable[[int], bytes], now: float
) -> None:
    """The backup's person with a new device and their history, in an empty database.

    Raises Refused `home-exists`, `bad-backup`, `backup-newer`.
    """
    backup = format_.decode_untrusted(content)
    name = checked_name(backup.name)
    if len(backup.discovery_secret) != SECRET_LENGTH:
        raise Refused("bad-backup", "a backup without a discovery secret")
    relays = tuple(RelayAddress.parse(relay) for relay in backup.relays)
    with database.transaction():
        require_no_account(database)
        write_account(
            database,
            identity_from_seed(backup.identity_seed),
            name,
            backup.discovery_secret,
            random,
            now,
            # At least the time: the old home may have published some after the backup.
            number=max(backup.bundle_number + 1, int(now)),
            relays=relays,
        )
        people = PeopleStore(database)
        for contact in backup.contacts:
            card = Card.decode(contact.card)
            people.put_contact(card, contact.added)
            if contact.verified:
                people.set_verified(card.identity)
        for data in backup.bundles:
            signed = Signed.decode(data)
            people.put_bundle(signed, open_bundle_untrusted(signed))
        history.put_back(database, backup, _STATUS)
