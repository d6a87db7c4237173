"""The command `capacity`: measures what this machine holds, and says it in users."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from relay.capacity.disk import PARCEL_BYTES, Rate, fsync_rate, store_rate
from relay.capacity.estimate import SETTINGS, Assumptions, Measured, as_json, estimate, told
from relay.capacity.network import (
    memory_available,
    network_rate,
    subscriber_bytes,
    throw_away_relay,
)
from relay.cli import telling, with_settings
from relay.config import load_config
from relay.doctor import limits_of
from schemas.errors import Blame, Fault
from transport import kj_loop

SENDERS = (1, 16, 64)
SUBSCRIBERS_PER_S = 4  # of the sample, for each second that is given: 96 by default
LONGEST_S = 90.0  # whatever hangs
_PARTS = 1 + 2 * len(SENDERS) + 1


@dataclass(slots=True)
class Found:
    """Rates by the number of senders."""

    fsync: Rate = field(default_factory=lambda: Rate(0, 0, 0))
    store: dict[int, Rate] = field(default_factory=dict)
    quic: dict[int, Rate] = field(default_factory=dict)
    subscriber_bytes: int | None = None
    disk_free: int = 0


@click.command("capacity")
@with_settings
@click.option(
    "--seconds",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="For all measurements together.",
)
@click.option("--messages", default=50, show_default=True, help="That a user writes in a day.")
@click.option(
    "--devices", default=5, show_default=True, help="That a message goes to: a parcel each."
)
def capacity_command(
    config: Path | None,
    as_json: bool,
    seconds: float,
    messages: int,
    devices: int,
    **flags: object,
) -> None:
    """Measure what this machine holds: the disk, the store, the network, memory.

    On throw-away stores beside the data folder, which are deleted afterwards; best while no relay
    runs. Then it says for how many users that is enough, and what was assumed.

    \b
    Example:
      quicnprotochat-relay capacity --data-dir relay-data
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        assumed = Assumptions(max(messages, 1), max(devices, 1))
        there = _nearest(settings.data_dir)
        progress = Console(stderr=True, quiet=as_json, highlight=False)
        with _throw_away(there) as folder:
            found = asyncio.run(_measure(folder, seconds, progress.print))
        measured = Measured(
            max(rate.per_s for rate in found.quic.values()),
            found.subscriber_bytes,
            memory_available(),
            found.disk_free,
        )
        limits = {name: value for name, value in limits_of(settings).items() if name in SETTINGS}
        result = estimate(measured, assumed, limits)
        if as_json:
            shown = asdict(found) | asdict(result)
            known = {"limits": limits, "assumptions": _assumptions(assumed)}
            print(json.dumps(shown | known))
        else:
            console = Console(highlight=False)
            console.print(_table(found))
            console.print(told(result, assumed))


def _nearest(folder: Path) -> Path:
    """The data folder, or what is there of its path: the same disk."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


@contextmanager
def _throw_away(beside: Path) -> Iterator[Path]:
    """A folder that is deleted afterwards. Raises Fault `cannot-use-folder`."""
    try:
        made = tempfile.TemporaryDirectory(prefix="capacity-", dir=beside)
    except OSError as error:
        raise Fault(
            "cannot-use-folder",
            f"nothing can be made in {str(beside)!r}: {error.strerror}",
            blame=Blame.CALLER,
            hint="give the relay's data folder",
        ) from error
    with made as folder:
        yield Path(folder)


async def _measure(folder: Path, seconds: float, tell: Callable[[str], None]) -> Found:
    part_s = seconds / _PARTS
    sample = max(int(seconds * SUBSCRIBERS_PER_S), 1)
    found = Found(disk_free=shutil.disk_usage(folder).free)
    async with asyncio.timeout(max(LONGEST_S, 3 * seconds)), kj_loop():
        tell("disk …")
        found.fsync = fsync_rate(folder, part_s)
        for senders in SENDERS:
            tell(f"store, {senders} at a time …")
            found.store[senders] = await store_rate(folder, senders, part_s)
        async with throw_away_relay(folder / "relay") as relay:
            for senders in SENDERS:
                tell(f"over QUIC, {senders} at a time …")
                found.quic[senders] = await network_rate(relay, senders, part_s)
        async with throw_away_relay(folder / "idle") as relay:
            tell("idle subscribers …")
            found.subscriber_bytes = await subscriber_bytes(relay, sample)
    return found


def _assumptions(assumed: Assumptions) -> dict[str, float]:
    return as_json(assumed) | {"parcel_bytes": PARCEL_BYTES}


def _table(found: Found) -> Table:
    table = Table("what", "a second", "p50 ms", "p99 ms")
    rates = {"fsync of 4 KiB": found.fsync}
    rates |= {f"store, {number} at a time": rate for number, rate in found.store.items()}
    rates |= {f"over QUIC, {number} at a time": rate for number, rate in found.quic.items()}
    for name, rate in rates.items():
        table.add_row(name, f"{rate.per_s:,.0f}", f"{rate.p50_ms:.2f}", f"{rate.p99_ms:.2f}")
    if found.subscriber_bytes is not None:
        kib = f"{found.subscriber_bytes / 1024:.0f} KiB"
        table.add_row("memory of an idle subscriber", kib, "", "")
    return table
