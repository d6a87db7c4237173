"""From what was measured to "about N users": every assumption is a named number."""

from __future__ import annotations

from dataclasses import dataclass, fields

from relay.capacity.disk import PARCEL_BYTES

DAY_S = 86_400
HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Assumptions:
    """How people use a relay. Shares are from 0 to 1."""

    messages_per_day: int = 50  # that one user writes
    devices_per_message: int = 5  # that one message goes to: a parcel each
    relayed: float = 1.0  # of the parcels; nodes that see each other need no relay
    busiest_hour: float = 0.15  # of a day's parcels
    load: float = 0.5  # of the measured rate, so that answers stay quick
    writes_per_parcel: int = 2  # it is brought, and acknowledged
    online: float = 0.5  # of the users, each with a subscription
    memory: float = 0.5  # of what is available now
    disk: float = 0.5  # of what is free now
    away: float = 0.1  # of the parcels wait until they expire
    days_kept: int = 7


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes, seconds, and parcels acknowledged a second; None: not measured here."""

    acks_per_s: float  # over QUIC, with the most senders
    subscriber_bytes: int | None
    memory_available: int | None
    disk_free: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """`by` is what each resource alone would bear; `users` the least of them, bound by `bound`."""

    users: int
    bound: str
    by: dict[str, int]


def estimate(measured: Measured, assumed: Assumptions) -> Estimate:
    parcels = assumed.messages_per_day * assumed.devices_per_message * assumed.relayed
    busiest_s = parcels * assumed.busiest_hour / HOUR_S
    acks = measured.acks_per_s * assumed.load / assumed.writes_per_parcel
    waiting = parcels * assumed.away * assumed.days_kept * PARCEL_BYTES
    by = {
        "processor and disk speed": acks / busiest_s,
        "disk space": measured.disk_free * assumed.disk / waiting,
    }
    if measured.subscriber_bytes and measured.memory_available:
        memory = measured.memory_available * assumed.memory / assumed.online
        by["memory"] = memory / measured.subscriber_bytes
    whole = {name: _round(users) for name, users in by.items()}
    bound = min(whole, key=lambda name: whole[name])
    return Estimate(whole[bound], bound, whole)


def _round(number: float) -> int:
    """Two digits: no more of it is known."""
    whole = int(number)
    unit = int(10 ** max(len(str(whole)) - 2, 0))
    return whole // unit * unit


def told(estimate: Estimate, assumed: Assumptions) -> str:
    """One paragraph for people."""
    online = int(estimate.users * assumed.online)
    return (
        f"This machine holds about {estimate.users:,} users who write {assumed.messages_per_day}"
        f" messages a day each; {estimate.bound} is what ends first. Assumed: a message goes to"
        f" {assumed.devices_per_message} devices, {assumed.relayed:.0%} of that by this relay,"
        f" {assumed.busiest_hour:.0%} of a day in its busiest hour, at {assumed.load:.0%} of the"
        f" measured rate; {assumed.online:.0%} of the users are connected at once;"
        f" {assumed.away:.0%} of the parcels wait {assumed.days_kept} days. Set `connections` and"
        f" `subscriptions` to {online:,} or more for that, and `nofile` is no concern: all of it is"
        " one socket. It was measured with the senders on this machine, too, so it is careful."
    )


def as_json(assumed: Assumptions) -> dict[str, float]:
    return {field.name: getattr(assumed, field.name) for field in fields(assumed)}
