"""What holds of the choice for any tree, statements and order of arrival."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.groups.fork_choice import Node, Tree, Votes, choose
from schemas.ids import CommitHash, DeviceKey, IdentityKey
from tests.node.engine.groups.trees import (
    FOUNDERS,
    GROUP,
    PEOPLE,
    at,
    ballots,
    device,
    garbage,
    histories,
    roster,
    tree,
)

many = settings(max_examples=300, deadline=None)


def plainly(
    nodes: Sequence[Node],
    founders: Mapping[DeviceKey, IdentityKey],
    votes: Votes,
    allowed: Callable[[CommitHash], bool],
) -> CommitHash:
    """The rule again, word by word from its text: slow, and sharing no line with the module."""

    def descend(at_: CommitHash, members: Mapping[DeviceKey, IdentityKey]) -> CommitHash:
        valid = {node.hash: node for node in nodes if node.parent == at_ and fits(node, members)}
        votes_of = {person: opinion(person, valid, members) for person in set(members.values())}
        kids = []
        for commit, node in valid.items():
            own = sorted(other for other in valid if valid[other].author == node.author)
            others = [p for p in votes_of if p != members[node.author] and votes_of[p] == commit]
            if (len(own) <= 2 or commit in own[:2] or others) and allowed(commit):
                kids.append(commit)
        for winner in sorted(kids, key=lambda kid: strength(valid[kid], votes_of)):
            node = valid[winner]
            stay = {d: p for d, p in members.items() if d not in {r.device for r in node.removed}}
            return descend(winner, stay | {r.device: r.identity for r in node.added})
        return at_

    def fits(node: Node, members: Mapping[DeviceKey, IdentityKey]) -> bool:
        added = [ref.device for ref in node.added]
        removed = [ref.device for ref in node.removed]
        return (
            node.author in members
            and (node.author not in removed or node.author in added)
            and all(one in members for one in removed)
            and all(one not in members or one in removed for one in added)
        )

    def opinion(
        person: IdentityKey, valid: Mapping[CommitHash, Node], members: Mapping[DeviceKey, object]
    ) -> CommitHash | None:
        counts = dict.fromkeys(valid, 0)
        for voter, commit in votes.statements.items():
            if members.get(voter) == person and voter not in votes.equivocators:
                for child in valid:
                    counts[child] += child in ancestry(commit)
        top = sorted(counts.values(), reverse=True)
        if not top or not top[0] or top[1:2] == top[:1]:
            return None
        return max(counts, key=counts.__getitem__)

    def ancestry(commit: CommitHash) -> AbstractSet[CommitHash]:
        """Empty unless valid commits connect it to the root."""
        steps = []
        parents = {node.hash: node for node in nodes}
        while commit in parents:
            steps.append(parents[commit])
            commit = steps[-1].parent
        members = founders
        for node in reversed(steps):
            if not fits(node, members):
                return set()
            gone = {ref.device for ref in node.removed}
            members = {d: p for d, p in members.items() if d not in gone}
            members |= {ref.device: ref.identity for ref in node.added}
        return {node.hash for node in steps} if commit == at(0) else set()

    def strength(
        node: Node, votes_of: Mapping[IdentityKey, CommitHash | None]
    ) -> tuple[object, ...]:
        gone = {ref.device for ref in node.removed} - {ref.device for ref in node.added}
        place = hashlib.sha256(bytes(GROUP) + bytes(node.parent) + bytes(node.author)).digest()
        return -list(votes_of.values()).count(node.hash), not gone, place, node.hash

    return descend(at(0), founders)


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_it_chooses_what_the_text_of_the_rule_says(data: st.DataObject) -> None:
    nodes = data.draw(histories())
    votes = data.draw(ballots(nodes))
    barred = data.draw(st.frozensets(st.sampled_from([node.hash for node in nodes]), max_size=3))

    def allowed(commit: CommitHash) -> bool:
        return commit not in barred

    ours = choose(tree(FOUNDERS, *nodes), votes, allowed)
    assert ours == plainly(nodes, roster(FOUNDERS), votes, allowed)


@given(st.data())
@many
def test_members_that_hold_the_same_choose_the_same(data: st.DataObject) -> None:
    """Whatever the order in which it came, and wherever they stand."""
    nodes = data.draw(histories())
    votes = data.draw(ballots(nodes))
    known = tree(FOUNDERS, *nodes)
    chosen = choose(known, votes)
    again = data.draw(st.permutations([*nodes, *nodes[:3]]))
    words = dict(data.draw(st.permutations(list(votes.statements.items()))))
    standing = data.draw(
        st.sampled_from([n.hash for n in nodes if known.connected(n.hash)] or [at(0)])
    )
    other = Tree(GROUP, again, anchor=standing, members=known.members(standing))
    assert choose(other, Votes(words, votes.equivocators)) == chosen


@given(st.data())
@many
def test_members_that_learn_bit_by_bit_end_where_the_others_are(data: st.DataObject) -> None:
    """Each hears in its own order, moves with what it hears, and keeps the latest statements."""
    nodes = data.draw(histories())
    names = st.sampled_from(PEOPLE.split()).map(device)
    commits = st.sampled_from([node.hash for node in nodes])
    spoken = data.draw(st.lists(st.tuples(names, commits), max_size=12))
    heard: list[Node | tuple[int, tuple[DeviceKey, CommitHash]]] = [*nodes, *enumerate(spoken)]
    ends = set()
    for _ in range(2):
        headers: list[Node] = []
        latest: dict[DeviceKey, tuple[int, CommitHash]] = {}
        stand, members = at(0), roster(FOUNDERS)
        for item in data.draw(st.permutations(heard)):
            if isinstance(item, Node):
                headers.append(item)
            else:
                number, (speaker, commit) = item
                latest[speaker] = max(latest.get(speaker, (-1, commit)), (number, commit))
            known = Tree(GROUP, headers, anchor=stand, members=members)
            stand = choose(known, Votes({who: said for who, (_, said) in latest.items()}))
            members = dict(known.members(stand))
        ends.add(stand)
    assert len(ends) == 1


@given(st.data())
@many
def test_the_choice_is_a_leaf_of_what_is_allowed(data: st.DataObject) -> None:
    nodes = data.draw(histories())
    barred = data.draw(st.frozensets(st.sampled_from([node.hash for node in nodes]), max_size=3))
    known = tree(FOUNDERS, *nodes)
    chosen = choose(known, data.draw(ballots(nodes)), lambda commit: commit not in barred)
    assert not set(known.path(chosen)) & barred
    further = [child for child in known.children(chosen) if child not in barred]
    authors = [known.nodes[child].author for child in known.children(chosen)]
    assert all(authors.count(known.nodes[child].author) > 2 for child in further)


@given(st.data())
@many
def test_one_more_vote_for_the_winner_leaves_it_the_winner(data: st.DataObject) -> None:
    nodes = data.draw(histories())
    votes = data.draw(ballots(nodes))
    known = tree(FOUNDERS, *nodes)
    chosen = choose(known, votes)
    convert = device(data.draw(st.sampled_from(PEOPLE.split())))
    more = Votes({**votes.statements, convert: chosen}, votes.equivocators)
    assert choose(known, more) == chosen


@given(st.data())
@many
def test_what_an_equivocator_says_never_matters(data: st.DataObject) -> None:
    nodes = data.draw(histories())
    votes = data.draw(ballots(nodes))
    lies = data.draw(ballots(nodes)).statements
    liars = votes.equivocators
    honest = {who: said for who, said in votes.statements.items() if who not in liars}
    changed = honest | {who: said for who, said in lies.items() if who in liars}
    known = tree(FOUNDERS, *nodes)
    assert choose(known, votes) == choose(known, Votes(changed, liars))


@given(garbage, st.data())
@many
def test_any_headers_have_a_choice(nodes: list[Node], data: st.DataObject) -> None:
    votes = data.draw(ballots(nodes))
    for anchor in (0, 4):
        known = tree(FOUNDERS, *nodes, anchor=anchor)
        chosen = choose(known, votes)
        assert known.connected(chosen)
        assert choose(tree(FOUNDERS, *reversed(nodes), anchor=anchor), votes) == chosen
