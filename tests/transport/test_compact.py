"""What is small while it is not in use does what the large ones do."""

from __future__ import annotations

import asyncio
import random
import sys
import time

import pytest
from aioquic._crypto import AEAD, CryptoError
from aioquic.quic.recovery import QuicPacketNumberWindow

from transport import compact
from transport.compact import PausingAead, Queue, ReceivedNumbers, Signal


def test_a_queue_keeps_order_and_nothing_when_empty() -> None:
    queue: Queue[int] = Queue()
    empty = sys.getsizeof(queue)
    for each in (2, 3):
        queue.append(each)
    queue.appendleft(1)
    assert (queue[0], len(queue), list(queue)) == (1, 3, [1, 2, 3])
    assert [queue.popleft() for _ in range(3)] == [1, 2, 3]
    assert (bool(queue), queue._items, empty < 100) == (False, None, True)
    with pytest.raises(IndexError):
        queue.popleft()
    queue.append(4)
    queue.clear()
    assert list(queue) == []


def test_a_queue_has_a_bound() -> None:
    queue: Queue[int] = Queue(2)
    for each in range(5):
        queue.append(each)
    assert list(queue) == [3, 4]


async def test_a_signal_wakes_all_who_wait_and_who_comes_later() -> None:
    signal = Signal()
    tasks = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    signal.set()
    signal.clear()  # who waited is woken all the same
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in ends] == [True, False, False]
    later = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not later.done()
    signal.set()
    await later
    await signal.wait()
    assert signal.is_set()
    assert not signal._waiters


@pytest.mark.parametrize("seed", range(20))
def test_received_numbers_are_those_of_aioquic(seed: int) -> None:
    chance = random.Random(seed)
    theirs = QuicPacketNumberWindow()
    number = 0
    for _ in range(chance.randrange(300)):
        number += chance.choice((0, 1, 1, 1, 2, 5))
        theirs.add(number)
    ours = ReceivedNumbers(theirs)
    for _ in range(500):
        number += chance.choice((0, 1, 1, 1, 1, 3, 127, 128, 129, 1 << 61))
        for each in (number, max(0, number - chance.randrange(300))):
            assert (each in ours) == (each in theirs), each
            ours.add(each)
            theirs.add(each)
        for back in (0, 1, 2, 126, 127, 128, 129, 300):
            each = max(0, number - back)
            assert (each in ours) == (each in theirs)
    assert sys.getsizeof(ours._bits) < 64


def test_an_aead_that_pauses_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = b"aes-256-gcm", bytes(range(32)), bytes(range(12))
    ours, theirs = PausingAead(*made), AEAD(*made)
    for number in range(6):
        sealed = ours.encrypt(b"text", b"header", number)
        assert sealed == theirs.encrypt(b"text", b"header", number)
        assert ours.decrypt(sealed, b"header", number) == b"text"
        with pytest.raises(CryptoError):
            ours.decrypt(sealed, b"another", number)
    assert ours._aead is not None, "packets follow one another"
    now += 2 * compact._PAUSE_S
    ours.encrypt(b"ping", b"", 7)
    assert ours._aead is None
