"""The edge of the zeroconf library: opening it where it can work, and hearing every record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import zeroconf
from zeroconf.asyncio import AsyncZeroconf

from discovery.interfaces import read_interfaces
from schemas.errors import Blame, Fault


async def open_zeroconf(interfaces: Sequence[str] | None) -> AsyncZeroconf:
    """A running zeroconf that can send. Raises Fault `no-multicast`."""
    choices: list[zeroconf.IPVersion | None] = (
        [zeroconf.IPVersion.All, zeroconf.IPVersion.V4Only] if interfaces is None else [None]
    )
    cause: Exception | None = None
    if interfaces is None and not read_interfaces():
        choices = []  # zeroconf would find that out with a socket already open, and leak it
    for version in choices:
        try:
            zc = AsyncZeroconf(
                interfaces=zeroconf.InterfaceChoice.All if interfaces is None else list(interfaces),
                ip_version=version,
            )
        except (OSError, RuntimeError, ValueError) as error:
            cause = error
            continue
        try:
            await zc.zeroconf.async_wait_for_start()
            if zc.zeroconf.engine.senders:
                return zc
        except (OSError, zeroconf.Error) as error:
            cause = error
        except BaseException:
            await zc.async_close()
            raise
        await zc.async_close()
    raise Fault(
        "no-multicast",
        "Peers on the LAN cannot be found: this machine or network has no multicast",
        blame=Blame.ENVIRONMENT,
        hint="Check that a network is up and that UDP port 5353 is allowed, or run with --no-mdns.",
    ) from cause


def forget_instances(zc: zeroconf.Zeroconf, service_type: str, keep: Collection[str]) -> None:
    """Unhear the names of instances but those in `keep` (lower case): who is there says so again.

    A question names the instances that we have heard of, and they do not answer it (RFC 6762, 7.1).
    """
    records = zc.cache.async_entries_with_name(service_type)
    zc.cache.async_remove_records(
        [each for each in records if getattr(each, "alias", "").lower() not in keep]
    )


class Heard(zeroconf.RecordUpdateListener):
    """Hears every live record of an instance, also those that change nothing."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._names: set[str] = set()

    def async_update_records(
        self, zc: zeroconf.Zeroconf, now: float, records: list[zeroconf.RecordUpdate]
    ) -> None:
        for update in records:
            record = update.new
            if not record.is_expired(now):
                # Of a PTR record, whose class zeroconf does not export, the name it points to.
                self._names.add(getattr(record, "alias", record.name))

    def async_update_records_complete(self) -> None:
        names, self._names = self._names, set()
        for name in names:
            self._heard(name)
