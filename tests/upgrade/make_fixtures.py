"""Makes the fixtures beside it, with real nodes and a relay of an OLD checkout; see README.md.

    PYTHONPATH=<old checkout> python <this file> <story> <folder to write>

`node.demo.processes` and all programs come from the old checkout; nothing of the new code runs.
"""

from __future__ import annotations

import os
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import node.demo.processes as processes
from node.demo.processes import Daemon, Person

# Fewer KeyPackages than a user has: they are most of a home's bytes.
SMALL = """
import dataclasses, sys
import node.delivery.limits as limits
limits.DEFAULT_DELIVERY_LIMITS = dataclasses.replace(
    limits.DEFAULT_DELIVERY_LIMITS, key_package_stock=2, request_burst=200
)
from node.cli.main import main
sys.exit(main())
"""
CHECKOUT = Path(processes.__file__).parents[2]
GROUP = "harbour"


def program(folder: Path) -> None:
    """Executables that run the old checkout, whatever is installed."""
    scripts = folder / "bin"
    scripts.mkdir()
    for name, code in (
        ("quicnprotochat", SMALL),
        ("quicnprotochat-relay", "import sys\nfrom relay.main import main\nsys.exit(main())\n"),
    ):
        where = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        (scripts / name).write_text(where + code)
        (scripts / name).chmod(0o755)
    processes.BIN = scripts
    processes.NODE = (str(scripts / "quicnprotochat"),)


def befriend(*people: Person) -> None:
    cards = {person.name: person.ask("whoami")["card"] for person in people}
    for person in people:
        for name, card in cards.items():
            if name != person.name:
                person.ask("contacts", "add", card)


def reads(person: Person, *texts: str) -> None:
    lines = person.lines("recv", "--timeout", "20", "--count", str(len(texts)), "--cursor", "all")
    assert sorted(line["text"] for line in lines) == sorted(texts), lines


def stop(person: Person) -> None:
    assert person.node is not None
    person.node.stop()
    person.node = None


def first(folder: Path) -> list[Person]:
    """What the four of them did before the upgrade. Ada, and the relay, end by kill -9."""
    relay: Daemon = processes.start_relay(folder)
    ada, bob, cy, dan = people = [Person(name, folder) for name in ("Ada", "Bob", "Cy", "Dan")]
    for person in people:
        person.init()
    cy_relay = ("--relay", relay.ready["address"])

    def start(person: Person) -> None:
        person.start("--no-mdns", *(cy_relay if person is cy else ()))

    for person in people:
        start(person)
    befriend(*people)
    ada.ask("contacts", "verify", "Bob")

    # A group of three, with a change of epoch between messages.
    ada.ask("create-group", GROUP, "--suite", "classic")
    ada.ask("invite", GROUP, "Bob", "Cy")
    for person in (bob, cy):
        person.ask("join", GROUP, "--wait", "15")
    ada.ask("send", GROUP, "--msg", "Ada in the first epoch")
    for person in (bob, cy):
        reads(person, "Ada in the first epoch")
    bob.ask("update-key", GROUP)
    for person in (bob, cy):
        message = person.ask("send", GROUP, "--msg", f"{person.name} after the update")["message"]
        for other in people[:3]:
            if other is not person:
                person.wait_for_state(message, other.name, "delivered", "read")
    reads(ada, "Bob after the update", "Cy after the update")
    # Bob's cursor "half" has one of two; Cy's default cursor has nothing.
    bob.lines("recv", GROUP, "--count", "1", "--cursor", "half", "--timeout", "5")

    # One to one, in the hybrid suite.
    message = ada.ask("send", "--peer-key", "Bob", "--msg", "Ada to Bob alone")["message"]
    ada.wait_for_state(message, "Bob", "delivered", "read")

    # An invitation that nobody answered.
    dan.ask("create-group", "quay", "--suite", "classic")
    dan.ask("invite", "quay", "Bob")
    wait(lambda: bob.lines("requests"), "Bob's invitation")

    # A last resort that was used: with Cy away, the stock at the relay empty.
    stop(cy)
    drain(ada)
    ada.ask("create-group", "slip", "--suite", "classic")
    ada.ask("invite", "slip", "Cy")
    start(cy)
    cy.ask("join", "slip", "--wait", "15")
    reads(cy, "Bob after the update")
    wait_held(ada, cy)
    # The stock is full again. Then Cy is away, and parcels wait at the relay.
    stop(cy)
    for text in ("waits at the relay", "waits there too"):
        message = ada.ask("send", GROUP, "--msg", text)["message"]
        ada.wait_for_state(message, "Cy", "held")
        ada.wait_for_state(message, "Bob", "delivered", "read")

    # An early message: Bob hears Dan's message of an epoch whose commit only Ada could tell.
    ada.ask("create-group", "mole", "--suite", "classic")
    ada.ask("invite", "mole", "Bob", "Dan")
    for person in (bob, dan):
        person.ask("join", "mole", "--wait", "15")
    stop(bob)
    ada.ask("update-key", "mole")
    wait(lambda: epoch(dan, "mole") == epoch(ada, "mole"), "Dan's commit")
    ada.ask("send", "mole", "--msg", "pending for Bob")
    reads(dan, "pending for Bob")
    assert ada.node is not None
    ada.node.kill()
    start(bob)
    message = dan.ask("send", "mole", "--msg", "early for Bob")["message"]
    wait(lambda: dan.ledger(message)["Bob"]["state"] == "sent", "Bob has it, unread")
    stop(bob)
    stop(dan)
    relay.kill()
    return people


