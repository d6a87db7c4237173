"""The engine's thread: what breaks here loses commands, or answers before they are on disk."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from node.engine.commands import Command, Tick, WhoAmI
from node.engine.delivery_commands import PendingCount
from node.engine.values import Effect, KeyPackagesLow, OutboxReady
from node.engine_thread import EngineThread
from schemas.errors import Fault, Refused
from tests.node.delivery.support import Answered, eventually, within


class Engine:
    """Counts; `gate` holds a commit, `fail` crashes on a command, `wake_at` asks for a Tick."""

    def __init__(self) -> None:
        self.batches: list[list[Command[Any]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fail: type | None = None
        self.disk_full = False
        self.wake_at: float | None = None
        self.thread: int | None = None
        self.closed = False

    def run(self, batch: Sequence[Command[Any]], now: float) -> Answered:
        self.thread = threading.get_ident()
        assert self.gate.wait(10)
        if self.disk_full:
            raise Refused("disk-full", "full")
        if self.fail is not None and any(isinstance(each, self.fail) for each in batch):
            raise ZeroDivisionError("a bug")
        self.batches.append(list(batch))
        effects: tuple[Effect, ...] = (KeyPackagesLow(), OutboxReady(frozenset()))
        answers = [
            Refused("no", "no") if isinstance(each, WhoAmI) else len(self.batches) for each in batch
        ]
        return Answered(tuple(answers), effects, self.wake_at)


@contextmanager
def opened(engine: Engine) -> Iterator[Engine]:
    yield engine
    engine.closed = True


async def started(engine: Engine, effects: list[Effect], **options: Any) -> EngineThread[Engine]:
    thread = EngineThread(lambda: opened(engine), effects.append, **options)
    await within(thread.start())
    await eventually(lambda: engine.batches)  # the first Tick
    return thread


async def test_commands_that_queue_behind_a_commit_share_the_next_one() -> None:
    """Otherwise each message waits for an fsync of its own."""
    engine, effects = Engine(), list[Effect]()
    thread = await started(engine, effects, batch=50)
    engine.gate.clear()
    asks = [asyncio.ensure_future(thread.ask(PendingCount())) for _ in range(120)]
    await asyncio.sleep(0)
    engine.gate.set()
    await within(asyncio.gather(*asks))
    sizes = [len(batch) for batch in engine.batches[1:]]
    assert sum(sizes) == 120
    assert max(sizes) == 50, "a batch is bounded"
    assert len(sizes) <= 4
    assert engine.thread != threading.get_ident()
    await within(thread.stop())


async def test_an_answer_comes_only_after_the_commit_and_after_its_effects() -> None:
    """The journal rule: nothing is acknowledged before it is on disk."""
    engine, effects = Engine(), list[Effect]()
    thread = await started(engine, effects)
    effects.clear()
    engine.gate.clear()
    ask = asyncio.ensure_future(thread.ask(PendingCount()))
    done, _ = await asyncio.wait({ask}, timeout=0.05)
    assert not done
    assert not effects
    engine.gate.set()
    await within(ask)
    assert effects == [KeyPackagesLow(), OutboxReady(frozenset())]
    await within(thread.stop())


async def test_a_refusal_reaches_its_asker_alone() -> None:
    engine, effects = Engine(), list[Effect]()
    thread = await started(engine, effects)
    good = asyncio.ensure_future(thread.ask(PendingCount()))
    with pytest.raises(Refused):
        await within(thread.ask(WhoAmI()))
    assert isinstance(await within(good), int)
    await within(thread.stop())


async def test_a_bug_fails_the_command_it_is_in_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One bad command must not take down what happened to queue beside it."""
    engine, effects = Engine(), list[Effect]()
    thread = await started(engine, effects)
    engine.fail = WhoAmI
    engine.gate.clear()
    with caplog.at_level(logging.ERROR):
        good = asyncio.ensure_future(thread.ask(PendingCount()))
        bad = asyncio.ensure_future(thread.ask(WhoAmI()))
        await asyncio.sleep(0)
        engine.gate.set()
        with pytest.raises(Fault) as fault:
            await within(bad)
    assert isinstance(await within(good), int)
    assert fault.value.code == "internal"
    assert "ZeroDivisionError" in caplog.text, "the traceback is in the log"
    assert await within(thread.ask(PendingCount())), "the thread lives on"
    await within(thread.stop())


async def test_a_full_disk_refuses_the_whole_batch_and_is_survived() -> None:
    engine, effects = Engine(), list[Effect]()
    thread = await started(engine, effects)
    engine.disk_full = True
    engine.gate.clear()  # so that the others become one batch
    asks = [asyncio.ensure_future(thread.ask(PendingCount())) for _ in range(5)]
    await asyncio.sleep(0)
    engine.gate.set()
    ends = await within(asyncio.gather(*asks, return_exceptions=True))
    assert [end.code for end in ends if isinstance(end, Refused)] == ["disk-full"] * 5
    engine.disk_full = False
    assert await within(thread.ask(PendingCount()))
    await within(thread.stop())


async def test_stopping_finishes_what_is_queued_and_refuses_what_comes_after() -> None:
    engine, effects = Engine(), list[Effect]()
    thread = await started(engine, effects)
    engine.gate.clear()
    ask = asyncio.ensure_future(thread.ask(PendingCount()))
    await asyncio.sleep(0)
    stop = asyncio.ensure_future(thread.stop())
    await asyncio.sleep(0)
    with pytest.raises(Fault) as fault:
        await thread.ask(PendingCount())
    assert fault.value.code == "engine-stopped"
    engine.gate.set()
    assert isinstance(await within(ask), int)
    await within(stop)
    assert engine.closed
    await within(thread.stop())


async def test_the_engine_is_woken_when_it_wants() -> None:
    """Or retries and expiry would wait for somebody to type something."""
    engine, effects = Engine(), list[Effect]()
    engine.wake_at = 0.0
    thread = await started(engine, effects)
    await eventually(lambda: len(engine.batches) >= 3)
    assert all(isinstance(each, Tick) for batch in engine.batches for each in batch)
    await within(thread.stop())


async def test_what_goes_wrong_when_opening_reaches_whoever_starts() -> None:
    @contextmanager
    def broken() -> Iterator[Engine]:
        raise Refused("no-account", "none")
        yield

    thread = EngineThread(broken, lambda effect: None)
    with pytest.raises(Refused):
        await within(thread.start())


class Panic(BaseException):
    """As PyO3's PanicException: no Exception."""


async def test_a_panic_of_the_engine_is_told_to_all_who_wait_and_ends_the_node() -> None:
    """A node without its engine would look alive, and take nothing."""
    engine, effects = Engine(), list[Effect]()
    crashes: list[Fault] = []

    def run(batch: Sequence[Command[Any]], now: float) -> Any:
        if any(isinstance(command, WhoAmI) for command in batch):
            raise Panic
        return Engine.run(engine, batch, now)

    thread = await started(engine, effects, on_crash=crashes.append)
    engine.run = run  # type: ignore[method-assign]
    with pytest.raises(Fault) as caught:
        await within(thread.ask(WhoAmI()))
    assert caught.value.code == "engine-crashed"
    with pytest.raises(Fault) as caught:
        await within(thread.ask(PendingCount()))
    assert caught.value.code == "engine-crashed"
    assert [crash.code for crash in crashes] == ["engine-crashed"]
    await within(thread.stop())
