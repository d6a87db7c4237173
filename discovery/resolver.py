"""One answer to "where is this device?", from all sources, with where each part came from."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from discovery.hosts import usable
from discovery.record import newest, open_endpoint_record_untrusted
from discovery.scope import NetworksNow, networks_now
from discovery.sources import Lead, Source
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.errors import Fault, Malformed
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_ADDRESSES
from schemas.records import EndpointRecord, Signed

LEADS_PER_SOURCE: Final = 8  # a DHT cell holds 4 values; each costs us a signature check
PER_HOST: Final = 2  # of a record: a NAT's and a forwarded port; the rest could harm that host
CANDIDATES: Final = 16  # dialling starts one each 150 ms: more would never get their turn
SOURCE_DEADLINE_S: Final = 1.5  # when dialling gives up on addresses and takes the relay

_KIND_ORDER: Final = (AddressKind.LAN, AddressKind.PUBLIC, AddressKind.PUNCHED)
# Of two that disagree: a card holds no kinds, and its digits look open where a NAT stands.
_KIND_MERGE: Final = (AddressKind.LAN, AddressKind.PUNCHED, AddressKind.PUBLIC)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """An address to try. `sources`: names of all that gave it, first asked first.

    `learnt_at` is Unix seconds, the latest of its sources; a signed record counts from its issue.
    """

    address: EndpointAddress
    sources: tuple[str, ...]
    learnt_at: float

    @property
    def source(self) -> str:
        return self.sources[0]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is known of a device. Everything in it is a hint until TLS has proven the peer.

    `found`: at most CANDIDATES addresses, LAN first. `record` is the newest valid one and
    `signed` its bytes, to be kept and passed on. `failures`: per source that gave no answer, why.
    """

    device: DeviceKey
    found: tuple[Found, ...]
    record: EndpointRecord | None
    signed: Signed | None
    failures: Mapping[str, str]

    @property
    def relays(self) -> tuple[RelayAddress, ...]:
        """Where to leave a parcel for the device, in its order of preference."""
        return () if self.record is None else self.record.relays


