"""How each boundary is brought about: who dies where, and what must be true after a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import shapes as s
from schemas.errors import Fault
from simulation.processes.talk import SETTLE_S, Talk, wait_until
from tests.durability.programs import NodeProgram, World

INVITE_S = 30.0
RED_S = 4.0  # for what never comes; these stories go through in less than 2 s


@dataclass(frozen=True)
class Boundary:
    """A place where a process dies, and the story that leads there and on."""

    label: str
    place: str
    story: Callable[[World, Boundary, str], Talk]

    @property
    def committed(self) -> bool:
        """The batch is on disk when the process dies."""
        return self.place == "after"

    def __str__(self) -> str:
        return f"{self.label}/{self.place}-{self.story.__name__}"


# --- at the sender


def send(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.ada, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    talk.must_say(world.ada)
    world.ada.arm()
    assert talk.say(world.ada) is None, "it was answered before it was on disk"
    world.ada.wait_death()
    world.ada.check_watch()
    lost = talk.unsure[0]
    found = world.ada.rows("SELECT 1 FROM messages WHERE text = ?", lost)
    assert bool(found) == where.committed
    world.ada.start()
    if where.committed:
        reader = talk.reader(world.bob)

        def shown() -> bool:
            reader.read()
            return lost in reader.shown.values()

        wait_until(shown, "what is on disk is sent after the restart")
    else:
        # The generation that the lost batch used is used now, for the first time: had its
        # ciphertext left the machine, Bob would take this one for a duplicate.
        talk.must_say(world.ada)
    return talk


def outcome_of_direct(world: World, where: Boundary, mutation: str = "") -> Talk:
    """Bob answers only when the message was accepted: ack, receipt."""
    world.restarted(world.ada, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    with world.bob.frozen():
        talk.must_say(world.ada)
        world.ada.arm()
    world.ada.wait_death()
    world.ada.check_watch()
    world.ada.start()
    return talk


def upload(world: World, where: Boundary, mutation: str = "") -> Talk:
    """Bob is away. The relay has the message, and the sender dies before that is written down."""
    world.restarted(world.ada, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    world.bob.kill()
    world.ada.arm()
    said = talk.must_say(world.ada)
    world.ada.wait_death()
    world.ada.check_watch()
    assert world.relay.parcels() > 0
    world.ada.start()
    wait_until(lambda: world.ada.states(said.id) == {world.bob.device: "held"}, "held")
    world.bob.start()
    return talk


def commit_made(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.ada, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    epoch = world.ada.group(talk.group).epoch
    world.ada.arm()
    invite = s.Invite(talk.group, [world.cy.identity])
    with pytest.raises(Fault):
        world.ada.call(op.INVITE, invite)
    world.ada.wait_death()
    world.ada.check_watch()
    world.ada.start()
    assert world.ada.group(talk.group).epoch == epoch + where.committed
    if where.committed:
        with pytest.raises(Fault, match="in this group"):
            world.ada.call(op.INVITE, invite)
        assert world.ada.group(talk.group).epoch == epoch + 1, "invited twice"
    else:
        assert world.bob.group(talk.group).epoch == epoch, "a commit left that is not on disk"
        world.ada.call(op.INVITE, invite)
    world.cy.join(talk.group)
    talk.join(world.cy)
    return talk


# --- at the recipient


def direct_arrival(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.bob, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    world.bob.arm()
    talk.must_say(world.ada)
    world.bob.wait_death()
    if not mutation:
        world.bob.check_watch()
    world.bob.start()
    return talk


def relayed_arrival(world: World, where: Boundary, mutation: str = "") -> Talk:
    """The sender stands still: what Bob gets, he gets from the relay."""
    talk = world.talk(world.ada, world.bob)
    world.bob.kill()
    said = talk.must_say(world.ada)
    wait_until(lambda: world.ada.states(said.id) == {world.bob.device: "held"}, "held")
    with world.ada.frozen():
        world.bob.launch(where.label, where.place, mutation=mutation)
        world.bob.arm()
        world.bob.wait_death()
        if not mutation:
            world.bob.check_watch()
        world.bob.start()
        shows_from_relay(world, talk, said.id, RED_S if mutation else SETTLE_S)
    return talk


def shows_from_relay(world: World, talk: Talk, message: str, deadline_s: float = SETTLE_S) -> None:
    reader = talk.reader(world.bob)

    def shown() -> bool:
        reader.read()
        return message in reader.shown

    wait_until(shown, "shown from the relay, with the sender away", deadline_s)
    # Not the sender's, who is frozen: the receipts may have gone there.
    bob = world.bob.device
    wait_until(lambda: world.relay.parcels_for(bob) == 0, "the mailbox is empty in the end")


def commit_arrival(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.bob, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    world.bob.arm()
    renewed = world.ada.call(op.UPDATE_KEY, s.ByGroup(talk.group))
    world.bob.wait_death()
    if not mutation:
        world.bob.check_watch()
    world.bob.start()
    assert renewed.epoch == 2
    return talk


def welcome_arrival(world: World, where: Boundary, mutation: str = "") -> Talk:
    """Also the KeyPackage's answer: the invitation begins with asking Bob for one."""
    world.restarted(world.bob, where.label, where.place, mutation=mutation)
    made = world.ada.call(op.CREATE_GROUP, s.CreateGroup(f"welcome {where}"[:60]))
    wait_until(lambda: _linked(world), "Ada and Bob are linked")
    world.bob.arm()
    invite = s.Invite(made.group, [world.bob.identity])
    asking = InBackground(world.ada, invite)
    world.bob.wait_death()
    world.bob.check_watch()
    world.bob.start()
    if asking.failed():  # Bob died with the KeyPackage in his hand, and no relay had one
        world.ada.call(op.INVITE, invite)
    world.bob.join(made.group)
    assert world.ada.group(made.group).epoch == 1
    return Talk(made.group, [world.ada, world.bob])


