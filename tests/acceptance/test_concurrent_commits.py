"""Two members change a group at the same instant, with no relay: one group comes of it.

Real processes, told by the command line. While the cable between the two is out, both changes are
certain to be made on the same epoch.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from node.api import operations as op
from node.api import shapes as s
from node.demo.processes import StepFailed
from simulation.processes.node_process import NodeProcess
from simulation.processes.talk import Talk, wait_until
from tests.acceptance.cables import GROUP, MakeCast

HEALS_S = 30.0
ROUNDS = 3


@pytest.mark.parametrize(
    "members, ada_does, bob_does, remain",
    [
        pytest.param(2, "update-key {}", "update-key {}", 2, id="two members, two keys"),
        pytest.param(3, "update-key {}", "update-key {}", 3, id="three members, two keys"),
        pytest.param(2, "invite {} Dan", "update-key {}", 3, id="an invitation and a key"),
        pytest.param(3, "remove {} Dan", "update-key {}", 2, id="a removal and a key"),
    ],
)
def test_two_commits_at_the_same_instant_end_in_one_epoch_and_both_are_told(
    make_cast: MakeCast, members: int, ada_does: str, bob_does: str, remain: int
) -> None:
    names = ("Ada", "Bob", "Dan") if members == 3 or "Dan" in ada_does else ("Ada", "Bob")
    cast = make_cast(*names)
    talk = cast.found(members)
    ada, bob = cast.people[:2]
    with cast.severed(ada, bob):
        talk.must_say(ada)
        talk.must_say(bob)
        cast.at_once((ada, ada_does.format(GROUP)), (bob, bob_does.format(GROUP)))
        talk.must_say(ada)
        talk.must_say(bob)
    talk.must_say(ada)
    talk.must_say(bob)
    remaining = cast.people[:remain]
    if remain > members:
        cast.people[2].join(talk.group)
        talk.join(cast.people[2])
    elif remain < members:
        talk.members.remove(cast.people[2])
    for person in (ada, bob):
        told = heard(person, talk)
        assert told["group"] == talk.group
        assert told["name"] == GROUP
        assert not told["lost"], told
    everybody = {each.identity for each in remaining}
    for person in remaining:
        wait_until(lambda: members_at(person, talk) == everybody, "all changes are made", HEALS_S)  # noqa: B023
    talk.check()


def members_at(person: NodeProcess, talk: Talk) -> set[str]:
    return {member.identity for member in person.group(talk.group).members}


def heard(person: NodeProcess, talk: Talk) -> dict[str, Any]:
    """What its user is told about the fork that is healed."""
    try:
        return person.healed(HEALS_S)
    except StepFailed:
        found = standings(talk)
    raise AssertionError(f"{person.name} was not told that it healed: {found}")


def standings(talk: Talk) -> dict[str, tuple[int, str, str]]:
    """Epoch, branch and status, by name."""
    found = {}
    for person in talk.members:
        group = person.group(talk.group)
        found[person.name] = (group.epoch, person.epoch_id(talk.group)[:8], group.status)
    return found


def test_whatever_two_connected_members_do_at_once_they_stay_one_group(make_cast: MakeCast) -> None:
    cast = make_cast("Ada", "Bob")
    talk = cast.found(2)
    begin = threading.Barrier(2)

    def renew(person: NodeProcess) -> None:
        begin.wait()
        person.call(op.UPDATE_KEY, s.ByGroup(talk.group))
        talk.must_say(person)

    for _ in range(ROUNDS):
        together = [threading.Thread(target=renew, args=(each,)) for each in cast.people]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        wait_until(lambda: one_group(talk), "one epoch", HEALS_S)
    talk.check()


def one_group(talk: Talk) -> bool:
    ((_, _, status), *others) = set(standings(talk).values())
    return not others and status == "active"
