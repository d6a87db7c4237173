"""What `stats` shows: what the store holds, what the relay counts, how long its answers take."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group
from rich.table import Table

from relay.config import RelayConfig
from relay.store.opening import driver
from relay.store.sqlite.usage import count, mailboxes_near_quota
from schemas.addresses import Address
from schemas.errors import Blame, Fault
from storage.sqlite import blaming_the_disk, open_database

METRICS_DEADLINE_S: Final = 2.0
NEAR: Final = 0.9  # of a mailbox's quota
_PREFIX: Final = "quicnprotochat_"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a bound address, read

Buckets = Mapping[float, float]
"""Upper bound in seconds → calls at or below it, as Prometheus counts them."""


@dataclass(frozen=True, slots=True)
class Look:
    """At one moment: numbers by name, and the calls' times by method."""

    values: dict[str, float] = field(default_factory=dict)
    calls: dict[str, dict[float, float]] = field(default_factory=dict)
    answered: bool = True  # by the relay, where it was asked

    def to_json(self) -> dict[str, float]:
        times = {
            f"call_p{percent}_ms.{method}": quantile(buckets, percent / 100) * 1000
            for method, buckets in sorted(self.calls.items())
            for percent in (50, 99)
        }
        return self.values | times | {"metrics_answered": self.answered}


def look(config: RelayConfig) -> Look:
    """What the store holds; with `metrics` set, what the relay that runs has counted as well.

    Raises Fault `no-file` and what opening the database causes.
    """
    held = _of_file(config) if config.database_url is None else _of_server(config)
    families = list(_metrics(config))
    # The store is asked itself; what a relay remembers of it may be seconds old.
    answered = bool(families) or config.metrics is None
    return Look(held | _counters(families) | held, _call_times(families), answered)


def _of_file(config: RelayConfig) -> dict[str, float]:
    if not config.database.exists():
        raise Fault("no-file", f"there is no database at {str(config.database)!r}",
                    blame=Blame.CALLER, hint="give the relay's data folder")  # fmt: skip
    with (
        closing(open_database(config.database, key=config.database_key)) as connection,
        blaming_the_disk(),
    ):
        held: dict[str, float] = dict(asdict(count(connection)))
        held["mailboxes_near_quota"] = mailboxes_near_quota(connection, config.quotas, NEAR)
    wal = config.database.with_name(config.database.name + "-wal")
    held["file_bytes"] = config.database.stat().st_size
    held["wal_bytes"] = wal.stat().st_size if wal.exists() else 0
    return held


def _of_server(config: RelayConfig) -> dict[str, float]:
    assert config.database_url is not None
    with driver():
        from relay.store.postgres.inspection import stats
    return stats(config.database_url, config.quotas, NEAR)


def _metrics(config: RelayConfig) -> Iterable[Metric]:
    """What /metrics says now; nothing when it does not answer."""
    where = config.metrics
    if where is None:
        return ()
    where = Address(_EVERYWHERE.get(where.host, where.host), where.port)
    context = None
    if config.metrics_tls_cert is not None:
        # It is our own, on this machine: its name and issuer prove nothing here.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    scheme = "http" if context is None else "https"
    try:
        with urllib.request.urlopen(  # noqa: S310 - the scheme is one of two
            f"{scheme}://{where}/metrics", timeout=METRICS_DEADLINE_S, context=context
        ) as answer:
            return list(text_string_to_metric_families(answer.read().decode()))
    except OSError:
        return ()


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


def tables(now: Look, before: Look, seconds: float) -> Group:
    """For people: what is held, what is counted and how fast, how long calls took since before."""
    numbers = Table("what", "now", "a second")
    for name, value in now.values.items():
        if name.startswith("call_seconds"):
            continue  # in the other table
        grown = value - before.values.get(name, value)
        numbers.add_row(name, f"{value:,.6g}", f"{grown / seconds:+,.4g}" if grown else "")
    calls = Table("method", "calls", "a second", "p50 ms", "p99 ms")
    for method, buckets in sorted(now.calls.items()):
        old = before.calls.get(method, {})
        fresh = {bound: value - old.get(bound, 0) for bound, value in buckets.items()}
        new = max(fresh.values(), default=0)
        shown = fresh if new else buckets
        p50, p99 = (quantile(shown, share) * 1000 for share in (0.5, 0.99))
        total = max(buckets.values(), default=0)
        rate = f"{new / seconds:,.4g}" if new and old else ""
        calls.add_row(method, f"{total:,.0f}", rate, f"{p50:.2f}", f"{p99:.2f}")
    return Group(numbers, calls) if now.calls else Group(numbers)