def _linked(world: World) -> bool:
    """Not at once, where links to processes that died still count."""
    try:
        world.ada.call(op.PING, ns.Ping(world.bob.identity))
    except Fault:
        return False
    return True


class InBackground:
    """An invitation whose answer may take long: somebody dies in between."""

    def __init__(self, node: NodeProgram, invite: s.Invite) -> None:
        self._fault: Fault | None = None
        self._thread = threading.Thread(target=self._run, args=(node, invite), daemon=True)
        self._thread.start()

    def _run(self, node: NodeProgram, invite: s.Invite) -> None:
        try:
            node.call(op.INVITE, invite)
        except Fault as fault:
            self._fault = fault

    @property
    def answered(self) -> bool:
        return not self._thread.is_alive()

    def failed(self) -> bool:
        self._thread.join(INVITE_S)
        assert not self._thread.is_alive(), "the invitation was never answered"
        return self._fault is not None


def cursor(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.bob, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    said = talk.must_say(world.ada)
    reader = talk.reader(world.bob)
    page = wait_until(lambda: reader.page() or None, "the message is shown")
    assert [message.message for message in page] == [said.id]
    world.bob.arm()
    with pytest.raises(Fault):
        reader.acknowledge(page)
    world.bob.wait_death()
    world.bob.check_watch()
    world.bob.start()
    again = [message.message for message in reader.page()]
    assert again == ([] if where.committed else [said.id])
    return talk


# --- at the relay


def relay_enqueue(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.relay, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    wait_until(lambda: world.relay.parcels() == 0, "the mailboxes are empty")
    world.bob.kill()
    world.relay.arm()
    said = talk.must_say(world.ada)
    world.relay.wait_death()
    assert world.relay.parcels() == (1 if where.committed else 0)
    world.relay.start()
    wait_until(lambda: world.ada.states(said.id) == {world.bob.device: "held"}, "held")
    with world.ada.frozen():
        world.bob.start()
        shows_from_relay(world, talk, said.id, RED_S if mutation else SETTLE_S)
    return talk


def relay_ack(world: World, where: Boundary, mutation: str = "") -> Talk:
    world.restarted(world.relay, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    world.bob.kill()
    said = talk.must_say(world.ada)
    wait_until(lambda: world.ada.states(said.id) == {world.bob.device: "held"}, "held")
    held = world.relay.parcels()
    world.relay.arm()
    with world.ada.frozen():
        world.bob.start()
        world.relay.wait_death()
        assert (world.relay.parcels() < held) == where.committed
        world.relay.start()
        shows_from_relay(world, talk, said.id)
    return talk


def relay_key_package(world: World, where: Boundary, mutation: str = "") -> Talk:
    """Consumed or not, a KeyPackage is good for one group: the second try gets another one."""
    world.restarted(world.relay, where.label, where.place, mutation=mutation)
    talk = world.talk(world.ada, world.bob)
    world.cy.stop()
    before = world.relay.key_packages_taken(world.cy.device)
    world.relay.arm()
    invite = s.Invite(talk.group, [world.cy.identity])
    asking = InBackground(world.ada, invite)

    def dead() -> bool:
        """On a slow machine Ada may still wait to dial the relay again: then she asks again."""
        nonlocal asking
        if not world.relay.dead and asking.answered:
            asking = InBackground(world.ada, invite)
        return world.relay.dead

    wait_until(dead, "the relay dies")
    world.relay.wait_death()
    assert world.relay.key_packages_taken(world.cy.device) == before + where.committed
    world.relay.start()
    assert asking.failed()

    def invited() -> bool:
        try:
            world.ada.call(op.INVITE, invite)
        except Fault as fault:
            if fault.code != "unreachable":  # it is not dialled again at once
                raise
            return False
        return True

    wait_until(invited, "the second invitation")
    assert world.relay.key_packages_taken(world.cy.device) == before + where.committed + 1
    world.cy.start()
    world.cy.join(talk.group)
    talk.join(world.cy)
    return talk


BEFORE, AFTER = "before", "after"

# Every boundary of every store: each is reached by a real death, or its test fails.
BOUNDARIES = [
    *(Boundary("send", place, send) for place in (BEFORE, AFTER)),
    *(Boundary("outcome-acked", place, outcome_of_direct) for place in (BEFORE, AFTER)),
    *(Boundary("summary-arrival", place, outcome_of_direct) for place in (BEFORE, AFTER)),
    Boundary("upload", "answered", upload),
    *(Boundary("outcome-held", place, upload) for place in (BEFORE, AFTER)),
    *(Boundary("commit-made", place, commit_made) for place in (BEFORE, AFTER)),
    *(Boundary("message-arrival", place, direct_arrival) for place in (BEFORE, AFTER)),
    Boundary("link-ack", "before", direct_arrival),
    *(Boundary("message-arrival", place, relayed_arrival) for place in (BEFORE, AFTER)),
    Boundary("mailbox", "peeked", relayed_arrival),
    Boundary("mailbox-ack", "before", relayed_arrival),
    Boundary("mailbox-ack", "answered", relayed_arrival),
    *(Boundary("commit-arrival", place, commit_arrival) for place in (BEFORE, AFTER)),
    *(Boundary("welcome-arrival", place, welcome_arrival) for place in (BEFORE, AFTER)),
    *(Boundary("key-package-answer", place, welcome_arrival) for place in (BEFORE, AFTER)),
    *(Boundary("cursor", place, cursor) for place in (BEFORE, AFTER)),
    *(Boundary("enqueue", place, relay_enqueue) for place in (BEFORE, AFTER)),
    *(Boundary("ack", place, relay_ack) for place in (BEFORE, AFTER)),
    *(Boundary("key-package-fetch", place, relay_key_package) for place in (BEFORE, AFTER)),
]
