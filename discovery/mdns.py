"""Peers on the local network: mDNS service discovery through zeroconf (RFC 6762, RFC 6763).

What is heard is a hint from anybody on the link: fields are checked and bounded here, keys and
addresses are proven by nobody but the TLS handshake. Anybody there can also say goodbye in
another's name, so DISAPPEARED is no reason to drop a connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from discovery.hosts import is_loopback
from discovery.lan_departed import Departed
from discovery.lan_events import Peer, PeerEvent, Watch
from discovery.lan_names import NamesHeard
from discovery.lan_peers import LanPeers
from discovery.lan_tags import Acquaintance, Recogniser, Tag
from discovery.mdns_announcer import Announcer
from discovery.mdns_lookups import LookUps
from discovery.mdns_service import SERVICE_TYPE, Advert, peer_untrusted
from discovery.mdns_txt import TxtRecord, parse_txt_untrusted
from discovery.mdns_zeroconf import Heard, forget_instances, open_zeroconf
from discovery.scope import NetworksNow, OwnNetworks, networks_now
from schemas.errors import Blame, Fault, Malformed
from schemas.ids import DeviceKey

_LABEL_BYTES: Final = 63  # RFC 1035, section 2.3.4
_FLUSHED_S: Final = 1.5  # records that were replaced are kept for a second (RFC 6762, 10.2)
_LOOK_AGAIN_S: Final = 30.0  # after something was left out for want of room or time
_NETWORKS_S: Final = 1.0
# What was dropped for want of room or time, and may be true.
_LEFT_OUT: Final = (
    "table-full",
    "instances-per-device",
    "lookups-full",
    "names-not-read",
    "tags-not-tried",
)

_log = logging.getLogger(__name__)

# It logs a traceback for every address without a route; what matters is in `fault`, `dropped`.
logging.getLogger("zeroconf").setLevel(logging.CRITICAL)


class Mdns:
    """Advertises this node on the LAN and keeps the table of the others there.

    `own` is this node's device key: what others say under it is dropped. `advert` None: we look and
    are not seen, though looking sends queries for our service type; whoever wants silence runs no
    Mdns. `interfaces` are local addresses such as `127.0.0.1` (zeroconf cannot use `::1`); None
    means all, IPv4 and IPv6. `clock` gives Unix seconds for `Peer.last_seen`. `networks` are those
    that our adapters are on: what is not there is no address of a neighbour.

    Peers' loopback addresses count only when we are on loopback ourselves; else a stranger could
    make us talk to services of this machine. `dropped` counts what was not believed, by reason;
    `fault` is the last failure to announce, or None. Both are safe to read at any time.

    zeroconf keeps the records of a killed peer for up to 19 minutes, and anybody can say goodbye
    for somebody else. So callers ask the peers themselves: `touch` who answers, `forget` who does
    not, and `revive` who answers though forgotten or said to have left.
    """

    def __init__(
        self,
        own: DeviceKey,
        *,
        advert: Advert | None = None,
        interfaces: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
        table: LanPeers | None = None,
        networks: NetworksNow = networks_now,
    ) -> None:
        self._own = own
        self._interfaces = interfaces
        self._clock = clock
        self._table = LanPeers() if table is None else table
        self._networks = networks
        self._on_link_read: tuple[float, OwnNetworks] | None = None
        self._watches: set[Watch] = set()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._worker: asyncio.Task[None] | None = None
        self._announcer = Announcer(advert, clock, self._look_again)
        self._recogniser = Recogniser(self.dropped)
        self._names = NamesHeard(self.dropped)
        self._names_wait = asyncio.Event()
        self._again = asyncio.Event()
        self._again_at: asyncio.TimerHandle | None = None
        self._look_ups = LookUps(self.dropped, self._accept)
        self._left_out = 0
        self._flooded = False
        self._flushing: set[str] = set()
        self._departed = Departed()
        self._stopped: Fault | None = None

    # --- life

    async def start(self) -> None:
        """Opens the sockets and starts to browse and announce.

        Raises Fault `no-multicast` (blame ENVIRONMENT) where this machine or network has none:
        the node goes on without, and may call it again when the network has changed.
        """
        zc = await open_zeroconf(self._interfaces)
        self._zeroconf = zc
        zc.zeroconf.async_add_listener(Heard(self._on_heard), None)
        self._browser = self._browse(zc)
        self._worker = asyncio.create_task(self._work(zc), name="mdns")
        self._worker.add_done_callback(self._on_worker_done)

    async def close(self) -> None:
        """Says goodbye (about 0.3 s), closes the sockets, ends all watches. May be repeated."""
        for watch in tuple(self._watches):
            watch.end()
        worker, self._worker = self._worker, None
        zc, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        if self._again_at is not None:
            self._again_at.cancel()
        try:
            if worker is not None:
                worker.cancel()
                await asyncio.wait([worker])
            if browser is not None:
                await browser.async_cancel()
        finally:
            if zc is not None:
                await zc.async_close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # --- what callers see

    @property
    def dropped(self) -> Counter[str]:
        """What was not believed or not kept, by reason."""
        return self._table.dropped

    @property
    def fault(self) -> Fault | None:
        return self._stopped or self._announcer.fault

    @property
    def running(self) -> bool:
        return self._zeroconf is not None

    def peers(self) -> tuple[Peer, ...]:
        """Everybody heard and not gone, at most `lan_peers.INSTANCES`."""
        return self._table.peers()

    def find(self, device: DeviceKey) -> Peer | None:
        return self._table.find(device)

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Changes from now on; those that are there already come first, as APPEARED."""
        watch = Watch(self._table.peers())
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def know(self, acquaintances: Iterable[Acquaintance]) -> None:
        """These are recognised by their tags, and have a place however many strangers there are."""
        known = tuple(acquaintances)
        self._recogniser.know(known)
        self._table.favour(each.device for each in known)
        self._look_again()

    def touch(self, device: DeviceKey) -> None:
        """The peer answered just now."""
        for instance in self._table.instances_of(device):
            self._table.touch(instance, self._clock())

    def forget(self, device: DeviceKey) -> None:
        """Takes a peer that does not answer off the table until it is heard again."""
        for instance in self._table.instances_of(device):
            self._departed.silent(instance)
            self._leave(instance)

    def revive(self, device: DeviceKey) -> None:
        """A peer answers that was forgotten, or that somebody said goodbye for: it is there.

        No goodbye of that instance is believed any more.
        """
        left = self._departed.take_back(device)
        if left is not None:
            instance, peer = left
            back = dataclasses.replace(peer, last_seen=self._clock())
            self._tell(self._table.see(instance, back))

    def advertise(self, advert: Advert | None) -> None:
        """Says something new about this node from now on, or nothing any more.

        For a changed name or visibility, and for a network that changed: adapters that came or
        went are noticed here.
        """
        self._on_link_read = None
        self._announcer.say(advert)
        for instance in self._table.instances():
            peer = self._table.instance(instance)
            if not any(self._on_link(each.address.host) for each in peer.addresses):
                self._leave(instance)  # on a network that we have left

    async def wait_announced(self) -> None:
        """Returns once the latest advert (or its withdrawal) is out on the LAN."""
        await self._announcer.wait_announced()

    # --- looking

    async def _work(self, zc: AsyncZeroconf) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._announcer.run(zc))
            group.create_task(self._keep_looking(zc))
            group.create_task(self._read_names(zc))
            group.create_task(self._look_ups.run(zc))

    def _browse(self, zc: AsyncZeroconf) -> AsyncServiceBrowser:
        """Asks the LAN; what zeroconf has heard so far comes again as well."""
        return AsyncServiceBrowser(zc.zeroconf, SERVICE_TYPE, handlers=[self._on_change])

    async def _keep_looking(self, zc: AsyncZeroconf) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            if self._browser is not None:
                await self._browser.async_cancel()
            if self._flooded:  # replayed, it would be a flood of our own
                self._flooded = False
                forget_instances(zc.zeroconf, SERVICE_TYPE, self._table.instances())
            self._browser = self._browse(zc)

    def _look_again(self) -> None:
        if self.running:
            self._again.set()

    def _note_left_out(self) -> None:
        """What was left out is found all the same, when the flood is over."""
        left_out = sum(self.dropped[reason] for reason in _LEFT_OUT)
        loop = asyncio.get_running_loop()
        waiting = self._again_at is not None and self._again_at.when() > loop.time()
        self._flooded |= left_out != self._left_out
        if self._flooded and not waiting:
            self._again_at = loop.call_later(_LOOK_AGAIN_S, self._look_again)
        self._left_out = left_out

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            _log.error("mDNS stopped by a bug", exc_info=error)
            self._stopped = Fault(
                "mdns-stopped",
                "Looking for peers on the LAN has stopped",
                blame=Blame.CALLER,
                hint="Please report the error in the log; a restart helps meanwhile.",
            )

    # --- listening

    def _on_change(
        self,
        zeroconf: zeroconf.Zeroconf,
        service_type: str,
        name: str,
        state_change: zeroconf.ServiceStateChange,
    ) -> None:
        """zeroconf's callback; it passes these by name. Must not raise: it runs in its reader."""
        instance = name.lower()  # RFC 6762, section 16: names compare without case
        if state_change.name == "Removed":
            if self._departed.stays(instance) and instance in self._table:
                self.dropped["goodbye-not-true"] += 1
            else:
                self._leave(instance)
        elif not self._announcer.is_own(instance):
            self._hear(zeroconf, name, instance)

    def _on_heard(self, name: str) -> None:
        """A live record of instance `name` arrived, perhaps the same as before."""
        instance = name.lower()
        if instance in self._table:
            self._table.touch(instance, self._clock())
        elif instance in self._departed and self._zeroconf is not None:
            self._hear(self._zeroconf.zeroconf, name, instance)

    def _hear(self, zc: zeroconf.Zeroconf, name: str, instance: str) -> None:
        if instance in self._table or self._names.admit(name, asyncio.get_running_loop().time()):
            self._consider(zc, name)
        else:
            self._names_wait.set()
            self._note_left_out()

    async def _read_names(self, zc: AsyncZeroconf) -> None:
        """Those that waited, no faster than we can afford."""
        loop = asyncio.get_running_loop()
        while True:
            await self._names_wait.wait()
            while self._names:
                await asyncio.sleep(self._names.wait_s(loop.time()))
                self._consider(zc.zeroconf, self._names.take(loop.time()))
            self._names_wait.clear()

    def _consider(self, zc: zeroconf.Zeroconf, name: str) -> None:
        """Believes or drops what is known of instance `name`, or has the rest asked for.

        Nodes announce themselves whole, so that they never wait behind strangers' look-ups.
        """
        label = name.removesuffix(f".{SERVICE_TYPE}")
        if len(label.encode(errors="replace")) > _LABEL_BYTES:
            self.dropped["bad-label"] += 1
            return
        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
        except zeroconf.Error:
            self.dropped["bad-label"] += 1
            return
        if info.load_from_cache(zc):
            self._accept(info)
        else:
            self._look_ups.want(name)
            self._note_left_out()

    def _accept(self, info: AsyncServiceInfo) -> None:
        try:
            said = self._who(info)
            if said is None:
                peer = None
            else:
                peer = peer_untrusted(
                    said,
                    info.port or 0,
                    info.parsed_scoped_addresses(),
                    on_link=self._on_link,
                    loopback=self._on_loopback(),
                    now=self._clock(),
                )
        except Malformed as error:
            self.dropped[error.code] += 1
            peer = None
        if peer is not None and peer.device == self._own:
            self.dropped["own-device"] += 1
            peer = None
        if peer is None:
            self._tell(self._table.lose(info.key))
        else:
            self._departed.heard(info.key)
            events = self._table.see(info.key, peer)
            self._tell(events)
            if events:
                self._consider_flushed(info.name)
        self._note_left_out()

    def _consider_flushed(self, name: str) -> None:
        """What was said before this change is still among what zeroconf knows; not for long."""
        if name not in self._flushing:
            self._flushing.add(name)
            asyncio.get_running_loop().call_later(_FLUSHED_S, self._flushed, name)

    def _flushed(self, name: str) -> None:
        self._flushing.discard(name)
        if self._zeroconf is not None and name.lower() in self._table:
            self._consider(self._zeroconf.zeroconf, name)

    def _who(self, info: AsyncServiceInfo) -> TxtRecord | None:
        """Who it says it is; None for a stranger who shows itself to contacts. Raises Malformed."""
        said = parse_txt_untrusted(info.text)
        if not isinstance(said, Tag):
            return said
        label = info.name.removesuffix(f".{SERVICE_TYPE}")
        who = self._recogniser.recognise(label, said, self._clock())
        return None if who is None else TxtRecord(who.device, who.name)

    def _on_link(self, host: str) -> bool:
        now = time.monotonic()
        if self._on_link_read is None or now - self._on_link_read[0] > _NETWORKS_S:
            self._on_link_read = now, self._networks()
        return self._on_link_read[1].on_link(host)

    def _on_loopback(self) -> bool:
        if self._interfaces is not None:
            return all(map(is_loopback, self._interfaces))
        advert = self._announcer.advert
        return advert is not None and all(is_loopback(each.host) for each in advert.addresses)

    def _leave(self, instance: str) -> None:
        """It is gone, by its own word or another's, or for us."""
        if instance in self._table:
            self._departed.left(instance, self._table.instance(instance))
            self._tell(self._table.lose(instance))

    def _tell(self, events: Iterable[PeerEvent]) -> None:
        for event in events:
            for watch in self._watches:
                watch.add(event)
