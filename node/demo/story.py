"""The story that the demo tells: every step is done by real commands and then checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from node.demo.processes import Daemon, Person, StepFailed, start_relay

GROUP = "harbour"
MDNS_S = 10


@dataclass
class Step:
    """What the audience reads, and what does it; the answer is shown beside it."""

    text: str
    run: Callable[[], str]


@dataclass
class Story:
    folder: Path
    relay: Daemon | None = None
    people: list[Person] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ada, self.bob, self.cy = (Person(name, self.folder) for name in ("Ada", "Bob", "Cy"))
        self.people = [self.ada, self.bob, self.cy]

    def steps(self) -> Iterator[Step]:
        yield Step("a relay starts, and three nodes", self.start)
        yield Step("Ada takes the cards of Bob and Cy", self.exchange_cards)
        yield Step(f"Ada makes the group “{GROUP}” and invites both", self.make_group)
        yield Step("Bob and Cy accept", self.accept)
        yield Step("Ada writes; both read it", self.ada_writes)
        yield Step("Cy answers; Bob, whom Cy never met, reads it", self.cy_answers)
        yield Step("kill -9 takes Cy's node; Ada writes again", self.write_to_the_dead)
        yield Step("Cy's node is back and shows it, once", self.back_again)
        yield Step("the ledger: Cy has it, by way of the relay", self.ledger)
        yield Step("Ada and Bob find each other by mDNS", self.meet_by_mdns)

    def daemons(self) -> list[Daemon]:
        nodes = [person.node for person in self.people if person.node is not None]
        return [self.relay, *nodes] if self.relay is not None else nodes

    def perform(self, step: Step) -> tuple[bool, str]:
        """Whether it went well, and what was seen or what failed."""
        try:
            seen = step.run()
            dead = [daemon.name for daemon in self.daemons() if daemon.died]
            if dead:
                raise StepFailed(f"{', '.join(dead)} died")
        except StepFailed as failure:
            return False, str(failure)
        return True, seen

    def end(self) -> None:
        for daemon in reversed(self.daemons()):
            daemon.stop()

    # --- the steps

    def start(self) -> str:
        self.relay = start_relay(self.folder)
        for person in self.people:
            person.init()
            person.start("--no-mdns", "--relay", self.relay.ready["address"])
        return f"relay on {self.relay.ready['listen']}"

    def exchange_cards(self) -> str:
        for friend in (self.bob, self.cy):
            card = friend.ask("whoami")["card"]
            found = self.ada.ask("contacts", "add", card)
            _check(found["identity"] == friend.identity, "the card names somebody else")
        return f"a card is {len(card)} characters"

    def make_group(self) -> str:
        made = self.ada.ask("create-group", GROUP)
        invited = self.ada.ask("invite", GROUP, "Bob", "Cy")
        _check(len(invited["invited"]) == 2, "not both were invited")
        return f"suite {made['suite']}, epoch {invited['epoch']}"

    def accept(self) -> str:
        for person in (self.bob, self.cy):
            joined = person.ask("join", GROUP, "--wait", "15")
            _check(len(joined["members"]) == 3, f"{person.name} does not see three members")
        return "three members each"

    def ada_writes(self) -> str:
        text = "The tide turns at six."
        message = self._send(self.ada, text)
        for person in (self.bob, self.cy):
            self._reads(person, text, "direct")
        for name in ("Bob", "Cy"):
            line = self.ada.wait_for_state(message, name, "delivered", "read")
            _check(line["path"] == "direct", f"the ledger says {line['path']!r} of {name}")
        return "direct, delivered to both"

    def cy_answers(self) -> str:
        text = "Then we sail at seven."
        # On a busy machine a first dial may take longer than a message waits for it.
        found = self.cy.ask("ping", self.bob.identity)
        _check(found["path"] == "direct", f"Cy reaches Bob by {found['path']!r}")
        message = self._send(self.cy, text)
        self._reads(self.bob, text, "direct")
        self._reads(self.ada, text, "direct")
        line = self.cy.wait_for_state(message, "Bob", "delivered", "read")
        return f"{line['path']}, {line['state']}"

    def write_to_the_dead(self) -> str:
        assert self.cy.node is not None
        self.cy.node.kill()
        message = self.sent["held"] = self._send(self.ada, "Bring the lantern.")
        line = self.ada.wait_for_state(message, "Cy", "held")
        return f"held at the relay until {line['held_until'][:10]}"

    def back_again(self) -> str:
        assert self.relay is not None
        self.cy.start("--no-mdns", "--relay", self.relay.ready["address"])
        self._reads(self.cy, "Bring the lantern.", None)
        _check(self.cy.lines("recv") == [], "it was shown twice")
        return "shown once"

    def ledger(self) -> str:
        line = self.ada.wait_for_state(self.sent["held"], "Cy", "delivered", "read")
        _check(line["path"] == "relay", f"the ledger says {line['path']!r}")
        return f"{line['state']} by {line['path']}"

    def meet_by_mdns(self) -> str:
        for person in (self.ada, self.bob):
            assert person.node is not None
            person.node.stop()
            person.start("--mdns")
        found = self.ada.lines("peers", "--timeout", str(MDNS_S))
        mine = [peer for peer in found if peer["device"] == self.bob.device]
        if not any("mdns" in peer["source"] for peer in mine):
            if not _multicast():
                return "skipped: no multicast on this machine"
            raise StepFailed("Ada's node does not see Bob's")
        answer = self.ada.ask("ping", "Bob")
        return f"found, and answered in {answer['rtt_ms']:.1f} ms"

    # --- helpers

    def _send(self, person: Person, text: str) -> str:
        return str(person.ask("send", GROUP, "--msg", text)["message"])

    def _reads(self, person: Person, text: str, path: str | None) -> None:
        found = person.lines("recv", GROUP, "--timeout", "20", "--count", "1")
        texts = [line["text"] for line in found]
        _check(texts == [text], f"{person.name} reads {texts}")
        if path is not None:
            _check(found[0]["path"] == path, f"it came by {found[0]['path']!r}")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


def _multicast() -> bool:
    """Whether a socket here may join mDNS's group on the loopback interface."""
    import socket

    request = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError:
            return False
    return True
