"""What the relay counts, in Prometheus's text format. No label ever holds a key or an address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from discovery.dht.service import DhtService
from relay.service import RelayService
from relay.store.contract import RelayStore, Written
from relay.web_certificate import WebCertificate

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "quicnprotochat_"
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_JOBS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class RelayMetrics:
    """`observe_call` and `observe_commit` are told what happens; the rest is read when asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Histogram(
            _PREFIX + "call_seconds",
            "Time to answer a call, by method",
            ["method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._of_method: dict[str, Histogram] = {}
        self._jobs = Histogram(
            _PREFIX + "commit_jobs",
            "Changes committed together",
            buckets=_JOBS,
            registry=self.registry,
        )
        self._work = Histogram(
            _PREFIX + "commit_work_seconds",
            "Time of a transaction's statements",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._sync = Histogram(
            _PREFIX + "commit_sync_seconds",
            "Time of COMMIT: writing ahead and fsync",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def observe_call(self, method: str, seconds: float) -> None:
        """`method` is one of the interface's, never a caller's word."""
        histogram = self._of_method.get(method)
        if histogram is None:
            histogram = self._of_method[method] = self._calls.labels(method)
        histogram.observe(seconds)

    def observe_commit(self, written: Written) -> None:
        """On the writer's thread."""
        self._jobs.observe(written.jobs)
        self._work.observe(written.work_s)
        self._sync.observe(written.commit_s)

    def watch(
        self,
        service: RelayService,
        store: RelayStore,
        drops: Callable[[], Mapping[str, int]],
        refused: Callable[[], Counter[str]] = Counter,
    ) -> None:
        """Read these whenever somebody asks; `drops` are the transport's counts by reason,
        `refused` what was refused before it became a call."""
        self.registry.register(_State(service, store, drops, refused))

    def watch_dht(self, dht: DhtService) -> None:
        self.registry.register(_DhtState(dht))

    def watch_certificate(self, certificate: WebCertificate) -> None:
        days = Gauge(
            _PREFIX + "certificate_days",
            "Days until the certificate of /metrics expires",
            registry=self.registry,
        )
        days.set_function(lambda: certificate.days)
        bad = Gauge(
            _PREFIX + "certificate_refused",
            "1 while the files of the certificate of /metrics cannot be used",
            registry=self.registry,
        )
        bad.set_function(lambda: bool(certificate.trouble))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _State(Collector):
    """Numbers that others keep."""

    def __init__(
        self,
        service: RelayService,
        store: RelayStore,
        drops: Callable[[], Mapping[str, int]],
        refused: Callable[[], Counter[str]],
    ) -> None:
        self._service = service
        self._store = store
        self._drops = drops
        self._refused = refused

    def collect(self) -> Iterable[Metric]:
        refused = self._service.refusals + self._refused()
        yield _by("refused", "Connections, streams, calls, parcels refused", "reason", refused)
        yield _by("transport_drops", "Dropped by the transport", "reason", self._drops())
        yield _by("parcels", "Parcels", "event", self._store.counters)
        yield _by("blobs", "Blobs", "event", self._store.blobs.counters)
        failures = self._store.upkeep.failures
        yield _by("upkeep_failures", "What the relay does by itself, begun anew", "work", failures)
        yield _by(
            "subscriptions_ended",
            "Subscriptions that ended, and what they pushed",
            "reason",
            self._service.subscriptions.counters,
        )
        logins = self._service.accounts.pending.counters
        yield _by("logins", "Logins that were begun, and those dropped halfway", "event", logins)
        met = self._service.rendezvous.counters
        yield _by("meetings", "Meetings that were asked for, by outcome", "outcome", met)
        usage = self._store.usage
        accounts = self._service.accounts.counts
        for name, value in (
            ("mailboxes", usage.mailboxes),
            ("mailboxes_strangers", usage.strangers),
            ("parcels_held", usage.parcels),
            ("parcel_bytes", usage.bytes),
            ("parcel_bytes_strangers", usage.strangers_bytes),
            ("directory_bytes", usage.directory_bytes),
            ("directory_bytes_strangers", usage.strangers_directory_bytes),
            ("blobs_held", usage.blobs),
            ("blob_bytes", usage.blob_bytes),
            ("blob_bytes_strangers", usage.strangers_blob_bytes),
            ("accounts", accounts.accounts),
            ("account_devices", accounts.devices),
            ("sessions", accounts.sessions),
            ("invites", accounts.invites),
            ("logins_pending", len(self._service.accounts.pending)),
            ("memory_held_bytes", self._service.callers.memory.held),
            ("connections", len(self._service.callers)),
            ("subscriptions", len(self._service.subscriptions)),
            ("healthy", self._service.health.report().status == "ok"),
        ):
            yield GaugeMetricFamily(_PREFIX + name, name.replace("_", " "), value=float(value))


class _DhtState(Collector):
    """The relay's part in the DHT."""

    def __init__(self, dht: DhtService) -> None:
        self._dht = dht

    def collect(self) -> Iterable[Metric]:
        counts = self._dht.counts
        yield _by("dht", "What the DHT refused, did not believe or gave up", "reason", counts)
        for name, value in (
            ("dht_contacts", len(self._dht.node.contacts())),
            ("dht_values", self._dht.node.values_kept),
            ("dht_askers", self._dht.askers),
        ):
            yield GaugeMetricFamily(_PREFIX + name, name.replace("_", " "), value=float(value))


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
    for reason, number in sorted(counts.items()):
        family.add_metric([reason], number)
    return family
