"""The command `invite`, beside a relay that runs and one that does not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest

from node.cli.main import cli
from relay.invite_command import read_expiry
from schemas.addresses import RelayAddress
from schemas.errors import Refused
from tests.relay.people import person, register
from tests.relay.process import Ended, RelayProcess, run_relay
from tests.relay.support import DAY, NOW, client_of


def invite(folder: Path, *arguments: str) -> Ended:
    return run_relay("invite", "--data-dir", str(folder), "--json", *arguments)


async def test_an_invite_is_made_used_shown_and_revoked_while_the_relay_runs(
    kj: None, tmp_path: Path
) -> None:
    settings = ("--admission", "invite")
    with RelayProcess(tmp_path, *settings) as relay:
        made = json.loads(invite(tmp_path, "--uses", "2", "--expires", "12h").out)
        assert (made["uses"], made["address"]) == (2, relay.ready["address"])
        secret = bytes.fromhex(made["invite"])
        async with client_of(relay.address) as ann, client_of(relay.address) as bob:
            assert await register(ann, person("ann")) == "bad-invite"
            assert await register(ann, person("ann"), token=secret) == ""
            [listed] = [json.loads(line) for line in invite(tmp_path, "--list").out.splitlines()]
            assert (listed["id"], listed["used"], listed["holds"]) == (made["id"], 1, True)
            assert listed["accounts"] == ["ann"]
            assert made["invite"] not in json.dumps(listed), "shown once"
            assert invite(tmp_path, "--revoke", made["id"]).code == 0
            assert await register(bob, person("bob"), token=secret) == "bad-invite"
        again = invite(tmp_path, "--revoke", made["id"])
        assert (again.code, again.error["code"]) == (1, "no-such-invite")
        assert secret not in b"".join(file.read_bytes() for file in tmp_path.glob("relay.db*"))


def test_an_invite_is_made_before_anybody_may_come(tmp_path: Path) -> None:
    first = invite(tmp_path)
    assert (first.code, first.error["code"]) == (1, "no-file")
    with RelayProcess(tmp_path) as relay:
        relay.end()
    assert json.loads(invite(tmp_path).out)["uses"] == 1


def test_an_invite_says_what_to_send_on(tmp_path: Path) -> None:
    with RelayProcess(tmp_path) as relay:
        people = run_relay("invite", "--data-dir", str(tmp_path)).out.splitlines()
    [line] = [line for line in people if line.startswith("quicnprotochat ")]
    _, command, *arguments = shlex.split(line)
    register = cli.commands[command]
    told, rest, _ = register.make_parser(click.Context(register)).parse_args(arguments)
    assert RelayAddress.parse(told["relay"]) == relay.address
    assert told["invite"] == "invite.txt"
    assert told["name"] == "NAME"
    assert rest == []

    (tmp_path / "address").unlink()
    (tmp_path / "device.seed").unlink()  # its key is a tls_key, which this command is not told
    shown = run_relay("invite", "--data-dir", str(tmp_path))
    assert shown.code == 0
    assert "--relay 'HOST:PORT#DEVICE_KEY'" in shown.out
    assert json.loads(invite(tmp_path).out)["address"] is None


def test_wrong_words_are_told(tmp_path: Path) -> None:
    assert invite(tmp_path, "--expires", "never").error["code"] == "bad-expiry"
    assert invite(tmp_path, "--uses", "0").code == 2


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("30m", NOW + 1800),
        ("12h", NOW + 12 * 3600),
        ("30d", NOW + 30 * DAY),
        ("4w", NOW + 28 * DAY),
        ("2027-01-15", 1_800_057_600),
        ("2027-01-14", None),
        ("0d", None),
        ("-1d", None),
        ("99999w", 1_800_000_000 + 99999 * 7 * DAY),
        ("9999-12-31", None),
        ("soon", None),
    ],
)
def test_when_an_invite_ends(text: str, until: int | None) -> None:
    if until is None:
        with pytest.raises(Refused):
            read_expiry(text, NOW)
    else:
        assert read_expiry(text, NOW) == until
