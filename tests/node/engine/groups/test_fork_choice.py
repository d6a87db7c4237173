"""Each clause of the rule, with the group that would break without it."""

from __future__ import annotations

import pytest

from node.engine.groups.fork_choice import RULES, H, Rule, choose, rank, undecided
from tests.node.engine.groups.trees import (
    GROUP,
    at,
    by_rank,
    device,
    head,
    made,
    said,
    tree,
)

NOBODY = said({})


def test_without_a_fork_the_chain_is_followed_to_its_end() -> None:
    line = tree("ada bob", *(made(n, n - 1, "ada") for n in range(1, 40)))
    assert head(line, NOBODY) == 39
    assert choose(line, NOBODY, lambda commit: commit <= at(7)) == at(7)


# --- votes


def test_most_votes_win_and_a_vote_below_counts_for_all_above() -> None:
    forked = tree(
        "ada bob cy dan eve",
        made(1, 0, "ada"),
        made(2, 0, "bob"),
        made(3, 2, "bob"),
        made(4, 3, "cy"),
    )
    assert head(forked, said({"ada": 1, "bob": 2, "cy": 3, "dan": 1, "eve": 4})) == 4
    assert head(forked, said({"ada": 1, "bob": 2, "cy": 1, "dan": 1, "eve": 4})) == 1


def test_a_statement_about_the_fork_itself_or_an_unknown_commit_takes_no_side() -> None:
    forked = tree("ada bob cy dan", made(1, 0, "ada"), made(2, 0, "bob"))
    for side in (1, 2):
        assert head(forked, said({"ada": side, "bob": 0, "cy": 77, "dan": 0})) == side


def test_a_statement_on_another_branch_says_nothing_about_the_forks_of_this_one() -> None:
    first, second = by_rank(20, "ada bob")
    for this, other in ((20, 30), (20, 10)):
        nodes = [made(this, 0, "ada"), made(other, 0, "bob")]
        nodes += [made(1, this, first), made(2, this, second)]
        words = {"ada": this, "cy": this, "dan": this, "bob": other, "eve": other}
        assert head(tree("ada bob cy dan eve", *nodes), said(words)) == 1


def test_a_person_has_one_vote_however_many_devices() -> None:
    names = "ada ada/2 ada/3 bob cy"
    forked = tree(names, made(1, 0, "ada"), made(2, 0, "bob"))
    assert head(forked, said({"ada": 1, "ada/2": 1, "ada/3": 1, "bob": 2, "cy": 2})) == 2


def test_a_person_is_for_what_most_of_her_devices_are_for_and_for_nothing_when_they_tie() -> None:
    first, second = by_rank(0, "ada bob")
    forked = tree(
        "ada ada/2 ada/3 bob bob/2 cy", made(1, 0, first), made(2, 0, second), made(3, 2, second)
    )
    most = {f"{second}/2": 2, "ada": 2, "bob": 2, "ada/2": 2, "ada/3": 1}
    assert head(forked, said(most)) == 3
    tie = {"ada": 1, "ada/2": 2}
    assert head(forked, said(tie)) == 1  # by rank: she is for nothing
    assert head(forked, said(tie | {"cy": 2})) == 3
    assert head(forked, said(tie | {"ada/3": 2})) == 3


def test_who_says_two_things_under_one_number_says_nothing() -> None:
    first, second = by_rank(0, "ada bob")
    forked = tree("ada bob cy", made(1, 0, first), made(2, 0, second))
    words = {second: 2, "cy": 2}
    assert head(forked, said(words)) == 2
    assert head(forked, said(words, two_faced=f"{second} cy")) == 1


def test_voters_are_the_members_of_the_forking_epoch() -> None:
    """Whom one branch adds has no say about that branch: else two could always bring a crowd."""
    first, second = by_rank(0, "ada bob")
    forked = tree(
        "ada bob", made(1, 0, first), made(2, 0, second, add="x y z"), made(3, 2, "x", add="w")
    )
    crowd = {"x": 3, "y": 3, "z": 3, "w": 3, second: 2, first: 1}
    assert head(forked, said(crowd)) == 1
    assert head(forked, said({**crowd, first: 3})) == 3  # who was there before may prefer it


