"""Accounts at relays that let in their members only, by the real commands at real relays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.api import operations as op
from node.api import shapes as s
from node.api.client import Client
from node.demo.processes import BIN
from simulation.processes.talk import wait_until
from tests.durability.programs import RelayProgram
from tests.node.cli.real import Person, finished
from tests.ports import free_ports

PASSWORD = "correct horse battery staple"


@dataclass
class Club(RelayProgram):
    """A relay for members, of whom there are none yet."""

    options: tuple[str, ...] = ()

    def _arguments(self) -> tuple[str, str, list[str]]:
        script, program, arguments = super()._arguments()
        return script, program, [*arguments, *self.options]

    def begin(self) -> str:
        """Its address."""
        self.folder.mkdir()
        self.start()
        return self.address

    def invite(self, host: Person) -> str:
        folder = str(self.folder / "relay")
        program = [str(BIN / "quicnprotochat-relay"), "invite", "--data-dir", folder]
        (made,) = finished(host.start("--json", program=program))
        return str(made["invite"])


@pytest.fixture
def club(tmp_path: Path) -> Iterator[Club]:
    made = Club("club", tmp_path / "club", free_ports(1)[0], options=("--admission", "invite"))
    try:
        yield made
    finally:
        made.kill()


def secret(folder: Path, text: str) -> str:
    path = folder / f"secret-{abs(hash(text))}"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def states(person: Person) -> dict[str, tuple[str, str | None]]:
    rows = Client(person.home).call(op.RELAYS, s.Nothing())
    return {row.relay: (row.state, row.reason) for row in rows}


def is_about_membership(row: dict[str, Any]) -> bool:
    return str(row.get("name")).startswith("member of")


def refused(person: Person, *arguments: str) -> str:
    (answer,) = person.ask(*arguments, code=1)
    return str(answer["error"]["code"])


def test_a_member_registers_is_let_in_and_logs_in_elsewhere(
    club: Club, alice: Person, tmp_path: Path
) -> None:
    address = club.begin()
    password = secret(tmp_path, PASSWORD)
    alice.run("--relay", address)
    wait_until(lambda: states(alice)[address] == ("refused", "not-admitted"), "it is told")
    [told] = [row for row in alice.ask("doctor", code=1) if is_about_membership(row)]
    assert not told["ok"]
    assert "register-user" in told["fix"]

    keyless = ("register-user", "alice", "--relay", "127.0.0.1:1", "--password-file", password)
    assert refused(alice, *keyless) == "bad-relay"
    wrong = secret(tmp_path, "ab" * 32)
    assert (
        refused(alice, "register-user", "alice", "--invite", wrong, "--password-file", password)
        == "bad-invite"
    )
    invite = secret(tmp_path, club.invite(alice))
    made = alice.one("register-user", "Alice", "--invite", invite, "--password-file", password)
    assert (made["account"], made["relay"]) == ("alice", address)
    assert made["expires_at"].endswith("Z")
    wait_until(lambda: states(alice)[address] == ("connected", None), "its mailbox is read")
    assert not any(map(is_about_membership, finished(alice.start("doctor", "--json"), None)))

    [device] = alice.ask("devices")
    assert device["current"]
    assert device["name"] == "Alice"
    assert {"device", "linked_at", "relay"} <= device.keys()

    guess = secret(tmp_path, "wrong horse")
    for name, file in (("alice", guess), ("nobody", password)):
        assert refused(alice, "login", name, "--password-file", file) == "login-failed"
    again = alice.one("login", "alice", "--password-file", password)
    assert again["account"] == "alice"


def test_a_revoked_device_is_out_until_it_logs_in_and_a_deleted_account_is_gone(
    club: Club, alice: Person, tmp_path: Path
) -> None:
    address = club.begin()
    password = secret(tmp_path, PASSWORD)
    invite = secret(tmp_path, club.invite(alice))
    alice.run()
    alice.one(
        "register-user", "alice", "--relay", address, "--invite", invite,
        "--password-file", password,
    )  # fmt: skip
    assert alice.one("whoami")["relays"] == [address], "the relay is ours from now on"
    [device] = alice.ask("devices")
    assert alice.one("devices", "revoke", device["device"][:8])["device"] == device["device"]
    wait_until(lambda: states(alice)[address][0] == "refused", "it is shut out")
    assert refused(alice, "devices") == "not-logged-in"
    alice.one("login", "alice", "--password-file", password)
    wait_until(lambda: states(alice)[address] == ("connected", None), "it is let in again")

    assert refused(alice, "delete-account") == "not-confirmed"
    assert alice.one("delete-account", "--yes")["account"] == "alice"
    assert refused(alice, "login", "alice", "--password-file", password) == "login-failed"
    assert refused(alice, "devices") == "not-logged-in"


def test_mail_goes_by_the_next_relay_while_the_first_refuses(
    club: Club, alice: Person, bob: Person, tmp_path: Path
) -> None:
    """Bob names a relay first that does not let him in, and another one behind it."""
    address = club.begin()
    village = RelayProgram("village", tmp_path / "village", free_ports(1)[0])
    try:
        village.folder.mkdir()
        village.start()
        bob.run("--relay", address, "--relay", village.address)
        alice.run("--relay", village.address)
        for person in (alice, bob):
            person.ask("policy", "relay-only")
        wait_until(lambda: states(bob)[address][0] == "refused", "the first refuses")
        alice.ask("contacts", "add", bob.one("whoami")["card"])
        bob.ask("contacts", "add", alice.one("whoami")["card"])
        alice.ask("send", "--peer-key", "Bob", "--msg", "by the second")
        got = bob.ask("recv", "--timeout", "30", "--count", "1")
        assert [row["text"] for row in got] == ["by the second"]
        assert states(bob)[village.address] == ("connected", None)
    finally:
        village.kill()


@pytest.mark.parametrize("token", ["open sesame", "cd" * 32])  # the latter looks like an invite
def test_a_relay_with_a_token_lets_in_who_shows_it(
    alice: Person, tmp_path: Path, token: str
) -> None:
    folder = tmp_path / "club"
    folder.mkdir()
    settings = folder / "relay.toml"
    settings.write_text(f'auth_token = "{token}"\nprefix_name_logins_burst = 2\n')
    settings.chmod(0o600)
    options = ("--admission", "token", "--config", str(settings))
    club = Club("club", folder, free_ports(1)[0], options=options)
    try:
        club.start()
        alice.run("--relay", club.address)
        wait_until(lambda: states(alice)[club.address][0] == "refused", "it is shut out")
        where = club.address.partition("#")[0]
        alice.ask("relays", "token", where, secret(tmp_path, token))
        let_in = ("connected", None)
        wait_until(lambda: states(alice)[club.address] == let_in, "it is let in")
        password = secret(tmp_path, PASSWORD)
        name = ("register-user", "alice", "--password-file", password)
        assert alice.one(*name, "--invite", secret(tmp_path, token))["account"] == "alice"
        guess = ("login", "alice", "--password-file", secret(tmp_path, "wrong horse"))
        errors = [alice.ask(*guess, code=1)[0]["error"] for _ in range(4)]
        assert errors[-1]["code"] == "try-later"
        assert errors[-1]["hint"] == f"try again in {errors[-1]['retry_after_s']} s"
    finally:
        club.kill()


def test_no_password_is_taken_from_the_command_line(alice: Person) -> None:
    (answer,) = alice.ask("login", "alice", code=1)
    assert answer["error"]["code"] == "password-needed"
    assert "--password-file" in answer["error"]["hint"]
    alice.ask("login", "alice", "--password", PASSWORD, code=2)
