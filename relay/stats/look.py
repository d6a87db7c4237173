"""What a relay is like at this moment: what its store holds, what it says and counts itself."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from relay.address import whereabouts
from relay.config import RelayConfig
from relay.store.opening import driver
from relay.store.processes import Process
from relay.store.sqlite.usage import count, mailboxes_near_quota
from schemas.addresses import Address, RelayAddress
from schemas.errors import Blame, Fault
from storage.sqlite import blaming_the_disk, open_database

METRICS_DEADLINE_S: Final = 2.0
LIMITS: Final = ("total_bytes", "total_mailboxes", "total_blob_bytes", "directory_bytes")
HEALTH: Final = ("status", "reason", "version", "uptime_s")
NEAR: Final = 0.9  # of a mailbox's quota
_PREFIX: Final = "quicnprotochat_"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a bound address, read

Buckets = Mapping[float, float]
"""Upper bound in seconds → calls at or below it, as Prometheus counts them."""


@dataclass(frozen=True, slots=True)
class Look:
    """At one moment: numbers by name, and the calls' times by method.

    `address` is None where it is not known; `health` what `/health` says, empty when it was not
    asked or `answered` is False; `processes` those that share the database.
    """

    values: dict[str, float] = field(default_factory=dict)
    calls: dict[str, dict[float, float]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    address: RelayAddress | None = None
    health: dict[str, str | float] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    answered: bool = True  # by the relay, where it was asked

    def to_json(self) -> dict[str, object]:
        times = {
            f"call_p{percent}_ms.{method}": quantile(buckets, percent / 100) * 1000
            for method, buckets in sorted(self.calls.items())
            for percent in (50, 99)
        }
        means = {
            f"commit_{part}_ms": mean * 1000
            for part in ("work", "sync")
            if (mean := self.mean(f"commit_{part}_seconds")) is not None
        }
        limits = {f"limit.{name}": value for name, value in self.limits.items()}
        health = {name: self.health.get(name) for name in HEALTH}
        processes = [
            {
                "address": str(each.address),
                "version": each.version,
                "live": each.live,
                "withdrawn": each.withdrawn,
                "age_s": each.age_s,
            }
            for each in self.processes
        ]
        address = None if self.address is None else str(self.address)
        known = {"address": address, "processes": processes, "metrics_answered": self.answered}
        return {**self.values, **times, **means, **limits, **health, **known}

    def mean(self, name: str, before: Look | None = None) -> float | None:
        """Of a histogram, since `before` or since the start; None: there was nothing."""
        number, total = (
            self.values.get(name + part, 0) - (before.values.get(name + part, 0) if before else 0)
            for part in ("_count", "_sum")
        )
        return total / number if number > 0 else None


def look(config: RelayConfig) -> Look:
    """What the store holds; with `metrics` set, what the relay that runs says and counts as well.

    Raises Fault `no-file` and what opening the database causes.
    """
    processes: tuple[Process, ...] = ()
    if config.database_url is None:
        held = _of_file(config)
    else:
        held, processes = _of_server(config)
    families, health = _asked(config)
    return Look(
        # The store is asked itself; what a relay remembers of it may be seconds old.
        held | _counters(families) | held,
        _call_times(families),
        {name: getattr(config.quotas, name) for name in LIMITS},
        _address(config),
        health,
        processes,
        bool(health) or config.metrics is None,
    )


def _address(config: RelayConfig) -> RelayAddress | None:
    """A relay can be looked at without its key, which may be a `tls_key` that is not told here."""
    try:
        return whereabouts(config).address
    except Fault:
        return None


def _of_file(config: RelayConfig) -> dict[str, float]:
    if not config.database.exists():
        raise Fault("no-file", f"there is no database at {str(config.database)!r}",
                    blame=Blame.CALLER, hint="give the relay's data folder")  # fmt: skip
    with (
        closing(open_database(config.database, key=config.database_key)) as connection,
        blaming_the_disk(),
    ):
        held: dict[str, float] = dict(asdict(count(connection)))
        held["accounts"] = float(str(connection.execute("SELECT count(*) FROM accounts").get))
        held["mailboxes_near_quota"] = mailboxes_near_quota(connection, config.quotas, NEAR)
    wal = config.database.with_name(config.database.name + "-wal")
    held["file_bytes"] = config.database.stat().st_size
    held["wal_bytes"] = wal.stat().st_size if wal.exists() else 0
    return held


def _of_server(config: RelayConfig) -> tuple[dict[str, float], tuple[Process, ...]]:
    assert config.database_url is not None
    with driver():
        from relay.store.postgres.inspection import stats
    return stats(config.database_url, config.quotas, NEAR)


def _asked(config: RelayConfig) -> tuple[list[Metric], dict[str, str | float]]:
    """What the relay that runs says of itself; nothing when nobody answers, or somebody else."""
    where = config.metrics
    if where is None:
        return [], {}
    try:
        families = list(text_string_to_metric_families(_page(config, where, "metrics")))
        told = json.loads(_page(config, where, "health"))
        return families, {name: told[name] for name in HEALTH}
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return [], {}


def _page(config: RelayConfig, where: Address, name: str) -> str:
    context = None
    if config.metrics_tls_cert is not None:
        # It is our own, on this machine: its name and issuer prove nothing here.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    scheme = "http" if context is None else "https"
    host = Address(_EVERYWHERE.get(where.host, where.host), where.port)
    try:
        answer = urllib.request.urlopen(  # noqa: S310 - the scheme is one of two
            f"{scheme}://{host}/{name}", timeout=METRICS_DEADLINE_S, context=context
        )
    except HTTPError as error:
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # so says a relay that is not well
            raise
        answer = error
    with answer:
        return str(answer.read().decode())


def _counters(families: Iterable[Metric]) -> dict[str, float]:
    return {
        ".".join([sample.name.removeprefix(_PREFIX), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def _call_times(families: Iterable[Metric]) -> dict[str, dict[float, float]]:
    times: dict[str, dict[float, float]] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == _PREFIX + "call_seconds_bucket":
                buckets = times.setdefault(sample.labels["method"], {})
                buckets[float(sample.labels["le"])] = sample.value
    return times


def quantile(buckets: Buckets, share: float) -> float:
    """Seconds within which this share of the calls was answered; 0 when there were none.

    Between two bounds, calls are taken to be spread evenly, as Prometheus's histogram_quantile
    does; above the last bound, the last one is told.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return 0.0
    wanted, below, lower = total * share, 0.0, 0.0
    for bound in bounds:
        inside = buckets[bound] - below
        if buckets[bound] >= wanted and inside > 0:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / inside
        below, lower = buckets[bound], bound
    return lower
