"""One node: the real engine on its own disk, its timer, and what its user sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from node.engine import commands as c
from node.engine import values as v
from node.engine.engine import Engine
from node.store.database import MIGRATIONS
from schemas.errors import Blame, Fault
from schemas.ids import DeviceKey, GroupId
from simulation.record import Violation
from simulation.stage import INVITED, Node, Shown, Standing
from simulation.world.courier import Courier
from simulation.world.evidence import queues_within_caps
from simulation.world.watch import Watch
from storage.sqlite import migrate

if TYPE_CHECKING:
    from simulation.world.world import World

R = TypeVar("R")
Then = Callable[[Any], None]

BATCH_S = 0.001  # what queues meanwhile goes into the next batch
READ_S = 0.3  # from a message's arrival until its user has seen it
DOWN_S = (0.5, 3.0)  # a crashed process is started again
READ_AT_ONCE = 200
LOOK_AT_QUEUES = 32  # batches between two looks
_STATEMENTS = 512  # kept prepared, as storage.sqlite does


class Crashed(BaseException):
    """The process ends here; nothing may catch it on the way."""


class Machine:
    """`disk` outlives crashes; `engine` and all else in memory do not."""

    def __init__(self, world: World, name: Node, disk: apsw.Connection, *, fresh: bool) -> None:
        self.world = world
        self.name = name
        self.rng = Random(f"{world.seed} {name}")
        self.awake = True
        self.running = True
        self.ahead_s = 0.0
        self.counters: Counter[str] = Counter()
        self.shown: dict[GroupId, list[Shown]] = {}
        self.life = 0  # counts crashes: what an earlier life asked for is void
        self.commands = 0
        self.batches = 0
        self.disk_full = False
        self._crash_point: str | None = None
        self._written = False  # by the batch that runs
        self.disk = disk
        disk.set_commit_hook(self._on_commit)
        if fresh:
            migrate(disk, MIGRATIONS)
            Engine.create(disk, name, now=self.unix, random=self.rng.randbytes)
        self._boot()

    def _boot(self) -> None:
        world = self.world
        self.engine = Engine(
            self.disk, random=self.rng.randbytes, mls=world.library, rule=world.rule
        )
        self.device: DeviceKey = self.engine.device.public
        self.identity = self.engine.identity.public
        self.watch = Watch(self)
        self.courier = Courier(self)
        self._standings: dict[GroupId, tuple[int, Standing | None]] = {}
        self._queue: list[tuple[c.Command[Any], Then | None, bool]] = []
        self._scheduled = False
        self._tick_at = float("inf")
        self._reading = False
        self.courier.begin()
        self.submit(c.Tick())
        self._read_soon()  # what came before a crash, and nobody has seen

    @property
    def unix(self) -> float:
        """What its clock says, Unix seconds."""
        return self.world.epoch + self.world.clock.now + self.ahead_s

    @cached_property
    def card(self) -> str:
        return self.ask(c.WhoAmI()).card

    @property
    def up(self) -> bool:
        """Neither asleep nor crashed."""
        return self.awake and self.running

    # --- the engine's thread

    def submit(
        self,
        command: c.Command[R],
        then: Callable[[R | Fault], None] | None = None,
        *,
        durable: bool = False,
    ) -> None:
        """Into the next batch. `then` is void when the process crashes first, unless `durable`:
        that one looks at the disk's side of things, and is called whenever the batch is on it."""
        self._queue.append((command, then, durable))
        if not self._scheduled:
            self._scheduled = True
            self._after(BATCH_S, self._next_batch)

    def ask(self, command: c.Command[R]) -> R:
        """At once, with all that is queued. Raises the Fault that refuses it."""
        answer: list[Any] = []
        self._queue.append((command, answer.append, True))
        self._run_batch()
        if not answer:
            raise Fault(
                "crashed", "the process crashed before it answered", blame=Blame.ENVIRONMENT
            )
        if isinstance(answer[0], Fault):
            raise answer[0]
        return answer[0]  # type: ignore[no-any-return]

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        life = self.life
        self.world.clock.after(seconds, lambda: action() if self.life == life else None)

    after = _after

    def _next_batch(self) -> None:
        self._scheduled = False
        if self.up and self._queue:
            self._run_batch()

    def _run_batch(self) -> None:
        queue, self._queue = self._queue, []
        batch = [entry[0] for entry in queue]
        self.commands += len(batch)
        self.batches += 1
        point = self._crash_point
        self._written = False
        try:
            result = self.engine.run(batch, self.unix)
        except Crashed:
            self.world.log(self, "crashed before a commit")
            self._restart()
            return
        self.world.note_batch(self, batch, result)
        if self._written:
            self.watch.after_batch()
            if self.batches % LOOK_AT_QUEUES == 0:
                queues_within_caps(self)
        else:
            self.watch.batch_undone()
        if point == "after":
            self.world.log(self, "crashed after a commit")
        for (_, then, durable), answer in zip(queue, result.answers, strict=True):
            if then is not None and (durable or point != "after"):
                then(answer)
        if point == "after":
            self._restart()
            return
        for effect in result.effects:
            self._on_effect(effect)
        self._arm(result.wake_at)

    def _on_commit(self) -> bool:
        if self._crash_point == "before":
            raise Crashed
        if self.disk_full:
            raise apsw.FullError("the simulated disk is full")
        self._written = True
        return False

    def _arm(self, wake_at: float) -> None:
        if wake_at < self._tick_at:
            self._tick_at = wake_at
            self._after(max(0.0, wake_at - self.unix), lambda: self._tick(wake_at))

    def _tick(self, asked: float) -> None:
        if asked == self._tick_at:
            self._tick_at = float("inf")
            if self.up:
                self.submit(c.Tick())

    def _on_effect(self, effect: v.Effect) -> None:
        match effect:
            case v.OutboxReady(devices):
                self.courier.wake(sorted(devices))
            case v.SummaryReady(device, summary):
                self.courier.send_summary(device, summary)
            case v.LinkUnwanted(device):
                self.courier.drop(device)
            case v.Counted(reason):
                self.counters[reason] += 1
                if reason.endswith("crashed"):
                    raise Violation("no-crash", f"a bug of ours: {reason}", self.name)
            case v.Event("message") | v.Event("joined"):
                self._read_soon()
            case _:
                pass

    # --- its user

    def _read_soon(self) -> None:
        if not self._reading:
            self._reading = True
            self._after(READ_S, self._read)

    def _read(self) -> None:
        self._reading = False
        if self.up:
            self.submit(c.ReadMessages("default", None, READ_AT_ONCE), self._see)

    def _see(self, found: tuple[v.MessageView, ...] | Fault) -> None:
        if isinstance(found, Fault):
            self._read_soon()
            return
        if not found:
            return
        seen: dict[GroupId, int] = {}
        for message in found:
            seen[message.group] = max(seen.get(message.group, 0), message.arrival)

        def moved(answer: Fault | None) -> None:
            if not isinstance(answer, Fault):
                for message in found:
                    self.shown.setdefault(message.group, []).append(self.world.as_shown(message))
                    self.world.evidence.shown(self, message)
            if isinstance(answer, Fault) or len(found) == READ_AT_ONCE:
                self._read_soon()

        self.submit(c.MoveCursor("default", tuple(seen.items())), moved, durable=True)

    def standing(self, group: GroupId) -> Standing | None:
        """As the engine has it now; members' names are looked up once per epoch."""
        cached = self._standings.get(group)
        if cached is not None and cached[0] == self.batches:
            return cached[1]
        core = self.engine._core
        row = core.groups.get(group)
        standing = None
        if row is not None:
            status = str(row.status) if row.accepted else INVITED
            epoch = row.epoch_id.hex()
            if (
                cached is not None
                and cached[1] is not None
                and cached[1].epoch_id == epoch
                and cached[1].status == status
            ):
                standing = cached[1]
            else:
                names = frozenset(
                    self.world.name_of(member.identity) for member in core.groups.members(group)
                )
                standing = Standing(row.epoch, epoch, status, names)
        self._standings[group] = (self.batches, standing)
        return standing

    # --- trouble

    def set_clock(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s
        self._tick_at = float("inf")
        self.submit(c.Tick())

    def sleep(self) -> None:
        if self.awake:
            self.awake = False
            self.courier.silence()
            self.world.log(self, "asleep")

    def wake(self) -> None:
        if not self.awake:
            self.awake = True
            self.world.log(self, "awake")
            self._tick_at = float("inf")
            self.submit(c.Tick())
            self.courier.look_around()
            self._read_soon()

    def crash(self, point: str) -> None:
        if point == "between":
            self.world.log(self, "crashed")
            self._restart()
        else:
            self._crash_point = point
            self.submit(c.Tick())

    def _restart(self) -> None:
        self.life += 1
        self._crash_point = None
        self.running = False
        self._queue.clear()
        self.courier.silence()
        life = self.life
        self.world.clock.after(
            self.rng.uniform(*DOWN_S), lambda: self._start_again() if self.life == life else None
        )

    def _start_again(self) -> None:
        self.running = True
        self._boot()
        self.world.log(self, "started again")
        self.courier.look_around()


def in_memory() -> apsw.Connection:
    disk = apsw.Connection(":memory:", statementcachesize=_STATEMENTS)
    disk.pragma("foreign_keys", True)
    return disk


def copy_of(disk: apsw.Connection) -> apsw.Connection:
    copy = in_memory()
    with copy.backup("main", disk, "main") as backup:
        backup.step()
    return copy
