"""What the engine has for the DHT: our own values, our contacts' cells, and where to begin."""

from __future__ import annotations

from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.publication import (
    Publication,
    cells_to_read,
    private_publications,
    public_publication,
)
from identity.cell import Cell
from node.engine import commands, values
from node.engine import delivery_commands as d
from node.engine.core import DISCOVERY_SECRET, Core
from node.engine.own_bundle import OwnBundle
from node.store.dht import DhtStore
from schemas.addresses import BootstrapAddress
from schemas.errors import Refused

BOOTSTRAP_ADDRESSES = 16


class Dht:
    def __init__(self, core: Core, own: OwnBundle) -> None:
        self._core = core
        self._own = own
        self._store = DhtStore(core.db)

    def publications(self, command: d.OwnPublications) -> tuple[Publication, ...]:
        core, record = self._core, self._own.endpoint
        # Who holds our card reads all of it: nothing is published while anybody must not.
        if record is None or core.policies.hides:
            return ()
        public = (public_publication(record),) if command.public else ()
        secret = core.people.secret(DISCOVERY_SECRET)
        if secret is None:
            return public
        private = private_publications(
            core.device,
            secret,
            record,
            now=core.now,
            limits=DEFAULT_DHT_LIMITS,
            random=core.random,
        )
        return (*public, *private)  # who holds our card asks nobody in public

    def cells_of(self, command: d.CellsOf) -> tuple[Cell, ...]:
        people = self._core.people
        identity = people.owner(command.device)
        if identity is None or people.is_blocked(identity):
            return ()
        secret = people.discovery_secret(identity)
        if not secret:
            return ()
        return tuple(
            cells_to_read(command.device, secret, now=self._core.now, limits=DEFAULT_DHT_LIMITS)
        )

    def start(self, _: d.DhtStart) -> values.DhtStartView:
        return values.DhtStartView(
            tuple(BootstrapAddress.parse(text) for text in self._store.bootstrap()),
            tuple(self._store.contacts()),
            self._core.policies.for_all.hides_address,
            self._core.policies.hides,
        )

    def keep_contacts(self, command: d.KeepDhtContacts) -> None:
        self._store.set_contacts(command.contacts)

    def set_bootstrap(self, command: commands.SetBootstrap) -> None:
        if len(command.addresses) > BOOTSTRAP_ADDRESSES:
            raise Refused("too-many-addresses", f"at most {BOOTSTRAP_ADDRESSES} to begin with")
        parsed = [str(BootstrapAddress.parse(text)) for text in command.addresses]
        self._store.set_bootstrap(dict.fromkeys(parsed))
