"""`doctor` on real homes: well, and with each thing wrong that can be made wrong here."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from node.api.relay_shapes import Health
from node.cli.checks import _relay_checks
from node.demo.processes import start_relay
from tests.node.cli.fake_session import ROUTE
from tests.node.cli.real import DEADLINE_S, Person, finished


def examined(person: Person, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    lines = person.ask("doctor", *arguments, code=code)
    checks = {line["name"]: line for line in lines if "name" in line}
    assert all({"name", "ok", "detail", "fix"} <= check.keys() for check in checks.values())
    assert all(check["fix"] for check in checks.values() if not check["ok"])
    assert (code == 1) == ("error" in lines[-1])
    return checks


def wrong(checks: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, check in checks.items() if not check["ok"]}


def test_a_well_node_and_then_its_relay_dies(alice: Person, tmp_path: Path) -> None:
    relay = start_relay(tmp_path)
    try:
        where = str(relay.ready["address"])
        node = alice.start("run", "--listen", "127.0.0.1:0", "--relay", where, "--json")
        assert node.stdout is not None
        assert "ready" in node.stdout.readline()
        alice.one("health", where)  # it is connected
        checks = examined(alice)
        assert wrong(checks) == set()
        name = f"relay {where.partition('#')[0]}"
        assert {"disk writes", "port", "udp buffers", "engine", name, "bundle"} <= checks.keys()

        stranger = where[:-1] + ("0" if where[-1] != "0" else "1")
        node.send_signal(signal.SIGTERM)
        finished_lines = node.communicate(timeout=DEADLINE_S)
        assert node.returncode == 0, finished_lines
        told = examined(alice, "--server", stranger, code=1)
        assert wrong(told) == {name}
        assert "another key" in told[name]["detail"]
    finally:
        relay.stop()
    assert name in wrong(examined(alice, "--server", where, code=1))


def test_a_relay_that_is_named_reaches_the_node_that_runs(alice: Person, tmp_path: Path) -> None:
    alice.run()
    relay = start_relay(tmp_path)
    try:
        where = str(relay.ready["address"])
        registered = alice.ask("register", "--relay", where)
    finally:
        relay.stop()

    assert {each["relay"] for each in registered} == {where}
    assert alice.one("whoami")["relays"] == [where]


def test_a_home_that_others_may_read_and_a_taken_port(alice: Person) -> None:
    alice.home.chmod(0o755)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        alice.environment["QUICNPROTOCHAT_LISTEN"] = f"127.0.0.1:{taken.getsockname()[1]}"
        checks = examined(alice, code=1)

    assert wrong(checks) == {"permissions", "port"}


def test_why_a_group_waits(alice: Person, bob: Person) -> None:
    node = bob.run()
    alice.one("contacts", "add", bob.one("whoami")["card"])
    alice.one("create-group", "friends")
    checks = examined(alice, "friends")
    assert wrong(checks) == set()
    assert {"membership", "members", "branches", "changes", "missing changes", "way back"} <= set(
        checks
    )
    alice.one("invite", "friends", "Bob")
    assert wrong(examined(bob, "friends", code=1)) == {"membership"}
    node.send_signal(signal.SIGTERM)
    finished(node)
    alice.one("send", "friends", "--msg", "are you there?")

    checks = examined(alice, "friends", code=1)
    assert wrong(checks) == {"delivery"}
    assert "1 message: " in checks["delivery"]["detail"]


def test_a_home_that_is_none_is_told_and_not_made(people: list[Person]) -> None:
    (told,) = people[0].ask("doctor", code=1)

    assert told["error"]["code"] == "no-account"
    assert not people[0].home.exists()


def test_a_full_mailbox_and_a_relay_with_another_key_are_told() -> None:
    full = Health("ok", "0.1", ROUTE, 5, None, 0.0, "2026-01-01T10:00:00.000Z")
    changed = Health("relay-key-changed", None, ROUTE, None, "another key answered")

    (mailbox,) = [check for check in _relay_checks(full) if not check.ok]
    assert mailbox.name == "mailbox at relay.example:7000"
    assert "2026-01-01T10:00:00.000Z" in mailbox.detail
    (relay,) = _relay_checks(changed)
    assert not relay.ok
    assert "another key" in relay.detail
    assert mailbox.fix
    assert relay.fix


@pytest.mark.parametrize("skew_s, ok", [(59.0, True), (61.0, False), (-3600.0, False)])
def test_a_clock_that_is_off_fails(skew_s: float, ok: bool) -> None:
    health = Health("ok", "0.1", ROUTE, 5, None, skew_s)
    checks = {check.name: check for check in _relay_checks(health)}

    assert checks["clock"].ok is ok
    assert bool(checks["clock"].fix) is not ok
