"""A router that lost its mappings is noticed by its clock, and one that did not is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.port_mapping.epoch import Epoch


@pytest.mark.parametrize(
    ("epoch_s", "now", "lost"),
    [
        (1_600, 1_600.0, False),
        (1_598, 1_600.0, False),  # slack of 2 s
        (1_000, 1_600.0, True),  # stood still
        (3, 1_600.0, True),  # began anew
        (990, 1_000.0, True),  # went back
        (999, 1_000.0, False),  # by 1 s: answers overtook each other
        (9_000, 1_600.0, True),  # ran far ahead: another router
    ],
)
def test_as_the_rfc_has_it(epoch_s: int, now: float, lost: bool) -> None:
    epoch = Epoch()
    assert not epoch.lost_state(1_000, 1_000.0)
    assert epoch.lost_state(epoch_s, now) is lost


@given(st.lists(st.integers(0, 7_200), max_size=20), st.floats(15 / 16, 16 / 15))
def test_a_clock_that_is_a_little_off_never_looks_like_a_loss(
    steps: list[int], speed: float
) -> None:
    epoch, client, server = Epoch(), 0.0, 0.0
    for step in steps:
        client += step
        server += step * speed
        assert not epoch.lost_state(int(server), client)
