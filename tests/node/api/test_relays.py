"""Which relay is meant, and what is said of those that we left."""

from __future__ import annotations

import pytest

from node.api import operations as op
from node.api import shapes as s
from node.api.relay_service import chosen, relay_handlers
from node.views import RelayView
from schemas.errors import Refused
from tests.node.api.fake_node import FakeNode

ONE = f"one.example:7000,10.0.0.1:7001#{'abcd12' + '00' * 29}"
TWO = f"two.example:7000#{'abcd34' + '00' * 29}"
RELAYS = [
    RelayView(ONE, 1, "connected", None, 5),
    RelayView(TWO, None, "unreachable", "dial-timeout", None, 10.0, 20.0),
]


@pytest.mark.parametrize(
    "text", [ONE, "one.example:7000", "10.0.0.1:7001", "abcd12", "ABCD12", f" {ONE} "]
)
def test_a_relay_is_named_by_address_place_or_key(text: str) -> None:
    assert chosen(text, RELAYS) == ONE


def test_the_key_says_which_relay_it_is_whatever_the_place() -> None:
    assert chosen("elsewhere:1#" + TWO.partition("#")[2], RELAYS) == TWO


@pytest.mark.parametrize("text", ["three.example:7000", "abcd", "abcd1", "ffffff", "one.example"])
def test_what_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        chosen(text, RELAYS)
    assert refused.value.code == "not-our-relay"


def test_one_place_may_be_several_relays() -> None:
    again = RelayView(f"two.example:7000#{'ee' * 32}", 2, "connected", None, None)
    with pytest.raises(Refused) as refused:
        chosen("two.example:7000", [*RELAYS, again])
    assert refused.value.code == "ambiguous-relay"


async def test_times_and_states_are_told() -> None:
    class Node(FakeNode):
        async def relays(self) -> tuple[RelayView, ...]:
            return tuple(RELAYS)

    ours, left = await relay_handlers(Node())[op.RELAYS.name](s.Nothing())
    assert (ours.order, ours.state, ours.refused_since) == (
        1,
        "connected",
        "1970-01-01T00:00:05.000Z",
    )
    assert (left.order, left.reason, left.left_at) == (
        None,
        "dial-timeout",
        "1970-01-01T00:00:10.000Z",
    )
    assert left.read_until == "1970-01-01T00:00:20.000Z"
