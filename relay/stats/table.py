"""A look for people: what fits a terminal of 24 lines by 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group
from rich.text import Text

from relay.stats.look import NEAR, Look, quantile
from schemas.addresses import RelayAddress

BRINGING: Final = ("enqueue", "batchEnqueue")
_REFUSED: Final = "refused_total."
_NAMES: Final = 11  # columns
_REASONS: Final = 3  # that are shown


def table(now: Look, before: Look | None = None, seconds: float = 0.0) -> Group:
    """Totals; with an earlier look of `seconds` ago, what grew since, a second, and times since."""
    lines = [
        Text(f"{name:<{_NAMES}}{text}", no_wrap=True, overflow="ellipsis")
        for name, text in _rows(now, before, seconds)
    ]
    if now.address is not None:
        one = RelayAddress(now.address.address, now.address.device)
        lines.insert(0, Text(str(one), overflow="fold"))  # whole, to be given away
    return Group(*lines)


def _rows(now: Look, before: Look | None, seconds: float) -> Iterator[tuple[str, str]]:
    yield "health", _health(now)
    if now.processes:
        live = [str(each.address) for each in now.processes if each.live]
        yield "processes", f"{len(live)} alive: {', '.join(live)}"
    yield from _held(now)
    if not now.health:
        return
    connections, subscriptions = (
        now.values.get(name, 0) for name in ("connections", "subscriptions")
    )
    yield "here", f"{connections:,.0f} connected, {subscriptions:,.0f} subscribed"
    for name, event in (("in", "accepted"), ("out", "acknowledged")):
        yield name, _grown(now, before, seconds, f"parcels_total.{event}", " parcels")
    yield "calls", _calls(now, before, seconds)
    yield "enqueue", _times(now, before)
    yield "commit", _commits(now, before)
    yield "refused", _refused(now, before, seconds)


def _health(now: Look) -> str:
    if not now.answered:
        return "nobody answers at --metrics: this is what the store holds"
    if not now.health:
        return "not asked: --metrics HOST:PORT also tells how the relay is"
    why = f": {now.health['reason']}" if now.health["reason"] else ""
    up = _span(float(now.health["uptime_s"]))
    return f"{now.health['status']}{why}, up {up}, version {now.health['version']}"


def _held(now: Look) -> Iterator[tuple[str, str]]:
    held, limits = now.values, now.limits
    if "mailboxes" in held:  # else no relay has used this database yet
        yield "parcels", f"{held['parcels']:,.0f}, {_part(held['bytes'], limits['total_bytes'])}"
        near = f"{held['mailboxes_near_quota']:,.0f} above {NEAR:.0%} of their quota"
        strangers = f"{held['strangers']:,.0f} of strangers"
        yield "mailboxes", f"{held['mailboxes']:,.0f}, {strangers}, {near}"
        blob_bytes = _part(held["blob_bytes"], limits["total_blob_bytes"])
        yield "blobs", f"{held['blobs']:,.0f}, {blob_bytes}"
        yield "directory", _part(held["directory_bytes"], limits["directory_bytes"])
        yield "accounts", f"{held['accounts']:,.0f}"
    if "database_bytes" in held:
        yield "database", _size(held["database_bytes"])
    else:
        yield "database", f"{_size(held['file_bytes'])}, log {_size(held['wal_bytes'])}"


def _calls(now: Look, before: Look | None, seconds: float) -> str:
    total, old = (
        sum(max(buckets.values(), default=0) for buckets in each.calls.values()) if each else 0
        for each in (now, before)
    )
    return f"{total:,.0f}{_rate(total - old, seconds) if before else ''}"


def _times(now: Look, before: Look | None) -> str:
    """Of calls that bring parcels: since the last look if there were any, else since the start."""
    buckets = _bringing(now)
    if before is not None:
        old = _bringing(before)
        fresh = {bound: number - old.get(bound, 0) for bound, number in buckets.items()}
        if max(fresh.values(), default=0) > 0:
            buckets = fresh
    if not max(buckets.values(), default=0):
        return "none yet"
    p50, p99 = (quantile(buckets, share) * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def _bringing(look: Look) -> dict[float, float]:
    every = [look.calls[method] for method in BRINGING if method in look.calls]
    return {bound: sum(each[bound] for each in every) for bound in (every[0] if every else ())}


def _commits(now: Look, before: Look | None) -> str:
    means = []
    for name in ("commit_work_seconds", "commit_sync_seconds", "commit_jobs"):
        mean = now.mean(name, before)
        means.append(now.mean(name) if mean is None else mean)
    work, sync, jobs = (mean or 0.0 for mean in means)
    return f"{work * 1000:.1f} ms of work, {sync * 1000:.1f} ms of fsync; {jobs:.1f} changes each"


def _refused(now: Look, before: Look | None, seconds: float) -> str:
    """Those that grew the most; then the largest."""
    old = (before or now).values
    counts = {name: n for name, n in now.values.items() if name.startswith(_REFUSED) and n}
    if not counts:
        return "nothing"
    first = sorted(counts, key=lambda name: (old.get(name, 0) - counts[name], -counts[name]))
    shown = [
        name.removeprefix(_REFUSED) + " " + _grown(now, before, seconds, name)
        for name in first[:_REASONS]
    ]
    more = len(first) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _grown(now: Look, before: Look | None, seconds: float, name: str, unit: str = "") -> str:
    value = now.values.get(name, 0)
    rate = _rate(value - before.values.get(name, 0), seconds) if before else ""
    return f"{value:,.0f}{unit}{rate}"


def _rate(grown: float, seconds: float) -> str:
    """Empty for what did not grow, or began anew with the relay."""
    return f" (+{_digits(grown / seconds)}/s)" if grown > 0 else ""


def _part(used: float, limit: float) -> str:
    return f"{_size(used)} of {_size(limit)} ({used / limit:.0%})" if limit else _size(used)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{_digits(count)} {unit}"
        count /= 1024
    return f"{_digits(count)} TiB"


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")


def _span(seconds: float) -> str:
    minutes, hours, days = (int(seconds // unit) for unit in (60, 3600, 86400))
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {seconds % 60:.0f} s"
