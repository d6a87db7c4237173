"""Peers on the local network: mDNS service discovery through zeroconf (RFC 6762, RFC 6763).

What is heard is a hint from anybody on the link: fields are checked and bounded here, keys and
addresses are proven by nobody but the TLS handshake. Anybody there can also say goodbye in
another's name, so DISAPPEARED is no reason to drop a connection.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

import zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from discovery.hosts import is_loopback
from discovery.lan_events import Peer, PeerEvent, Watch
from discovery.lan_peers import LanPeers
from discovery.mdns_service import SERVICE_TYPE, Advert, describe, peer_untrusted
from discovery.mdns_zeroconf import Heard, open_zeroconf
from schemas.errors import Blame, Fault, Malformed
from schemas.ids import DeviceKey

_LABEL_BYTES: Final = 63  # RFC 1035, section 2.3.4
_LOOKUPS_WAITING: Final = 64
_LOOKUPS_AT_ONCE: Final = 4
_LOOKUP_MS: Final = 3000
_RETRY_ANNOUNCING_S: Final = 30.0
_FORGOTTEN: Final = 256

_log = logging.getLogger(__name__)

# It logs a traceback for every address without a route; what matters is in `fault`, `dropped`.
logging.getLogger("zeroconf").setLevel(logging.CRITICAL)


class Mdns:
    """Advertises this node on the LAN and keeps the table of the others there.

    `own` is this node's device key: what others say under it is dropped. `advert` None stands for
    visibility `off`: we look and are not seen (though looking sends queries for our service type;
    whoever wants silence runs no Mdns). `interfaces` are local addresses such as `127.0.0.1`
    (zeroconf cannot use `::1`); None means all, IPv4 and IPv6. `clock` gives Unix seconds for
    `Peer.last_seen`.

    Peers' loopback addresses count only when we are on loopback ourselves; else a stranger could
    make us talk to services of this machine. `dropped` counts what was not believed, by reason;
    `fault` is the last failure to announce, or None. Both are safe to read at any time.

    A killed peer stays for up to 19 minutes (zeroconf keeps its records that long): callers look
    at `last_seen`, try, and call `forget` for a peer that does not answer.
    """

    def __init__(
        self,
        own: DeviceKey,
        *,
        advert: Advert | None = None,
        interfaces: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
        table: LanPeers | None = None,
    ) -> None:
        self._own = own
        self._advert = advert
        self._interfaces = interfaces
        self._clock = clock
        self._table = LanPeers() if table is None else table
        self._watches: set[Watch] = set()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._worker: asyncio.Task[None] | None = None
        self._advert_changed = asyncio.Event()
        self._announced = asyncio.Event()
        self._own_instance = ""
        self._lookups: asyncio.Queue[str] = asyncio.Queue(_LOOKUPS_WAITING)
        self._looking: set[str] = set()
        self._forgotten: dict[str, None] = {}
        self.fault: Fault | None = None

    # --- life

    async def start(self) -> None:
        """Opens the sockets and starts to browse and announce; announcing takes about 1.6 s more.

        Raises Fault `no-multicast` (blame ENVIRONMENT) where this machine or network has none:
        the node goes on without, and may call it again when the network has changed.
        """
        zc = await open_zeroconf(self._interfaces)
        self._zeroconf = zc
        zc.zeroconf.async_add_listener(Heard(self._on_heard), None)
        self._browser = AsyncServiceBrowser(zc.zeroconf, SERVICE_TYPE, handlers=[self._on_change])
        self._worker = asyncio.create_task(self._work(zc), name="mdns")
        self._worker.add_done_callback(self._on_worker_done)

    async def close(self) -> None:
        """Says goodbye (about 0.3 s), closes the sockets, ends all watches. May be repeated."""
        for watch in tuple(self._watches):
            watch.end()
        worker, self._worker = self._worker, None
        zc, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
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

    def forget(self, device: DeviceKey) -> None:
        """Takes a peer that does not answer off the table until it is heard again."""
        for instance in self._table.instances_of(device):
            self._forgotten[instance] = None
            self._tell(self._table.lose(instance))
        while len(self._forgotten) > _FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    def advertise(self, advert: Advert | None) -> None:
        """Says something new about this node from now on, or nothing any more.

        For a changed name or visibility, and for a network that changed: adapters that came or
        went are noticed here.
        """
        self._advert = advert
        self._announced.clear()
        self._advert_changed.set()

    async def wait_announced(self) -> None:
        """Returns once the latest advert (or its withdrawal) is out on the LAN."""
        await self._announced.wait()

    # --- announcing

    async def _work(self, zc: AsyncZeroconf) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._announce(zc))
            for _ in range(_LOOKUPS_AT_ONCE):
                group.create_task(self._look_up(zc))

    async def _announce(self, zc: AsyncZeroconf) -> None:
        registered: AsyncServiceInfo | None = None
        for turn in itertools.count():
            self._advert_changed.clear()
            advert = self._advert
            retry_s: float | None = None
            try:
                if turn:
                    await zc.async_update_interfaces()
                registered = await self._say(zc, advert, registered)
                self.fault = None
                if advert is self._advert:
                    self._announced.set()
            except (zeroconf.Error, OSError, TimeoutError) as error:
                # NonUniqueNameException too: somebody answers to our random label, so it is on
                # purpose. The next try has another label.
                self.fault = Fault(
                    "mdns-announce-failed",
                    f"This node is not visible on the LAN: {type(error).__name__}",
                    blame=Blame.ENVIRONMENT,
                    hint=f"It is tried again every {_RETRY_ANNOUNCING_S:.0f} s.",
                )
                retry_s = _RETRY_ANNOUNCING_S
            with suppress(TimeoutError):
                async with asyncio.timeout(retry_s):
                    await self._advert_changed.wait()

    async def _say(
        self, zc: AsyncZeroconf, advert: Advert | None, registered: AsyncServiceInfo | None
    ) -> AsyncServiceInfo | None:
        """Makes the LAN know `advert`; returns what is registered now."""
        if advert is None:
            if registered is not None:
                await (await zc.async_unregister_service(registered))
            return None
        if registered is not None:
            info = describe(registered.name.removesuffix(f".{SERVICE_TYPE}"), advert)
            await (await zc.async_update_service(info))
            return info
        label = secrets.token_hex(8)  # per run: says nothing about who, and forgets who it was
        info = describe(label, advert)
        self._own_instance = info.key
        await (await zc.async_register_service(info))
        return info

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            _log.error("mDNS stopped by a bug", exc_info=error)
            self.fault = Fault(
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
            self._forgotten.pop(instance, None)
            self._tell(self._table.lose(instance))
        elif instance != self._own_instance:
            self._consider(zeroconf, name)

    def _on_heard(self, name: str) -> None:
        """A live record of instance `name` arrived, perhaps the same as before."""
        instance = name.lower()
        if instance in self._table:
            self._table.touch(instance, self._clock())
        elif instance in self._forgotten and self._zeroconf is not None:
            self._consider(self._zeroconf.zeroconf, name)

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
            self._look_up_later(name)

    def _look_up_later(self, name: str) -> None:
        if name in self._looking:
            return
        try:
            self._lookups.put_nowait(name)
        except asyncio.QueueFull:
            self.dropped["lookups-full"] += 1
        else:
            self._looking.add(name)

    async def _look_up(self, zc: AsyncZeroconf) -> None:
        """Asks for the parts of services that were announced incompletely, one at a time."""
        while True:
            name = await self._lookups.get()
            try:
                info = AsyncServiceInfo(SERVICE_TYPE, name)
                if await info.async_request(zc.zeroconf, _LOOKUP_MS):
                    self._accept(info)
                else:
                    self.dropped["unresolved"] += 1
            except zeroconf.Error:
                self.dropped["unresolved"] += 1
            finally:
                self._looking.discard(name)

    def _accept(self, info: AsyncServiceInfo) -> None:
        try:
            peer = peer_untrusted(
                info.text,
                info.port or 0,
                info.parsed_scoped_addresses(),
                loopback=self._on_loopback(),
                now=self._clock(),
            )
        except Malformed as error:
            self.dropped[error.code] += 1
            self._tell(self._table.lose(info.key))
            return
        if peer.device == self._own:
            self.dropped["own-device"] += 1
            return
        self._forgotten.pop(info.key, None)
        self._tell(self._table.see(info.key, peer))

    def _on_loopback(self) -> bool:
        if self._interfaces is not None:
            return all(map(is_loopback, self._interfaces))
        return self._advert is not None and all(
            is_loopback(address.host) for address in self._advert.addresses
        )

    def _tell(self, events: Iterable[PeerEvent]) -> None:
        for event in events:
            for watch in self._watches:
                watch.add(event)
