"""A message whose author is gone reaches who was out of reach: another member carries it."""

from __future__ import annotations

from simulation.processes.talk import SETTLED, Talk, wait_until
from tests.acceptance.cables import MakeCast

ARRIVES_S = 20.0


def test_a_message_arrives_after_its_author_is_gone_and_with_no_relay(make_cast: MakeCast) -> None:
    cast = make_cast("Ada", "Bob", "Cy")
    ada, bob, cy = cast.people
    talk = cast.found(3)
    with cast.severed(ada, cy):
        said = talk.must_say(ada)
        wait_until(lambda: ada.states(said.id)[bob.device] in SETTLED, "Bob has it")
        assert ada.node is not None
        ada.node.kill()
        talk.must_say(bob)  # by which Cy's node learns that it lacks something
        path = wait_until(lambda: path_to_cy(talk, said.id), "Cy reads it", ARRIVES_S)
    assert path == "carried"
    ada.run()
    talk.check()


def path_to_cy(talk: Talk, message: str) -> str | None:
    """How it came; None while it has not."""
    reader = talk.reader(talk.members[2])
    reader.read()
    return next((line.path for line in reader.lines if line.message == message), None)
