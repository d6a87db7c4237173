"""One run: the relay's processes, those who write and read, and what is measured on the way."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.relay import UNLIMITED
from identity.keys import new_seed
from schemas.addresses import RelayAddress
from tests.relay.postgres import PostgresServer
from tests.relay.process import ROOT, RelayProcess, clean_environment
from tests.soak.relay.growth import JUDGED, KINDS, Watch, serving
from tests.soak.relay.ledger import settle
from tests.soak.relay.people import SENDERS

SHARE: Final = 0.7
HELD: Final = 0.95  # of the rate that was asked for; else it was not held
READERS: Final = 64
SAMPLES: Final = 300  # of memory …
SAMPLE_S: Final = 1.0  # … and not more often
TELL_S: Final = 30.0
ROWS: Final = 4  # of the table at least; one a minute where that is more
LEAST_JUDGED_S: Final = 600.0  # in less time growth is shown, not judged: caches still fill up
PATIENCE_S: Final = 60.0  # until all are connected, or have brought what they began
STUCK_S: Final = 30.0  # so long nothing changed any more
POSTGRES: Final = "PostgreSQL"

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of each phase, and how many read."""

    capacity_s: float
    hold_s: float
    after_kill_s: float
    readers: int = READERS


@dataclass(slots=True)
class Report:
    figures: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)


class People:
    """A process of tests.soak.relay.people."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, *words: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{' '.join(map(str, words))}\n".encode())
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("those who write or read have gone")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def _people(role: str, relay: RelayAddress, seeds: list[str]) -> AsyncIterator[People]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.relay.people", role, str(relay), *seeds),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(),
        limit=2**30,  # what became of every parcel is one line
    )
    try:
        yield People(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Run:
    """All that runs, and what was seen of it."""

    def __init__(
        self,
        server: PostgresServer,
        database: str,
        relays: list[RelayProcess],
        senders: People,
        readers: People,
        say: Say,
    ) -> None:
        self._server = server
        self._database = database
        self._relays = relays
        self._senders = senders
        self._readers = readers
        self._say = say
        self._postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
        self._begun = time.monotonic()
        self.watch = Watch()
        self.rows: list[str] = []
        self.report = Report()

    async def ready(self, readers: int) -> None:
        """All are connected: their handshakes are not what is measured."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                sent, read = await self._both()
                if sent["ready"] == SENDERS and read["ready"] == readers:
                    return
                await asyncio.sleep(0.1)

    async def capacity(self, seconds: float) -> float:
        """Parcels a second that are brought, read and acknowledged when nobody holds back."""
        await self._senders.ask("rate", "inf")
        await asyncio.sleep(seconds / 3)
        await self._both()
        begun = time.monotonic()
        await asyncio.sleep(seconds * 2 / 3)
        sent, read = await self._both()
        took = time.monotonic() - begun
        await self._senders.ask("rate", 0)
        await self._emptied()
        return float(min(sent["count"], read["count"]) / took)

    async def hold(self, rate: float, seconds: float) -> None:
        """A steady load, watched."""
        await self._both()
        await self._senders.ask("rate", rate)
        begun = told = row_at = time.monotonic()
        row_s, sample_s = min(60.0, seconds / ROWS), max(SAMPLE_S, seconds / SAMPLES)
        total = 0
        self._head()
        while (now := time.monotonic()) < begun + seconds:
            self.watch.take(now - begun, self._programs())
            self._alive()
            if now - told >= TELL_S:
                told = now
                sizes = [f"{self.watch.last_mib(name, 'Pss'):.1f}" for name in self._programs()]
                self._say(f"{now - begun:6.0f} s  PSS {' '.join(sizes)} MiB")
            if now - row_at >= row_s:
                total += await self._row(now - begun, now - row_at)
                row_at = now
            await asyncio.sleep(max(0.0, min(sample_s, begun + seconds - now)))
        now = time.monotonic()
        total += await self._row(now - begun, now - row_at)
        self.report.figures |= {
            "asked_per_s": round(rate, 1),
            "held_per_s": round(total / (now - begun), 1),
            "held_s": round(now - begun),
        }

    async def kill_one(self, seconds: float) -> None:
        """Under the load that runs; who was there moves to the other process."""
        killed, left = self._relays
        await self._both()
        ended = await asyncio.to_thread(killed.end, signal.SIGKILL)
        assert ended.code == -signal.SIGKILL
        self._relays = [left]
        await asyncio.sleep(seconds)
        sent, read = await self._both()
        self.report.figures["after_the_kill"] = {
            "acks_per_s": round(sent["count"] / seconds, 1),
            "longest_ack_ms": round(sent["max_ms"]),
            "longest_delivery_ms": round(read["max_ms"]),
            "senders": sent["faults"],
            "readers": read["faults"],
        }

    async def settle(self) -> None:
        """Everything that was begun is brought and read; compare."""
        async with asyncio.timeout(PATIENCE_S):
            sent = await self._senders.ask("end")
        left = await self._emptied()
        account = settle(sent, **await self._readers.ask("end"))
        ends = await asyncio.to_thread(_subscriptions_ended, self._relays[0])
        self.report.figures |= {**asdict(account), "left": left, "subscriptions_ended": ends}
        self.report.complaints += account.complaints
        if left:
            self.report.complaints.append(f"{left} parcels stay in their mailboxes")
        self._alive()

    def judge_growth(self) -> None:
        growth = self.watch.growth()
        held_s = self.report.figures["held_s"]
        self._say("")
        for (name, kind), each in growth.items():
            self._say(
                f"{name:12} {kind:14} {each.size / 1024:8.1f} MiB  {each.mib_per_h:+8.2f} MiB/h"
                f"  {each.kib / 1024:+7.2f} MiB ({each.kib / each.size:+.2%}) in the last"
                f" {each.seconds:.0f} s"
            )
            if kind == JUDGED and not each.flat and held_s >= LEAST_JUDGED_S:
                self.report.complaints.append(
                    f"{name} grew by {each.kib / 1024:.1f} MiB in {each.seconds:.0f} s"
                )
        self.report.figures["mib_per_h"] = {
            name: {kind: round(growth[name, kind].mib_per_h, 2) for kind in KINDS}
            for name, _ in growth
        }
        asked, held = self.report.figures["asked_per_s"], self.report.figures["held_per_s"]
        if held < HELD * asked and held_s >= LEAST_JUDGED_S:
            self.report.complaints.append(f"{held} of {asked} parcels a second were held")

    # --- looking

    async def _both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return await self._senders.ask("tell"), await self._readers.ask("tell")

    def _programs(self) -> dict[str, list[int]]:
        relays = {f"relay {n}": [each.popen.pid] for n, each in enumerate(self._relays, 1)}
        return {**relays, POSTGRES: serving(self._postmaster)}

    def _alive(self) -> None:
        for each in self._relays:
            if each.popen.poll() is not None:
                raise RuntimeError(f"a relay process ended by itself: {each.end().err[-2000:]}")

    def _head(self) -> None:
        self._say(
            f"{'s':>6} {'acks/s':>7} {'p50 ms':>7} {'p99 ms':>7} {'read p50':>8} {'p99 ms':>7}"
            f" {'PSS, RSS MiB of relay 1, relay 2, PostgreSQL':>46} {'database MiB':>13} faults"
        )

    async def _row(self, at: float, seconds: float) -> int:
        """Show what the last `seconds` brought: how many parcels were acknowledged."""
        sent, read = await self._both()
        size = await self._server.execute(
            "SELECT pg_database_size(current_database())", database=self._database
        )
        sizes = "  ".join(
            f"{self.watch.last_mib(name, 'Pss'):6.1f}{self.watch.last_mib(name, 'Rss'):7.1f}"
            for name in self._programs()
        )
        self._say(
            f"{at:6.0f} {sent['count'] / seconds:7.0f} {sent['p50_ms']:7.1f} {sent['p99_ms']:7.1f}"
            f" {read['p50_ms']:8.1f} {read['p99_ms']:7.1f} {sizes:>46} {size / 2**20:13.1f}"
            f" {sent['faults'] or ''}{read['faults'] or ''}"
        )
        return int(sent["count"])

    async def _emptied(self) -> int:
        """Wait until the mailboxes are empty, or nothing changes any more: parcels in them."""
        left, since = -1, time.monotonic()
        while left and time.monotonic() < since + STUCK_S:
            before, left = (
                left,
                int(
                    await self._server.execute(
                        "SELECT count(*) FROM parcels", database=self._database
                    )
                ),
            )
            if left != before:
                since = time.monotonic()
            await asyncio.sleep(0.5)
        return left