class Resolver:
    """Asks all sources at once and merges what they say.

    `clock` gives Unix seconds. `counts[source, reason]` says what failed or was not believed:
    `deadline`, the code of a Fault, `os-error`, `bug` (logged too), `too-many`, `unusable`,
    `wrong-device`, the code of a Malformed record, `same-host`: above PER_HOST, or `other-network`:
    an address of a record that means another machine here. What was typed or heard on the LAN is
    tried wherever it points.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        clock: Callable[[], float] = time.time,
        deadline_s: float = SOURCE_DEADLINE_S,
        networks: NetworksNow = networks_now,
        elsewhere: Collection[str] = (),
        waits_s: Mapping[str, float] | None = None,
    ) -> None:
        names = [source.name for source in sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources share a name: {names}")
        self._sources = tuple(sources)
        self._clock = clock
        self._deadline_s = deadline_s
        self._networks = networks
        self._elsewhere = frozenset(elsewhere)
        self._waits_s = waits_s or {}
        self.counts: Counter[tuple[str, str]] = Counter()

    async def resolve(self, device: DeviceKey, *, deadline_s: float | None = None) -> Resolution:
        """Everything the sources say of `device` within the deadline, which holds for each.

        A source that fails or is late costs only its own answer. Callers in a hurry ask twice:
        with a deadline, for what is known here, then with the usual one. The sources named
        `elsewhere` ask others over the network, so they are left out of the first; those that may
        wait before they ask, by `waits_s`, have that time besides.
        """
        failures: dict[str, str] = {}
        answers: dict[str, Sequence[Lead]] = {}
        seconds = self._deadline_s if deadline_s is None else deadline_s
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                if deadline_s is not None and source.name in self._elsewhere:
                    continue
                within_s = seconds + self._waits_s.get(source.name, 0.0)
                group.create_task(self._ask(source, device, within_s, answers, failures))
        return self._merge(device, answers, failures)

    async def _ask(
        self,
        source: Source,
        device: DeviceKey,
        seconds: float,
        answers: dict[str, Sequence[Lead]],
        failures: dict[str, str],
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                answers[source.name] = await source.resolve(device)
        except TimeoutError:
            reason = "deadline"
        except Fault as error:
            reason = error.code
        except OSError:
            reason = "os-error"
        except Exception:  # noqa: BLE001 - a bug in one source must not hide a peer; it is logged
            _log.exception("source %s failed by a bug", source.name)
            reason = "bug"
        else:
            return
        failures[source.name] = reason
        self.counts[source.name, reason] += 1

    def _merge(
        self, device: DeviceKey, answers: Mapping[str, Sequence[Lead]], failures: dict[str, str]
    ) -> Resolution:
        now = self._clock()
        hints: dict[str, list[tuple[EndpointAddress, float]]] = {}
        records: list[tuple[str, Signed, EndpointRecord]] = []
        for source in self._sources:
            name = source.name
            hints[name] = []
            leads = answers.get(name, ())
            if len(leads) > LEADS_PER_SOURCE:
                self.counts[name, "too-many"] += len(leads) - LEADS_PER_SOURCE
            for lead in leads[:LEADS_PER_SOURCE]:
                if isinstance(lead, Signed):
                    record = self._open(name, device, lead, now)
                    if record is not None:
                        records.append((name, lead, record))
                    continue
                endpoint = usable(lead.endpoint, on_link=True)
                if endpoint is None:
                    self.counts[name, "unusable"] += 1
                else:
                    hints[name].append((endpoint, lead.learnt_at))
        best: EndpointRecord | None = None
        signed: Signed | None = None
        for _, lead, record in records:
            if best is None or newest(best, record) is record:
                best, signed = record, lead
        networks = self._networks()
        for name, _, record in records:
            # Older records are left out, not added: their author has moved on.
            if record != best:
                continue
            beside = [endpoint.address.host for endpoint in record.addresses]
            per_host: Counter[str] = Counter()
            for endpoint in record.addresses:
                host = endpoint.address.host
                if not networks.admits(host, beside):
                    self.counts[name, "other-network"] += 1
                elif per_host[host] >= PER_HOST:
                    self.counts[name, "same-host"] += 1
                else:
                    per_host[host] += 1
                    hints[name].append((endpoint, record.issued))
        return Resolution(device, _choose(hints, now), best, signed, failures)

    def _open(
        self, source: str, device: DeviceKey, signed: Signed, now: float
    ) -> EndpointRecord | None:
        try:
            record = open_endpoint_record_untrusted(signed, now=now)
        except Malformed as error:
            self.counts[source, error.code] += 1
            return None
        if record.device != device:
            self.counts[source, "wrong-device"] += 1
            return None
        return record


def _choose(
    hints: Mapping[str, Sequence[tuple[EndpointAddress, float]]], now: float
) -> tuple[Found, ...]:
    """At most CANDIDATES, LAN first; `hints` are per source, best first.

    Sources take turns, so that one that was fed rubbish cannot push out what the others know.
    """
    merged: dict[Address, Found] = {}
    tagged = (
        [(name, endpoint, learnt_at) for endpoint, learnt_at in given[:ENDPOINT_ADDRESSES]]
        for name, given in hints.items()
    )
    for turn in itertools.zip_longest(*tagged):
        for entry in turn:
            if entry is None:
                continue
            name, endpoint, learnt_at = entry
            known = merged.get(endpoint.address)
            fresh = Found(endpoint, (name,), min(learnt_at, now))
            merged[endpoint.address] = fresh if known is None else _both(known, fresh)
    chosen = itertools.islice(merged.values(), CANDIDATES)
    return tuple(sorted(chosen, key=lambda found: _KIND_ORDER.index(found.address.kind)))


def _both(a: Found, b: Found) -> Found:
    kind = min(a.address.kind, b.address.kind, key=_KIND_MERGE.index)
    return Found(
        EndpointAddress(a.address.address, kind),
        tuple(dict.fromkeys(a.sources + b.sources)),
        max(a.learnt_at, b.learnt_at),
    )
