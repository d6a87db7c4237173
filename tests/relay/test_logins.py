"""Logins halfway: a flood of them is bounded and counted, and drives nobody else's out."""

from __future__ import annotations

import math
import os
from typing import cast

import pytest
from opaque_ke import ServerLogin

from relay.guesses import Guesses
from relay.limits import RelayLimits
from relay.logins import PENDING_S, PendingLogins
from relay.refusals import TryLater
from schemas.ids import DeviceKey

SERVER = cast(ServerLogin, None)  # kept, not used
ANN = DeviceKey(os.urandom(32))
HERE, THERE = b"here", b"there"


class Ticking:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


def pending_of(clock: Ticking, *, most: int = 10, per_prefix: int = 4) -> PendingLogins:
    limits = RelayLimits(pending_logins=most, pending_logins_per_prefix=per_prefix)
    return PendingLogins(limits, clock)


def test_a_login_is_taken_once_by_its_own_device(clock: Ticking) -> None:
    pending = pending_of(clock)
    id = pending.add(SERVER, None, ANN, HERE)
    assert pending.take(id, DeviceKey(bytes(32))) is None
    assert pending.take(id, ANN) is not None, "nobody else's try uses it up"
    assert pending.take(id, ANN) is None
    assert len(pending) == 0


def test_a_flood_from_one_place_pushes_out_its_own(clock: Ticking) -> None:
    pending = pending_of(clock)
    mine = pending.add(SERVER, None, ANN, HERE)
    for _ in range(1_000):
        pending.add(SERVER, None, DeviceKey(os.urandom(32)), THERE)
    assert len(pending) == 5
    assert pending.counters["pushed-out-of-prefix"] == 996
    assert pending.take(mine, ANN) is not None


def test_a_flood_from_everywhere_is_bounded_in_all(clock: Ticking) -> None:
    pending = pending_of(clock)
    for number in range(1_000):
        pending.add(SERVER, None, DeviceKey(os.urandom(32)), number.to_bytes(4))
    assert len(pending) == len(pending._of_prefix) == 10
    assert pending.counters["pushed-out"] == 990
    mine = pending.add(SERVER, None, ANN, HERE)
    assert pending.take(mine, ANN) is not None, "who answers at once still gets in"


def test_what_is_not_finished_goes_by_itself(clock: Ticking) -> None:
    pending = pending_of(clock)
    id = pending.add(SERVER, None, ANN, HERE)
    clock.now = PENDING_S - 1
    later = pending.add(SERVER, None, ANN, None)
    clock.now = PENDING_S
    assert pending.take(id, ANN) is None
    assert pending.take(later, ANN) is not None
    assert pending.counters["expired"] == 1
    assert pending._of_prefix == {}


def test_who_waits_as_long_as_was_told_may_try_again(clock: Ticking) -> None:
    limits = RelayLimits(prefix_name_logins_burst=3, prefix_name_logins_per_hour=60)
    guesses = Guesses(limits, clock)
    for _ in range(3):
        guesses.use("ann", HERE)
    with pytest.raises(TryLater) as refused:
        guesses.use("ann", HERE)
    wait_s = refused.value.retry_after_ms / 1000
    assert refused.value.hint == f"try again in {math.ceil(wait_s)} s"
    clock.now += wait_s
    guesses.use("ann", HERE)
