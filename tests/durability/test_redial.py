"""kill -9 of a node, seen by its peer: the link is replaced long before the idle timeout."""

from __future__ import annotations

from node.api import operations as op
from node.api import shapes as s
from simulation.processes.talk import wait_until
from tests.durability.conftest import Worlds
from tests.durability.programs import NodeProgram
from transport import DEFAULT_LIMITS

AT_ONCE_S = DEFAULT_LIMITS.idle_timeout_s / 3


def test_a_killed_node_gets_its_mail_directly_as_soon_as_it_is_back(worlds: Worlds) -> None:
    """What was sent meanwhile and what is sent then; without a relay, which would hide it."""
    world = worlds.get()
    ada, bob = world.ada, world.bob
    talk = world.talk(ada, bob)
    talk.must_say(bob)
    talk.must_say(ada)
    talk.check()
    world.relay.kill()
    bob.kill()
    meanwhile = talk.must_say(ada)
    bob.start()
    afterwards = talk.must_say(ada)
    wait_until(lambda: delivered(ada, meanwhile.id), meanwhile.text, AT_ONCE_S)
    wait_until(lambda: delivered(ada, afterwards.id), afterwards.text, AT_ONCE_S)
    world.relay.start()
    talk.check()
    worlds.spoilt = False


def delivered(node: NodeProgram, message: str) -> bool:
    rows = node.call(op.LEDGER, s.ByMessage(message))
    return {row.state for row in rows} == {"delivered"}
