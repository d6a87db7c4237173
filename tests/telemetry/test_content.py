"""A conversation at the most talkative level leaves nothing of its content in any log."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from node.demo.processes import COMMAND_S, Daemon, Person, start_relay

TEXT = "the moon is made of gorgonzola"
GROUP = "cheese conspiracy"
NOBODY = "5a" * 32
_WHOLE_KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def test_logs_hold_no_text_no_name_no_whole_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUICNPROTOCHAT_HOME", raising=False)
    relay = start_relay(tmp_path)
    people = [Person(name, tmp_path) for name in ("Wallace", "Gromit")]
    try:
        for person in people:
            person.init()
            logging = ("--log-level", "debug", "--log-format", "json")
            person.start("--no-mdns", "--relay", relay.ready["address"], *logging)
        wallace, gromit = people
        wallace.ask("contacts", "add", gromit.ask("whoami")["card"])
        wallace.ask("create-group", GROUP)
        wallace.ask("invite", GROUP, "Gromit")
        gromit.ask("join", GROUP, "--wait", "20")
        wallace.ask("send", GROUP, "--msg", TEXT, "--wait", "delivered")
        assert gromit.node is not None
        gromit.node.kill()  # so that there is something to complain of
        held = wallace.ask("send", GROUP, "--msg", TEXT)["message"]
        wallace.wait_for_state(held, "Gromit", "held")
        relays = ("--relay", relay.ready["address"], "--relay", f"127.0.0.1:9#{NOBODY}")
        gromit.start("--no-mdns", *relays, "--log-level", "debug", "--log-format", "json")
        wallace.wait_for_state(held, "Gromit", "delivered", "read")
        deadline = time.monotonic() + COMMAND_S
        while "our relay" not in gromit.home.with_suffix(".log").read_text():
            assert time.monotonic() < deadline, "a relay that is away is worth a line"
            time.sleep(0.1)
        cards = [person.ask("whoami")["card"] for person in people]
    finally:
        daemons: list[Daemon] = [person.node for person in people if person.node is not None]
        for daemon in [*daemons, relay]:
            daemon.stop()
    logs = {person.name: person.home.with_suffix(".log").read_text() for person in people}
    for log in logs.values():
        lines = [json.loads(line) for line in log.splitlines()]
        assert lines, "a log at level debug says something"
        assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    logs["relay"] = relay.log.read_text()
    secrets = [TEXT, GROUP, "Wallace", "Gromit", *cards]
    for whose, log in logs.items():
        assert [each for each in secrets if each.lower() in log.lower()] == [], whose
        assert _WHOLE_KEY.findall(log) == [], whose
    # A parcel's way can be followed: both ends name it by the first digits of its id.
    left, came = (
        set(re.findall(rf"ParcelId\((\w+)\) {word}", logs[whose]))
        for word, whose in (("left", "Wallace"), ("came", "Gromit"))
    )
    assert left & came
