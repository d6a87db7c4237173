"""NodeService: which method is which, and how the relay is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from relay.account_methods import AccountMethods
from relay.accounts import Accounts
from relay.admission import OPEN, Admission
from relay.blob_methods import DEFAULT_BLOB_TTL, BlobMethods, BlobTtl
from relay.call import Call, Line
from relay.callers import Callers
from relay.channel_methods import ChannelMethods
from relay.directory_methods import DirectoryMethods
from relay.health import Health
from relay.limits import DEFAULT_RELAY_LIMITS, RelayLimits
from relay.mailbox_methods import MailboxMethods
from relay.refusals import TryLater
from relay.rendezvous import Rendezvous
from relay.statement_methods import StatementMethods
from relay.store.contract import RelayStore
from relay.subscriptions import Subscriptions
from schemas.addresses import Address, RelayAddress
from schemas.ids import DeviceKey
from schemas.node_service import fill_processes


class RelayService:
    """The methods of NodeService that this relay has; `METHODS` maps their names on the wire.

    They raise Fault to refuse. `clock` gives Unix seconds, `uptime` seconds since the start;
    `device` is the relay's own key; `refusals` counts by code; `processes` gives those of this
    relay, none when it is alone; `address`, what nodes are given, once that is known.
    """

    def __init__(
        self,
        store: RelayStore,
        *,
        parcel_ttl_s: int,
        blob_ttl: BlobTtl = DEFAULT_BLOB_TTL,
        version: str,
        clock: Callable[[], float],
        uptime: Callable[[], float],
        device: DeviceKey,
        admission: str = OPEN,
        auth_token: str | None = None,
        limits: RelayLimits = DEFAULT_RELAY_LIMITS,
    ) -> None:
        self.refusals: Counter[str] = Counter()
        self.processes: Callable[[], Sequence[Address]] = tuple
        self.address: Callable[[], RelayAddress | None] = lambda: None
        self.callers = Callers(limits, uptime)
        self.subscriptions = Subscriptions(store, limits, clock)
        self.rendezvous = Rendezvous(self.subscriptions, limits, uptime)
        self.health = Health(store, version, clock, uptime)
        self.admission = Admission(admission, auth_token, store.accounts, self.callers)
        self.directory = DirectoryMethods(store, self.admission, clock)
        self.statements = StatementMethods(store, self.admission, clock)
        self.blobs = BlobMethods(store.blobs, self.admission, blob_ttl, clock)
        self.channels = ChannelMethods(store.channels, self.admission)
        self.accounts = Accounts(
            store.accounts,
            device,
            self.callers,
            self.subscriptions,
            limits=limits,
            clock=clock,
            steady=uptime,
        )
        self.people = AccountMethods(self.accounts, store.accounts, self.admission, clock)
        self.mailboxes = MailboxMethods(
            store,
            self.callers,
            self.admission,
            self.channels,
            self.subscriptions,
            parcel_ttl_s=parcel_ttl_s,
            clock=clock,
            refusals=self.refusals,
        )

    async def tell_health(self, call: Call) -> None:
        report = self.health.report()
        call.results.status = report.status
        call.results.version = report.version
        call.results.uptimeS = int(report.uptime_s)
        call.results.clockMs = report.clock_ms
        fill_processes(call.results, self.processes())

    async def look_again(self) -> None:
        """Who is here and may not be any more, by what other processes of this relay did."""
        await self.admission.look_again()
        await self.accounts.count()

    def end_line(self, line: Line) -> None:
        """An RPC stream is over, and what came by it with it."""
        self.subscriptions.end_line(line.caller, line)

    async def drain(self) -> None:
        """Answer those who wait, let what is pushed arrive, start nothing new."""
        self.health.draining = True
        self.mailboxes.stop_waiting()
        self.rendezvous.stop_waiting()
        await self.subscriptions.stop()


Handler = Callable[[RelayService, Call], Awaitable[None]]

HEALTH: Final = "health"  # answered while draining, too

METHODS: Final[dict[str, Handler]] = {
    "uploadKeyPackage": lambda relay, call: relay.directory.upload_key_package(call),
    "fetchKeyPackage": lambda relay, call: relay.directory.fetch_key_package(call),
    "enqueue": lambda relay, call: relay.mailboxes.enqueue(call),
    "fetch": lambda relay, call: relay.mailboxes.fetch(call),
    "fetchWait": lambda relay, call: relay.mailboxes.fetch_wait(call),
    HEALTH: RelayService.tell_health,
    "uploadHybridKey": lambda relay, call: relay.directory.upload_hybrid_key(call),
    "fetchHybridKey": lambda relay, call: relay.directory.fetch_hybrid_key(call),
    "opaqueRegisterStart": lambda relay, call: relay.people.register_start(call),
    "opaqueRegisterFinish": lambda relay, call: relay.people.register_finish(call),
    "opaqueLoginStart": lambda relay, call: relay.people.login_start(call),
    "opaqueLoginFinish": lambda relay, call: relay.people.login_finish(call),
    "publishEndpoint": lambda relay, call: relay.directory.publish_endpoint(call),
    "resolveEndpoint": lambda relay, call: relay.directory.resolve_endpoint(call),
    "peek": lambda relay, call: relay.mailboxes.peek(call),
    "ack": lambda relay, call: relay.mailboxes.ack(call),
    "batchEnqueue": lambda relay, call: relay.mailboxes.batch_enqueue(call),
    "fetchHybridKeys": lambda relay, call: relay.directory.fetch_hybrid_keys(call),
    "createChannel": lambda relay, call: relay.channels.create(call),
    "resolveUser": lambda relay, call: relay.people.resolve_user(call),
    "resolveIdentity": lambda relay, call: relay.directory.resolve_identity(call),
    "uploadBlob": lambda relay, call: relay.blobs.upload(call),
    "downloadBlob": lambda relay, call: relay.blobs.download(call),
    "deleteAccount": lambda relay, call: relay.people.delete_account(call),
    "registerDevice": lambda relay, call: relay.people.register_device(call),
    "listDevices": lambda relay, call: relay.people.list_devices(call),
    "revokeDevice": lambda relay, call: relay.people.revoke_device(call),
    "subscribe": lambda relay, call: relay.mailboxes.subscribe(call),
    "observeAddress": lambda relay, call: relay.rendezvous.observe_address(call),
    "rendezvous": lambda relay, call: relay.rendezvous.meet(call),
    "relayStatement": lambda relay, call: relay.statements.relay_statement(call),
    "setDeliveryTokens": lambda relay, call: relay.mailboxes.set_delivery_tokens(call),
    "publishBundle": lambda relay, call: relay.directory.publish_bundle(call),
}


def draining_refusal() -> TryLater:
    return TryLater(
        "draining", "the relay is shutting down", retry_after_ms=5_000, hint="try again"
    )
