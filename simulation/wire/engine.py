"""The engine without its thread: batches run on the loop, where virtual time waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, Literal, TypeVar

from node.engine.commands import Command
from node.engine.engine import Engine
from node.engine_thread import EngineThread
from schemas.errors import Blame, Fault

R = TypeVar("R")

COMMIT_S: Final = 0.001  # of virtual time: commands that come meanwhile are one batch

DIED: Final = "switched-off"

Doom = Literal["before", "after"]


class InlineEngine(EngineThread[Engine]):
    """An EngineThread that falls asleep, or dies at a commit, when it is told to.

    `on_death` is called in the very moment; what was asked and not answered is refused, and
    nothing is released any more.
    """

    def __init__(self, *args: Any, on_death: Callable[[], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_death = on_death
        self._context = ExitStack()
        self._turn_set = False
        self._asleep = False
        self._doom: Doom | None = None
        self._dead = False

    async def start(self) -> None:
        self.engine = self._context.enter_context(self._open())
        self._set_opened(self.engine)
        self._put_tick()

    async def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            while not self._dead and not self._queue.empty():
                self._turn()
        self._set_ended()
        self._context.close()

    async def ask_now(self, command: Command[R]) -> R:
        """As `ask`, in no time: behind all that is queued."""
        asking = asyncio.ensure_future(self.ask(command))
        await asyncio.sleep(0)
        while not asking.done() and not self._queue.empty():
            self._turn()
            await asyncio.sleep(0)
        return await asking

    def sleep(self) -> None:
        """Commands queue up until `wake`."""
        self._asleep = True

    def wake(self) -> None:
        self._asleep = False
        self._set_turn()
        self._put_tick()

    def doom(self, moment: Doom) -> None:
        """To die at the next commit: before it is on disk, or after, before anybody hears of it."""
        self._doom = moment

    def die(self) -> None:
        """Now, between two batches."""
        self._dead = self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._crash = Fault(DIED, "the machine was switched off", blame=Blame.ENVIRONMENT)
        self._on_death()
        self._on_crash(self._crash)
        self._set_ended()

    def _submit(self, entry: Any) -> None:
        super()._submit(entry)
        self._set_turn()

    def _set_turn(self) -> None:
        if not self._turn_set and not self._asleep:
            self._turn_set = True
            self._loop.call_later(COMMIT_S, self._on_turn)

    def _on_turn(self) -> None:
        self._turn_set = False
        if not self._asleep and not self._dead:
            self._turn()

    def _turn(self) -> None:
        if self._queue.empty():
            return
        asked, _ = self._next_batch()
        try:
            if self._doom == "before":
                self._refuse_dying(asked)
            else:
                self._run(self.engine, asked)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as on the thread: a panic in Rust, too
            self._fail(error)
        if not self._dead and not self._queue.empty():
            self._set_turn()

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        if self._doom == "after":
            self._refuse_dying(args[0])
        else:
            function(*args)

    def _refuse_dying(self, asked: Any) -> None:
        self.die()
        self._refuse(asked, self._ended_by())