def test_two_members_of_whom_one_adds_a_third_agree() -> None:
    """Voters of one's own head: each of the two counts another electorate, and they part."""
    first, second = by_rank(0, "ada bob")
    nodes = [made(1, 0, first), made(2, 0, second, add="cy")]
    words = said({first: 1, second: 2, "cy": 2})
    on_first = tree("ada bob", *nodes, anchor=1)
    on_second = tree("ada bob cy", *nodes, anchor=2)
    assert choose(on_first, words) == choose(on_second, words) == at(1)
    theirs = RULES["head-voters"]
    assert choose(on_first, words, rule=theirs) != choose(on_second, words, rule=theirs)


def test_whom_a_removal_hits_may_vote_against_it() -> None:
    """A rogue admin's late "remove everybody" has no vote but the rogue's own."""
    nodes = [made(1, 0, "ada"), made(2, 0, "rogue", remove="ada bob cy")]
    words = said({"ada": 1, "bob": 1, "cy": 1, "rogue": 2})
    forked = tree("ada bob cy rogue", *nodes)
    assert head(forked, words) == 1
    assert choose(forked, words, rule=RULES["targets-mute"]) == at(2)


def test_votes_come_before_removal_rank_and_hash() -> None:
    """One late commit must not undo eight that everybody stands on."""
    first, second = by_rank(0, "ada bob")
    nodes = [made(n, n - 1 if n > 11 else 0, second) for n in range(11, 19)]
    late = made(1, 0, first, remove="cy")
    words = said({"ada": 18, "bob": 18, "cy": 18})
    forked = tree("ada bob cy", *nodes, late)
    assert head(forked, words) == 18
    assert choose(forked, words, rule=RULES["static-order"]) == at(1)


def test_a_lone_fast_insider_does_not_outrun_the_group() -> None:
    nodes = [made(1, 0, "ada"), made(10, 0, "rogue")]
    nodes += [made(n, n - 1, "rogue") for n in range(11, 60)]
    forked = tree("ada bob cy rogue", *nodes)
    words = said({"ada": 1, "bob": 1, "rogue": 59})
    assert head(forked, words) == 1
    assert choose(forked, words, rule=RULES["longest-chain"]) == at(59)


# --- equal votes


def test_two_members_with_a_commit_each_meet_on_one() -> None:
    """Whoever keeps its own until it is outweighed keeps it for ever."""
    nodes = [made(1, 0, "ada"), made(2, 0, "bob")]
    words = said({"ada": 1, "bob": 2})
    trees = [tree("ada bob", *nodes, anchor=own) for own in (1, 2)]
    assert len({choose(mine, words) for mine in trees}) == 1
    assert len({choose(mine, words, rule=RULES["sticky"]) for mine in trees}) == 2


def test_equal_votes_go_to_a_removal_then_rank_then_hash() -> None:
    first, second = by_rank(0, "ada bob")
    removal = made(9, 0, second, remove="cy")
    by_first = made(8, 0, first)
    again = made(7, 0, first)
    assert head(tree("ada bob cy", by_first, removal), NOBODY) == 9
    assert head(tree("ada bob cy", by_first, made(2, 0, second)), NOBODY) == 8
    assert head(tree("ada bob cy", by_first, again), NOBODY) == 7


def test_a_readmission_is_no_removal() -> None:
    first, second = by_rank(0, "ada bob")
    readmission = made(2, 0, second, add="cy", remove="cy")
    assert head(tree("ada bob cy", made(1, 0, first), readmission), NOBODY) == 1


def test_rank_is_another_at_each_parent_and_group() -> None:
    """Else one member would win every tie."""
    people = "ada bob cy dan eve"
    assert len({by_rank(parent, people)[0] for parent in range(40)}) == 5
    assert rank(GROUP, at(0), device("ada")) != rank(GROUP, at(1), device("ada"))


# --- many siblings of one author


def test_a_third_sibling_that_no_other_person_is_for_does_not_stand() -> None:
    """Not for its place in the order of arrival, which differs; and its author cannot lift it."""
    names = "ada ada/2 ada/3 bob"
    nodes = [made(n, 0, "ada") for n in (3, 1, 2)]
    own = {"ada": 3, "ada/2": 3, "ada/3": 3}
    assert head(tree(names, *nodes), said(own)) == 1
    assert head(tree(names, *nodes), said(own | {"bob": 3})) == 3