def _subscriptions_ended(relay: RelayProcess) -> dict[str, int]:
    """By reason, at that process."""
    with urllib.request.urlopen(f"http://{relay.ready['metrics']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = (
        re.fullmatch(r'.*subscriptions_ended_total\{reason="(.+)"\} (.+)', each) for each in lines
    )
    return {each[1]: int(float(each[2])) for each in found if each}


async def run(folder: Path, plan: Plan, say: Say) -> Report:
    """Everything, in `folder`. Raises RuntimeError when a process ends by itself."""
    settings = folder / "relay.toml"
    settings.write_text(
        "".join(
            f"{k.removeprefix('QUICNPROTOCHAT_').lower()} = {v}\n" for k, v in UNLIMITED.items()
        )
    )
    seeds = [new_seed().hex() for _ in range(plan.readers)]
    async with AsyncExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        await server.execute("ALTER SYSTEM SET autovacuum = on")
        await server.execute("SELECT pg_reload_conf()")
        url = await stack.enter_async_context(server.database())
        relays = [
            stack.enter_context(
                RelayProcess(
                    folder / f"relay-{number}",
                    *(
                        "--config",
                        str(settings),
                        "--log-level",
                        "error",
                        "--metrics",
                        "127.0.0.1:0",
                    ),
                    *("--store", "postgres", "--database-url", url),
                )
            )
            for number in (1, 2)
        ]
        address = relays[-1].address
        assert len(address.processes) == len(relays), "the ready line lists all that live"
        readers = await stack.enter_async_context(_people("readers", address, seeds))
        senders = await stack.enter_async_context(_people("senders", address, seeds))
        database = url.partition("@/")[2].partition("?")[0]
        this = Run(server, database, relays, senders, readers, say)
        await this.ready(plan.readers)
        capacity = await this.capacity(plan.capacity_s)
        say(f"{capacity:.0f} parcels/s is what this machine takes; {SHARE * capacity:.0f} from now")
        this.report.figures["capacity_per_s"] = round(capacity, 1)
        await this.hold(SHARE * capacity, plan.hold_s)
        this.judge_growth()
        await this.kill_one(plan.after_kill_s)
        await this.settle()
        return this.report
