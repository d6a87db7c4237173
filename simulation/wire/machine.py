"""One virtual machine: a home on disk, an address, a clock, and the real node that runs there."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from discovery.scope import OwnNetworks
from node.engine.commands import Command
from node.engine.engine import Engine
from node.engine_thread import Batch
from node.home import create_home
from node.node import Node, NodeConfig
from schemas.addresses import Address
from schemas.errors import Blame, Fault
from schemas.ids import DeviceKey, EpochId, GroupId, IdentityKey
from simulation.scenario import Violation
from simulation.wire.engine import DIED, Doom, InlineEngine
from simulation.wire.network import Host, Network
from simulation.world.evidence import Evidence
from simulation.world.watch import Watch

R = TypeVar("R")

PORT = 7000
_NETWORKS = OwnNetworks((ipaddress.ip_network("10.0.0.0/8"),))  # of network.py
_DEFECTS = ("crashed", "internal-error", "refused-internal")
RESTART_S = 0.5  # at least, from a crash to the process that follows


class World(Protocol):
    """What all machines share, and whom they tell."""

    network: Network
    evidence: Evidence

    @property
    def relay(self) -> str | None:
        """The address of the one that everybody uses."""

    def unix(self) -> float: ...
    def note_batch(
        self, machine: Machine, batch: Sequence[Command[Any]], result: Batch
    ) -> None: ...
    def note_epoch(self, machine: Machine, group: GroupId, epoch: int, name: EpochId) -> None: ...
    def note_violation(self, found: Violation) -> None: ...


class Machine:
    """Switched on by `start`. `ahead_s` is what its clock is wrong by."""

    identity: IdentityKey
    device: DeviceKey
    engine: Engine
    disk: apsw.Connection

    def __init__(self, world: World, name: str, home: Path, host: Host) -> None:
        self.world = world
        self.name = name
        self.home = home
        self.host = host
        self.ahead_s = 0.0
        self._counters: Counter[str] = Counter()  # of past processes
        self.disk_full = False
        self._unwritten = False  # the batch that runs: the disk refused it
        self._network = network = world.network
        self._config = NodeConfig(
            home,
            listen=Address(host, PORT),
            relays=None if world.relay is None else (world.relay,),
            mdns=False,
            clock=self.now,
            bind=network.bind,
            networks=lambda: _NETWORKS,
            engine_thread=self._make_engine,
        )
        self._engine: InlineEngine | None = None
        self._node: Node | None = None
        self._running = asyncio.Event()
        self._lid_open = asyncio.Event()
        self._lid_open.set()
        self._off = asyncio.Event()
        self.life: asyncio.Task[None]  # from `start` on
        create_home(home, name)

    @property
    def awake(self) -> bool:
        """Neither asleep nor on its way from a crash to the next start."""
        return self._lid_open.is_set() and self.running

    def now(self) -> float:
        return self.world.unix() + self.ahead_s

    async def start(self) -> None:
        """Returns when the node runs. Raises what `Node.running` does."""
        self.life = asyncio.create_task(self._live(), name=f"machine {self.name}")
        await self._ready()
        self.identity = self.node.identity

    async def stop(self) -> None:
        """Ends the node as SIGTERM does; one that ended by itself has been reported."""
        if self.life.done():
            return
        self.disk_full = False
        self.wake()
        await self._ready()
        self._off.set()
        await self.life

    @property
    def node(self) -> Node:
        """Raises Fault `not-running`."""
        if self._node is None:
            raise self._not_running()
        return self._node

    def defects(self) -> Counter[str]:
        """What the node counted that only a bug of ours can cause."""
        if self._node is None or not self.running:
            return Counter()  # whatever its last moments were like
        counted = self._node.counters
        return Counter({k: n for k, n in counted.items() if k.endswith(_DEFECTS)})

    @property
    def counters(self) -> Counter[str]:
        """Of the node's processes, up to now."""
        return self._counters if self._node is None else self._counters + self._node.counters

    @property
    def running(self) -> bool:
        """Asleep or not, there is a process."""
        return self._running.is_set()

    async def ask_now(self, command: Command[R], *, spared: bool = False) -> R:
        """The engine's answer, in no time. Raises the Fault that refuses it, or `not-running`."""
        if self._engine is None or not self.awake:
            raise self._not_running()
        return await self._engine.ask_now(command, spared=spared)

    def crash(self, moment: Doom | None) -> None:
        """Now, or at the next commit; the node starts again soon after."""
        if self._engine is None:
            raise self._not_running()
        if moment is None:
            self._engine.die()
        else:
            self._engine.doom(moment)

    def sleep(self) -> None:
        """The lid closes; a node that is just about to start does so at `wake`."""
        self._lid_open.clear()
        self._network.unplug(self.host)
        if self._engine is not None:
            self._engine.sleep()

    def wake(self) -> None:
        if not self._lid_open.is_set():
            self._lid_open.set()
            if self._engine is None or self._engine.dead:
                return  # the next process is plugged in when it starts
            self._network.plug_in(self.host)
            self._engine.wake()
            self.network_changed()

    def network_changed(self) -> None:
        """Tells a node that runs; one that starts finds out by itself."""
        if self._node is not None:
            self._node.network_changed()

    def _not_running(self) -> Fault:
        return Fault("not-running", f"{self.name} does not run", blame=Blame.ENVIRONMENT)

    async def _ready(self) -> None:
        """The node runs, or its task has failed, which is raised."""
        running = asyncio.ensure_future(self._running.wait())
        try:
            await asyncio.wait({running, self.life}, return_when="FIRST_COMPLETED")
            if self.life.done():
                self.life.result()
        finally:
            running.cancel()

    async def _live(self) -> None:
        while not self._off.is_set():
            try:
                async with Node.running(self._config) as self._node:
                    self._running.set()
                    await self._off.wait()
            except Fault as fault:
                if fault.code not in (DIED, "disk-full"):  # which a service manager tries again
                    raise
                self._end_process()
                await asyncio.sleep(RESTART_S)
                await self._lid_open.wait()
                self._network.plug_in(self.host)
            finally:
                self._end_process()

    def _end_process(self) -> None:
        self._running.clear()
        if self._node is not None:
            self._counters += self._node.counters
        self._node = self._engine = None

    # --- told by the engine

    def _make_engine(self, *args: Any, **options: Any) -> InlineEngine:
        self._engine = InlineEngine(*args, owner=self, **options)
        return self._engine

    def engine_opened(self, engine: Engine) -> None:
        self.engine = engine
        self.device = engine.device.public
        self.disk = engine._db.connection
        self.disk.set_commit_hook(self._may_commit)
        self._watch = Watch(self)

    def _may_commit(self) -> bool:
        if self._engine is not None:
            self._engine.before_commit()
        self._unwritten = self.disk_full
        if self.disk_full:
            raise apsw.FullError("the simulated disk is full")
        return False

    def batch_done(self, batch: Sequence[Command[Any]], result: Batch) -> None:
        try:
            if self._unwritten:
                self._watch.batch_undone()
            else:
                self._watch.after_batch()
        except Violation as found:
            self.world.note_violation(found)
        self._unwritten = False
        self.world.note_batch(self, batch, result)

    def batch_undone(self) -> None:
        self._watch.batch_undone()

    def engine_died(self) -> None:
        self._running.clear()
        self._network.unplug(self.host)  # what the dying process still says, nobody hears
