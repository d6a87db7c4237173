"""What theory says of pairs: the known cases of hole punching, and that order does not matter."""

from __future__ import annotations

import itertools

import pytest

from simulation.processes.nat.situations import (
    CASES,
    EXPLAINED,
    SITUATIONS,
    Case,
    Meeting,
    Reached,
    can_be_direct,
    chosen,
)


@pytest.mark.parametrize(
    ("one", "other", "direct"),
    [
        ("public", "symmetric", True),
        ("firewall", "port-restricted", True),
        ("port-restricted", "port-restricted", True),
        ("carrier", "carrier", True),
        ("full-cone", "symmetric", True),
        ("address-restricted", "symmetric", True),
        ("port-restricted", "symmetric", False),
        ("firewall", "symmetric", False),
        ("symmetric", "symmetric", False),
        ("public", "blocked", False),
    ],
)
def test_known_pairs(one: str, other: str, direct: bool) -> None:
    assert can_be_direct(SITUATIONS[one], SITUATIONS[other]) is direct


def test_who_is_named_first_does_not_matter() -> None:
    for one, other in itertools.product(SITUATIONS.values(), repeat=2):
        assert can_be_direct(one, other) is can_be_direct(other, one)


def test_without_a_relay_what_cannot_be_direct_waits() -> None:
    case = Case("symmetric", "symmetric", Meeting.PEER)
    assert case.theory is Reached.NOT
    assert Case("symmetric", "symmetric").theory is Reached.RELAY


def test_every_situation_is_paired_with_every_other() -> None:
    pairs = {frozenset((case.one, case.other)) for case in CASES if case.meeting is Meeting.RELAY}
    wanted = itertools.combinations_with_replacement(SITUATIONS, 2)
    assert {frozenset(pair) for pair in wanted} <= pairs


def test_a_choice_is_what_lies_between_the_chosen() -> None:
    assert chosen([]) == list(CASES)
    assert {case.name for case in chosen(["blocked", "same-lan"])} >= {"same-lan"}
    assert all(
        {case.one, case.other} <= {"public", "symmetric"}
        for case in chosen(["public", "symmetric"])
    )


def test_only_what_is_measured_is_explained() -> None:
    assert set(EXPLAINED) <= {case.name for case in CASES}
