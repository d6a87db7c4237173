"""A relay whose mailbox has no end, each page with more that looks right."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from node.delivery.limits import DEFAULT_DELIVERY_LIMITS
from node.delivery.mailbox import Mailbox
from node.delivery.relay_client import RelayClient
from node.engine.values import Accepted, Deferred, Verdict
from schemas.ids import ParcelId
from schemas.node_service import Mailbox as Page
from schemas.node_service import StoredParcel
from tests.node.delivery.support import stranger, within

PAGE = 8
END = 5_000  # pages; no test waits for more


class Endless:
    """What a mailbox needs of a relay's client."""

    def __init__(self) -> None:
        self.pages = 0
        self.acked = 0

    async def peek(self, after: int, limit: int) -> Page:
        self.pages += 1
        assert self.pages < END, "one look has no end"
        numbers = range(after + 1, after + 1 + PAGE)
        parcels = tuple(
            StoredParcel(n, ParcelId(n.to_bytes(16, "big")), 2**37, b"\1" * 40) for n in numbers
        )
        return Page(parcels, after + 1, 2**60, 0)

    async def ack(self, sequences: list[int]) -> None:
        self.acked += len(sequences)


def mailbox(verdict: Verdict) -> Mailbox:
    async def ask(command: object) -> Any:
        return verdict

    return Mailbox(stranger(), cast("Any", ask), DEFAULT_DELIVERY_LIMITS, Counter())


@pytest.mark.parametrize("verdict", [Accepted(), Deferred(60.0)], ids=lambda v: type(v).__name__)
async def test_one_look_has_an_end(verdict: Verdict) -> None:
    """Stopping, publishing and stocking have their turn between two looks."""
    relay = Endless()
    await within(mailbox(verdict).read(cast("RelayClient", relay)))
    assert relay.pages == DEFAULT_DELIVERY_LIMITS.poll_pages


async def test_what_is_put_off_is_bounded() -> None:
    limits = DEFAULT_DELIVERY_LIMITS
    relay, box = Endless(), mailbox(Deferred(60.0))
    for _ in range(2 + limits.deferred_at_relay // (PAGE * limits.poll_pages)):
        await within(box.read(cast("RelayClient", relay)))
    assert relay.pages * PAGE > limits.deferred_at_relay
    assert len(box._waiting) == limits.deferred_at_relay
    assert relay.acked == 0