def test_siblings_by_arrival_part_the_group() -> None:
    nodes = [made(n, 0, "ada") for n in (1, 2, 3)]
    words = said({"bob": 3})
    late, early = tree("ada bob", *nodes), tree("ada bob", *reversed(nodes))
    assert choose(late, words) == choose(early, words) == at(3)
    theirs = RULES["first-siblings"]
    assert choose(late, words, rule=theirs) != choose(early, words, rule=theirs)


def test_a_late_third_sibling_does_not_void_honest_work_on_the_first() -> None:
    nodes = [made(1, 0, "rogue"), made(2, 0, "rogue"), made(4, 1, "ada"), made(5, 4, "bob")]
    words = said({"ada": 5, "bob": 5})
    forked = tree("ada bob rogue", *nodes, made(3, 0, "rogue"))
    assert head(forked, words) == 5
    assert choose(forked, words, rule=RULES["void-siblings"]) == at(0)


def test_a_flood_of_siblings_is_looked_at_twice_at_most() -> None:
    """Whether one can enter a branch is dear to find out: two, and what each voter is for."""
    flood = tree("ada bob cy", *(made(n, 0, "ada") for n in range(1, 3000)))
    asked = []

    def enterable(commit: bytes) -> bool:
        asked.append(commit)
        return True

    assert choose(flood, said({"bob": 70, "cy": 80}), enterable) == at(70)
    assert asked == [at(1), at(2), at(70), at(80)]


# --- what one can enter


def test_only_what_is_allowed_is_chosen_and_votes_are_counted_as_ever() -> None:
    nodes = [made(1, 0, "ada"), made(2, 0, "bob"), made(3, 0, "cy")]
    forked = tree("ada bob cy dan dan/2 dan/3", *nodes)
    words = said({"ada": 1, "bob": 1, "cy": 2, "dan": 1, "dan/2": 1, "dan/3": 3})
    assert head(forked, words) == 1
    # dan is for 1 also where that is not allowed: one of dan's three devices is no vote for 3
    assert choose(forked, words, lambda commit: commit != at(1)) == at(2)
    assert choose(forked, words, lambda commit: commit == at(3)) == at(3)
    assert choose(forked, words, lambda _: False) == at(0)


# --- what is left to say


def test_a_fork_on_my_way_that_my_statement_leaves_open_is_named() -> None:
    names = "ada bob"
    nodes = [
        *(made(1, 0, "ada"), made(2, 0, "bob"), made(3, 1, "ada", add="cy")),
        *(made(4, 3, "cy"), made(5, 3, "ada"), made(6, 4, "ada"), made(7, 5, "bob")),
    ]
    forked = tree(names, *nodes)
    assert forked.forks() == (at(0), at(3))
    ada, cy = device("ada"), device("cy")
    assert undecided(forked, at(6), None, ada) == (at(0), at(3))
    assert undecided(forked, at(6), at(99), ada) == (at(0), at(3))  # about nothing known
    assert undecided(forked, at(6), at(0), ada) == (at(0), at(3))  # the fork itself
    assert undecided(forked, at(6), at(2), ada) == (at(3),)  # the other side is a side
    assert undecided(forked, at(6), at(3), ada) == (at(3),)
    assert undecided(forked, at(6), at(7), ada) == ()
    assert undecided(forked, at(6), None, cy) == (at(3),)  # was not there at the first
    assert undecided(forked, at(3), None, ada) == (at(0),)  # the head is nothing to decide yet
    assert undecided(forked, at(6), None, device("eve")) == ()


# --- the options


def test_every_alternative_differs_from_the_rule_in_its_own_option() -> None:
    assert RULES["H"] == H == Rule()
    assert len(set(RULES.values())) == len(RULES)


@pytest.mark.parametrize("name", RULES)
def test_every_alternative_runs(name: str) -> None:
    nodes = [
        made(n, n // 3, person) for n in range(1, 30) for person in [["ada", "bob", "cy"][n % 3]]
    ]
    assert head(tree("ada bob cy", *nodes), NOBODY) > 0
    assert choose(tree("ada bob cy", *nodes), NOBODY, rule=RULES[name]) in {
        at(n) for n in range(30)
    }
