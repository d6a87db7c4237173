"""What the README promises, with the real executables as a user runs them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.demo.processes import Daemon, Person, StepFailed, environment, start_relay

ROOT = Path(__file__).parents[2]
GROUP = "harbour"


class Cast:
    """People and a relay, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[Daemon] = []

    def person(self, name: str, *options: str) -> Person:
        person = Person(name, self.folder)
        person.init()
        self.run(person, *options)
        return person

    def run(self, person: Person, *options: str, port: int = 0) -> None:
        person.start("--no-mdns", *options, port=port)
        assert person.node is not None
        self.daemons.append(person.node)

    def relay(self) -> Daemon:
        relay = start_relay(self.folder)
        self.daemons.append(relay)
        return relay


@pytest.fixture
def cast(tmp_path: Path) -> Iterator[Cast]:
    found = Cast(tmp_path)
    try:
        yield found
    finally:
        for daemon in found.daemons:
            daemon.stop()


def befriend(person: Person, *others: Person) -> None:
    for other in others:
        person.ask("contacts", "add", other.ask("whoami")["card"])


def reads(person: Person, *texts: str) -> list[str]:
    """Waits for as many messages; answers the paths they came by."""
    lines = person.lines("recv", "--timeout", "20", "--count", str(len(texts)))
    assert sorted(line["text"] for line in lines) == sorted(texts)
    return [line["path"] for line in lines]


@pytest.mark.parametrize("suite", ["hybrid", "classic"])
def test_two_who_met_only_by_invitation_talk_with_the_inviter_gone_and_no_relay(
    cast: Cast, suite: str
) -> None:
    ada, bob, cy = (cast.person(name) for name in ("Ada", "Bob", "Cy"))
    befriend(ada, bob, cy)
    ada.ask("create-group", GROUP, "--suite", suite)
    ada.ask("invite", GROUP, "Bob", "Cy")
    for person in (bob, cy):
        person.ask("join", GROUP, "--wait", "15")
    assert ada.node is not None
    ada.node.kill()
    message = bob.ask("send", GROUP, "--msg", "Is anybody there?")["message"]
    assert reads(cy, "Is anybody there?") == ["direct"]
    line = bob.wait_for_state(message, "Cy", "delivered", "read")
    assert line["path"] == "direct"
    cy.ask("send", GROUP, "--msg", "I am.")
    assert reads(bob, "I am.") == ["direct"]


def test_direct_delivery_goes_on_without_the_relay_and_the_ledger_says_so(cast: Cast) -> None:
    relay = cast.relay()
    address = str(relay.ready["address"])
    ada, bob = (cast.person(name, "--relay", address) for name in ("Ada", "Bob"))
    befriend(ada, bob)
    befriend(bob, ada)
    relay.kill()
    sent = ada.ask("send", "--peer-key", "Bob", "--msg", "no relay needed", "--wait", "delivered")
    assert sent["status"] in ("delivered", "read")
    line = ada.ledger(sent["message"])["Bob"]
    assert (line["path"], line["relay"]) == ("direct", None)
    assert reads(bob, "no relay needed") == ["direct"]


def test_relay_and_nodes_restart_in_any_order_and_nothing_is_lost(cast: Cast) -> None:
    relay = cast.relay()
    address = str(relay.ready["address"])
    port = address.partition("#")[0].rpartition(":")[2]
    ada, bob = (cast.person(name, "--relay", address) for name in ("Ada", "Bob"))
    befriend(ada, bob)
    befriend(bob, ada)
    ada.ask("ping", "Bob")  # linked: on a busy machine the first message may go by relay otherwise
    first = ada.ask("send", "--peer-key", "Bob", "--msg", "one", "--wait", "delivered")
    assert bob.node is not None
    bob.node.kill()
    second = ada.ask("send", "--peer-key", "Bob", "--msg", "two")
    ada.wait_for_state(second["message"], "Bob", "held")
    relay.kill()
    assert ada.node is not None
    ada.node.stop()
    again = Daemon(
        "the relay",
        [part.replace("127.0.0.1:0", f"127.0.0.1:{port}") for part in relay.command],
        relay.log,
        relay.env,
    )
    cast.daemons.append(again)
    assert again.ready["address"] == address
    cast.run(bob)  # the relay is remembered
    assert sorted(reads(bob, "one", "two")) == ["direct", "relay"]
    cast.run(ada)
    ada.wait_for_state(first["message"], "Bob", "read")
    assert ada.wait_for_state(second["message"], "Bob", "read")["path"] == "relay"
    assert bob.lines("recv") == []


def test_home_and_socket_are_private(cast: Cast) -> None:
    old = os.umask(0)
    try:
        ada = cast.person("Ada")
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ada.home.iterdir()}
    assert stat.S_IMODE(ada.home.stat().st_mode) == 0o700
    assert modes["control.sock"] == 0o600
    assert all(mode == 0o600 for name, mode in modes.items()), modes


def test_demo_fails_when_its_relay_is_killed_midway() -> None:
    said = []
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            said.append(line)
            if "invites both" in line:
                os.kill(_relay_of(demo.pid), signal.SIGKILL)
    assert demo.returncode == 1, said
    assert any(line.startswith("✗") for line in said)


def _relay_of(parent: int) -> int:
    """The child process that is the relay."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                status = (entry / "stat").read_text()
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            ours = int(status.rpartition(")")[2].split()[1]) == parent
            if ours and "quicnprotochat-relay" in command:
                return int(entry.name)
    raise StepFailed("the demo has no relay")
