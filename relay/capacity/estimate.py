"""From what was measured to "about N users": every assumption is a named number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from relay.capacity.disk import PARCEL_BYTES

DAY_S = 86_400
HOUR_S = 3_600
SETTINGS: Final = ("total_bytes", "connections", "subscriptions")  # that end with more users


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
    """`by` is what each resource and each setting alone would bear; `users` the least of them,
    bound by `bound`. With the settings in `raise_to`, as they are named in the file, it would be
    `machine_users`, bound by the resource `machine_bound`.
    """

    users: int
    bound: str
    by: dict[str, int]
    machine_users: int
    machine_bound: str
    raise_to: dict[str, int]


def estimate(measured: Measured, assumed: Assumptions, limits: Mapping[str, float]) -> Estimate:
    """`limits` are the settings in force, by the names in SETTINGS."""
    parcels = assumed.messages_per_day * assumed.devices_per_message * assumed.relayed
    busiest_s = parcels * assumed.busiest_hour / HOUR_S
    acks = measured.acks_per_s * assumed.load / assumed.writes_per_parcel
    waiting = parcels * assumed.away * assumed.days_kept * PARCEL_BYTES
    machine = {
        "processor and disk speed": acks / busiest_s,
        "disk space": measured.disk_free * assumed.disk / waiting,
    }
    if measured.subscriber_bytes and measured.memory_available:
        memory = measured.memory_available * assumed.memory / assumed.online
        machine["memory"] = memory / measured.subscriber_bytes
    needs = {"total_bytes": waiting, "connections": assumed.online, "subscriptions": assumed.online}
    by = {name: _round(users) for name, users in machine.items()}
    machine_bound = min(by, key=by.__getitem__)
    machine_users = by[machine_bound]
    by |= {name: _round(limits[name] / needs[name]) for name in SETTINGS}
    bound = min(by, key=by.__getitem__)
    wanted = {name: math.ceil(machine_users * needs[name]) for name in SETTINGS}
    raise_to = {name: number for name, number in wanted.items() if number > limits[name]}
    return Estimate(by[bound], bound, by, machine_users, machine_bound, raise_to)


def _round(number: float) -> int:
    """Two digits: no more of it is known."""
    whole = int(number)
    unit = int(10 ** max(len(str(whole)) - 2, 0))
    return whole // unit * unit


def told(estimate: Estimate, assumed: Assumptions) -> str:
    """One paragraph for people."""
    what = "the setting" if estimate.bound in SETTINGS else "the machine's"
    return (
        f"This relay holds about {estimate.users:,} users who write {assumed.messages_per_day}"
        f" messages a day each; {what} {estimate.bound} is what ends first.{_advice(estimate)}"
        f" Assumed: a message goes to {assumed.devices_per_message} devices, {assumed.relayed:.0%}"
        f" of that by this relay, {assumed.busiest_hour:.0%} of a day in its busiest hour, at"
        f" {assumed.load:.0%} of the measured rate; {assumed.online:.0%} of the users are connected"
        f" at once; {assumed.away:.0%} of the parcels wait {assumed.days_kept} days, on"
        f" {assumed.disk:.0%} of the disk that is free. `nofile` is no concern: all of it is one"
        " socket. It was measured with the senders on this machine, too, so it is careful."
    )


def _advice(estimate: Estimate) -> str:
    """What to set so that the machine, and nothing else, is what ends first."""
    if not estimate.raise_to:
        return ""
    lines = ", ".join(f"{name} = {number}" for name, number in estimate.raise_to.items())
    return (
        f" The machine bears about {estimate.machine_users:,}, bound by its"
        f" {estimate.machine_bound}: for that, set {lines}."
    )


def as_json(assumed: Assumptions) -> dict[str, float]:
    return {field.name: getattr(assumed, field.name) for field in fields(assumed)}
