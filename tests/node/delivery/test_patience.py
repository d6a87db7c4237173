"""How long a message waits for a direct path depends on what came of the last ones."""

from __future__ import annotations

from node.delivery.limits import DEFAULT_DELIVERY_LIMITS as LIMITS
from node.delivery.link import CONNECTION_LOST, NOT_ACKNOWLEDGED
from node.delivery.patience import Patience
from node.engine.delivery_commands import Outcome
from schemas.ids import DeviceKey, ParcelId

PEER, OTHER = DeviceKey(bytes(32)), DeviceKey(bytes([1] * 32))
PARCEL = ParcelId(bytes(16))


def patience() -> Patience:
    return Patience(LIMITS, lambda: 0.0)


def test_what_a_broken_path_had_goes_to_the_relay_soon() -> None:
    ours = patience()
    assert ours.wait_s(PEER) == LIMITS.relay_fallback_s
    ours.note(PEER, Outcome(PARCEL, reason=CONNECTION_LOST))
    assert ours.wait_s(PEER) == LIMITS.relay_fallback_lost_s < LIMITS.relay_fallback_s
    assert ours.wait_s(OTHER) == LIMITS.relay_fallback_s
    assert not ours.at_an_end(PEER)


def test_a_path_that_works_again_is_waited_for_again() -> None:
    ours = patience()
    ours.note(PEER, Outcome(PARCEL, reason=CONNECTION_LOST))
    ours.note(PEER, Outcome(PARCEL, acked=True))
    assert ours.wait_s(PEER) == LIMITS.relay_fallback_s


def test_a_device_that_acknowledges_nothing_is_not_asked_first() -> None:
    ours = patience()
    ours.note(PEER, Outcome(PARCEL, reason=NOT_ACKNOWLEDGED))
    assert ours.at_an_end(PEER)
