"""The desk where couriers report: nothing that one outcome is keeps another from the disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from node.delivery import outcomes
from node.delivery.outcomes import OutcomeDesk
from node.engine.delivery_commands import Outcome, ReportOutcomes
from schemas.errors import Blame, Fault
from schemas.ids import ParcelId
from tests.node.delivery.support import within

INTERNAL = Fault("internal", "this program failed", blame=Blame.CALLER)
FULL = Fault("disk-full", "no space is left", blame=Blame.ENVIRONMENT)


class Engine:
    """Writes outcomes, all of a command or none."""

    def __init__(self) -> None:
        self.fault: Callable[[Outcome], Fault | None] = lambda outcome: None
        self.written: list[Outcome] = []
        self.asked = 0

    async def ask(self, command: ReportOutcomes) -> None:
        self.asked += 1
        for outcome in command.outcomes:
            if (fault := self.fault(outcome)) is not None:
                raise fault.with_traceback(None)
        self.written += command.outcomes


@asynccontextmanager
async def desk_of(engine: Engine) -> AsyncIterator[tuple[OutcomeDesk, Counter[str]]]:
    counters: Counter[str] = Counter()
    desk = OutcomeDesk(cast("Any", engine.ask), counters)
    running = asyncio.create_task(desk.run())
    yield desk, counters
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def acked(numbers: range) -> list[Outcome]:
    return [Outcome(ParcelId(n.to_bytes(16, "big")), acked=True) for n in numbers]


@pytest.mark.parametrize(
    "bad", [{0}, {299}, {7, 8, 260}, set(range(300))], ids=lambda bad: f"{len(bad)}-{min(bad)}"
)
async def test_one_that_the_engine_fails_on_holds_up_no_other(
    bad: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    engine, all_of_them = Engine(), acked(range(300))
    spoilt = [all_of_them[n] for n in sorted(bad)]
    engine.fault = lambda outcome: INTERNAL if outcome in spoilt else None
    async with desk_of(engine) as (desk, counters):
        for outcome in all_of_them:
            desk.report(outcome)
        await within(desk.settled())
    whole = [outcome for outcome in engine.written if outcome.acked]
    assert whole == [outcome for outcome in all_of_them if outcome not in spoilt], "each once"
    again = [outcome for outcome in engine.written if not outcome.acked]
    assert again == [Outcome(each.parcel, reason="internal") for each in spoilt], "taken for ever"
    assert counters["outcome-dropped"] == len(spoilt)
    assert caplog.text.count("was dropped") == len(spoilt)
    assert engine.asked < 40 + 4 * len(spoilt)


async def test_a_parcel_of_which_nothing_can_be_written_is_given_up() -> None:
    engine = Engine()
    first, second = acked(range(2))
    engine.fault = lambda outcome: INTERNAL if outcome.parcel == first.parcel else None
    async with desk_of(engine) as (desk, counters):
        desk.report(first)
        desk.report(second)
        await within(desk.settled())
    assert engine.written == [second]
    assert counters["outcome-dropped"] == 2


async def test_a_full_disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "_AGAIN_S", 0.01)
    engine, all_of_them = Engine(), acked(range(300))
    engine.fault = lambda outcome: FULL if engine.asked < 5 else None
    async with desk_of(engine) as (desk, counters):
        for outcome in all_of_them:
            desk.report(outcome)
        await within(desk.settled())
    assert engine.written == all_of_them
    assert counters == {"outcomes-disk-full": 4}