def split(folder: Path) -> list[Person]:
    """Two changed their group at once, and this version could do nothing about it."""
    eve, fay = people = [Person(name, folder) for name in ("Eve", "Fay")]
    for person in people:
        person.init()
        person.start("--no-mdns")
    befriend(*people)
    eve.ask("create-group", "fork", "--suite", "classic")
    eve.ask("invite", "fork", "Fay")
    fay.ask("join", "fork", "--wait", "15")
    eve.ask("send", "fork", "--msg", "while it was whole")
    reads(fay, "while it was whole")
    fay.ask("send", "fork", "--msg", "so it was")
    reads(eve, "so it was")
    for person in people:
        stop(person)
    for person in people:
        person.ask("update-key", "fork")
        person.ask("send", "fork", "--msg", f"{person.name} on a branch of her own")
    for person in people:
        person.start("--no-mdns")
    befriend(*people)
    for person in people:
        wait(lambda person=person: status(person, "fork") == "split", f"{person.name} sees it")  # type: ignore[misc]
        sent = person.ask("send", "fork", "--msg", f"{person.name} after the split")
        assert sent["status"] == "queued (group_split)", sent
    for person in people:
        stop(person)
    return people


def status(person: Person, group: str) -> str:
    return next(str(line["status"]) for line in person.lines("groups") if line["name"] == group)


def drain(person: Person) -> None:
    for _ in range(3):
        person.lines("fetch-key", "Cy", "--suite", "classic")


def epoch(person: Person, group: str) -> int:
    return next(int(line["epoch"]) for line in person.lines("groups") if line["name"] == group)


def wait_held(ada: Person, cy: Person) -> None:
    """Until Cy's relay has Cy's new stock."""
    wait(lambda: all(line["stock"] for line in cy.lines("register")), "Cy's stock")


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


def pack(folder: Path, people: list[Person], into: Path) -> None:
    """One archive a folder; without the lock, the socket and SQLite's shared memory."""
    into.mkdir(parents=True, exist_ok=True)
    for home in [*(person.home for person in people), *folder.glob("relay")]:
        with tarfile.open(into / f"{home.name}.tar.xz", "w:xz") as archive:
            for path in sorted(home.iterdir()):
                if path.is_file() and path.name != "lock" and path.suffix != ".db-shm":
                    archive.add(path, f"{home.name}/{path.name}", filter=anonymous)


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    import tempfile

    os.environ.pop("QUICNPROTOCHAT_HOME", None)
    with tempfile.TemporaryDirectory() as temporary:
        program(Path(temporary))
        story = {"first": first, "split": split}[sys.argv[1]]
        pack(Path(temporary), story(Path(temporary)), Path(sys.argv[2]))
