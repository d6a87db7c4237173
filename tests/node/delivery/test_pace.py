"""What others say of our address may change often; our record does not follow each word."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

from discovery.resolver import Found
from node.delivery.candidates import Candidates
from node.delivery.limits import DeliveryLimits
from node.delivery.whereabouts import Pace, Whereabouts
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.ids import DeviceKey

LIMITS = dataclasses.replace(
    DeliveryLimits(), look_at_addresses_s=0.02, publish_again_s=(0.3, 10.0)
)


def test_the_pauses_grow_while_it_goes_on_and_are_forgotten_in_quiet() -> None:
    now = 0.0
    pace = Pace((5.0, 300.0), lambda: now)
    done = []
    for second in range(200):
        now = float(second)
        if pace.due():
            pace.done()
            done.append(second)
    assert done == [0, 5, 15, 35, 75, 155]
    now = 10_000.0
    assert pace.due()
    pace.done()
    now = 10_005.0
    assert pace.due()


def punched(port: int) -> tuple[Address, ...]:
    return (Address("11.0.0.1", port),)


class Records:
    """An engine that counts records, and a clock that can be set."""

    def __init__(self) -> None:
        self.signed = 0
        self.now = 1_800_000_000.0

    async def __call__(self, command: object) -> object:
        self.signed += 1
        return None


async def watched(records: Records, seconds: float, *, flapping: bool) -> None:
    where = Whereabouts(
        records,  # type: ignore[arg-type]
        Address("127.0.0.1", 7000),
        LIMITS,
        Counter(),
        lambda: records.now,
        lambda: None,
    )
    task = asyncio.create_task(where.run())
    for turn in range(int(seconds / 0.01)):
        if flapping:
            where.observed(punched(1000 + turn))
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_relay_that_sees_us_elsewhere_each_moment_makes_few_records() -> None:
    records = Records()
    await watched(records, 1.5, flapping=True)
    assert 1 <= records.signed <= 4


async def test_a_clock_set_back_has_the_record_signed_anew() -> None:
    records = Records()

    async def back() -> None:
        await asyncio.sleep(0.1)
        records.now -= 7200.0

    await asyncio.gather(watched(records, 0.4, flapping=False), back())
    assert records.signed == 1


def test_a_neighbour_who_names_ever_new_addresses_does_not_fill_the_memory() -> None:
    candidates, device = Candidates(lambda: 0.0, 10), DeviceKey(bytes(32))
    for number in range(1000):
        address = Address(f"192.168.{number // 250}.{number % 250}", 7000)
        found = Found(EndpointAddress(address, AddressKind.LAN), ("mdns",), float(number))
        candidates.found(device, [found], all_there_is=False)
    kept = candidates.of(device)
    assert len(kept) == 32
    assert kept[-1].endpoint.address == address
