"""People whom no network ever joins talk by files on a stick: real nodes, no relay, every cable
between them pulled out from the start."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.api import operations as op
from node.api import shapes as s
from simulation.processes.node_process import NodeProcess
from tests.acceptance.cables import GROUP, MakeCast

MESSAGES = 200


@pytest.fixture
def ada_and_bob(make_cast: MakeCast) -> Iterator[list[NodeProcess]]:
    """They exchanged cards on paper."""
    cast = make_cast("Ada", "Bob")
    with cast.severed(*cast.people):
        ada, bob = cast.people
        for one, other in ((ada, bob), (bob, ada)):
            one.ask("contacts", "add", other.ask("whoami")["card"])
        yield cast.people


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick.qpcp"


def error_of(person: NodeProcess, *words: str) -> dict[str, Any]:
    process = person.begin(*words)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = out.splitlines()
    return dict(json.loads(line)["error"])


def test_invited_written_to_and_confirmed_by_stick_alone(
    ada_and_bob: list[NodeProcess], stick: Path
) -> None:
    ada, bob = ada_and_bob
    introduced = bob.ask("export-parcels", str(stick), "--for", ada.identity)
    assert (introduced["parcels"], introduced["introduces"]) == (0, True)
    assert introduced["bytes"] == stick.stat().st_size
    (met,) = ada.ask("import-parcels", str(stick))["introduced"]
    assert met == {"identity": bob.identity, "name": "Bob"}

    ada.ask("create-group", GROUP)
    ada.ask("invite", GROUP, "Bob")
    message = ada.ask("send", GROUP, "--msg", "No cable reaches you.")["message"]
    assert error_of(ada, "export-parcels", str(stick))["code"] == "file-exists"
    parcels = ada.ask("export-parcels", str(stick), "--force")["parcels"]
    row = ada.ledger(message)["Bob"]
    assert (row["state"], row["path"], row["reason"]) == (
        "carried",
        "carried",
        "exported: stick.qpcp",
    )
    sentence = ada.ask("why", message)["sentence"]
    assert sentence.startswith("It is in the file stick.qpcp, written ")

    taken = bob.ask("import-parcels", str(stick))
    assert (taken["new"], taken["parcels"]) == (parcels, parcels)
    bob.ask("join", GROUP)
    line = bob.ask("recv")
    assert (line["text"], line["path"]) == ("No cable reaches you.", "carried")
    bob.ask("send", GROUP, "--msg", "A stick does.")
    assert bob.ask("import-parcels", str(stick))["known"] == parcels

    bob.ask("export-parcels", str(stick), "--force")
    ada.ask("import-parcels", str(stick))
    row = ada.ledger(message)["Bob"]
    assert (row["state"], row["path"], row["reason"]) == ("read", "carried", None)
    assert ada.lines("why", message) == []
    assert ada.ask("recv")["text"] == "A stick does."


def test_a_node_that_is_killed_while_it_imports_loses_nothing_and_shows_nothing_twice(
    ada_and_bob: list[NodeProcess], stick: Path
) -> None:
    ada, bob = ada_and_bob
    bob.ask("export-parcels", str(stick), "--for", ada.identity)
    ada.ask("import-parcels", str(stick))
    group = ada.call(op.CREATE_GROUP, s.CreateGroup(GROUP)).group
    ada.call(op.INVITE, s.Invite(group, [bob.identity]))
    texts = [f"line {number}" for number in range(MESSAGES)]
    for text in texts:
        ada.call(op.SEND, s.Send(text, group=group))
    ada.ask("export-parcels", str(stick), "--force")
    before = stick.read_bytes()

    importing = bob.begin("import-parcels", str(stick))
    assert bob.node is not None
    bob.node.wait_for("request")  # the Welcome is in, and what follows it comes
    bob.node.kill()
    with contextlib.closing(importing.stdout):  # type: ignore[type-var]
        importing.wait(timeout=60)

    assert stick.read_bytes() == before
    bob.run()
    taken = bob.ask("import-parcels", str(stick))
    assert taken["new"] + taken["known"] == taken["parcels"] > MESSAGES
    bob.ask("join", GROUP)
    assert [line["text"] for line in bob.lines("recv")] == texts


def test_what_is_no_file_of_parcels_is_one_clear_error(make_cast: MakeCast, stick: Path) -> None:
    (ada,) = make_cast("Ada").people
    for content, code in {
        b"": "not-a-parcel-file",
        b"PK an archive": "not-a-parcel-file",
        b"QPCP\x01": "parcel-file-damaged",
        b"QPCP\x09 newer": "parcel-file-newer",
    }.items():
        stick.write_bytes(content)
        assert error_of(ada, "import-parcels", str(stick))["code"] == code
