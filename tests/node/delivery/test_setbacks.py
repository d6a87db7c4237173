"""How long a process that failed comes after the others of its relay."""

from __future__ import annotations

import pytest

from node.delivery.limits import DeliveryLimits
from node.delivery.setbacks import ProcessKey, Setbacks
from schemas.addresses import Address
from schemas.ids import DeviceKey

LIMITS = DeliveryLimits()
FIRST_S = (0.75 * LIMITS.relay_return_first_s, 1.25 * LIMITS.relay_return_first_s)
PROCESS: ProcessKey = DeviceKey(bytes(32)), Address("192.0.2.1", 443)


class Clocked:
    """Setbacks under a clock of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.setbacks = Setbacks(LIMITS)
        monkeypatch.setattr(self.setbacks, "_clock", lambda: self.now)

    def fails(self, *, dialed_at: float, at: float) -> float:
        """Seconds from now for which it yields."""
        self.now = at
        self.setbacks.note(PROCESS, dialed_at)
        return self.setbacks.until(PROCESS) - at


@pytest.fixture
async def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    return Clocked(monkeypatch)


async def test_a_moment_that_many_dials_saw_is_one_setback(clocked: Clocked) -> None:
    """Each recipient's guise dials the same process: one restart would count sixteen times."""
    dials = [(1000.0 + n / 8, 1003.0 + n / 8) for n in range(16)]
    for dialed_at, at in dials:
        clocked.fails(dialed_at=dialed_at, at=at)
    pause = clocked.setbacks.until(PROCESS) - dials[0][1]
    assert FIRST_S[0] <= pause <= FIRST_S[1]


async def test_a_dial_of_that_moment_that_fails_long_after_counts_no_more(
    clocked: Clocked,
) -> None:
    clocked.fails(dialed_at=1000.0, at=1003.0)
    until = clocked.setbacks.until(PROCESS)
    clocked.fails(dialed_at=1002.0, at=until + 5.0)
    assert clocked.setbacks.until(PROCESS) == until


async def test_each_try_that_fails_after_the_pause_doubles_it(clocked: Clocked) -> None:
    clocked.fails(dialed_at=1000.0, at=1003.0)
    for times in (2, 4, 8):
        again = clocked.setbacks.until(PROCESS)
        pause = clocked.fails(dialed_at=again, at=again + 3.0)
        assert times * FIRST_S[0] <= pause <= times * FIRST_S[1]
    again = clocked.setbacks.until(PROCESS) + LIMITS.relay_steady_s
    pause = clocked.fails(dialed_at=again, at=again + 3.0)
    assert FIRST_S[0] <= pause <= FIRST_S[1], "it was well for long"


async def test_on_another_network_nothing_is_held_against_it(clocked: Clocked) -> None:
    clocked.fails(dialed_at=1000.0, at=1003.0)
    clocked.setbacks.clear()
    assert not clocked.setbacks.until(PROCESS)
    pause = clocked.fails(dialed_at=1004.0, at=1007.0)
    assert FIRST_S[0] <= pause <= FIRST_S[1]
