"""A message reaches somebody whom its author never meets, with no relay: another member brings it.

Real processes, told by the command line, as users run them.
"""

from __future__ import annotations

from tests.acceptance.test_promises import GROUP, Cast, befriend, cast, reads

__all__ = ["cast"]


def test_message_reaches_a_third_member_after_its_author_is_gone(cast: Cast) -> None:
    ada, bob, cy = (cast.person(name) for name in ("Ada", "Bob", "Cy"))
    befriend(ada, bob, cy)
    ada.ask("create-group", GROUP)
    ada.ask("invite", GROUP, "Bob", "Cy")
    for person in (bob, cy):
        person.ask("join", GROUP, "--wait", "15")
    port = cy.port  # where the others look for Cy again
    for person in (bob, cy):
        person.ask("send", GROUP, "--msg", f"{person.name} is here", "--wait", "delivered")
    assert cy.node is not None
    assert ada.node is not None
    cy.node.stop()

    message = ada.ask("send", GROUP, "--msg", "The last ferry is at six.")["message"]
    assert reads(bob, "Cy is here", "The last ferry is at six.")
    ada.wait_for_state(message, "Bob", "read", "delivered")
    line = ada.wait_for_state(message, "Cy", "carried")
    assert line["by"] == bob.identity
    (why,) = (line for line in ada.lines("why", message) if line["name"] == "Cy")
    assert why["sentence"].startswith("Bob has it and hands it on")
    ada.node.stop()

    cast.run(cy, port=port)
    lines = cy.lines("recv", "--timeout", "20", "--count", "2")
    assert {line["text"]: line["path"] for line in lines} == {
        "Bob is here": "direct",
        "The last ferry is at six.": "carried",
    }

    cast.run(ada)
    line = ada.wait_for_state(message, "Cy", "delivered", "read")
    assert line["path"] == "carried"
