"""What each command asks and prints, and the exit codes scripts rely on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from node.api import network_shapes as ns
from node.api import relay_shapes as rs
from node.api import shapes as s
from node.api.configure import BadConfig, node_settings
from node.cli.main import cli
from node.cli.output import clean
from node.cli.sentences import OF_BRANCHES
from schemas.errors import Blame, Fault, Refused, Unreachable
from tests.node.cli.conftest import Run
from tests.node.cli.fake_session import DEVICE, GROUP, IDENTITY, MESSAGE, ROUTE, FakeSession

MEMBER = s.Member(IDENTITY, [DEVICE], "Bob", "admin")
FRIENDS = s.Group(GROUP, "friends", "group", 3, "hybrid", "active", True, None, [MEMBER])
INVITED = s.Group("92" * 16, "club", "group", 1, "classic", "active", False, IDENTITY, [MEMBER])
CONTACT = s.Contact(IDENTITY, DEVICE, [DEVICE], "Bob", False, "12345 67890", True)
BLOCKED = s.Blocked(IDENTITY, "Bob", "2026-01-01Z")
ACCOUNT = s.Account(IDENTITY, DEVICE, "Alice", "quicnprotochat:x", [], [], "1 2")
SENT = s.Sent(MESSAGE, GROUP, "queued")

ANSWERS: dict[str, Any] = {
    "whoami": ACCOUNT,
    "node": s.NodeStatus(1, True, "0.1", "h:1", DEVICE, 9.0),
    "set-relays": s.Account(IDENTITY, DEVICE, "Alice", "quicnprotochat:x", [], [], "1 2"),
    "register": [s.Registered(DEVICE, "ff", ROUTE, "hybrid", 20)],
    "refresh-keypackage": [s.Registered(DEVICE, "ff", ROUTE, "hybrid", 20)],
    "fetch-key": [s.FetchedKey(IDENTITY, DEVICE, "ff", ROUTE, "hybrid", False)],
    "check-key": [s.KeyHolding(IDENTITY, DEVICE, ROUTE, 1, True, True)],
    "look": s.Done(),
    "peers": [ns.Peer(DEVICE, IDENTITY, "Bob", ["h:1"], "link", True, "direct", 1.5, "X25519")],
    "ping": ns.Pong(DEVICE, 1.5, "direct"),
    "health": [rs.Health("ok", "0.1", ROUTE, 5, None)],
    "contacts": [CONTACT],
    "add-contact": CONTACT,
    "verify-contact": CONTACT,
    "blocked": [BLOCKED],
    "block": BLOCKED,
    "unblock": BLOCKED,
    "set-name": ACCOUNT,
    "groups": [FRIENDS, INVITED],
    "group": FRIENDS,
    "create-group": FRIENDS,
    "invite": s.Invited(GROUP, "friends", 4, [IDENTITY]),
    "requests": [s.Invitation(GROUP, IDENTITY, IDENTITY, "friends", "group", "Bob", False)],
    "join": FRIENDS,
    "leave": FRIENDS,
    "remove": FRIENDS,
    "update-key": FRIENDS,
    "send": SENT,
    "ledger": [
        s.LedgerRow(IDENTITY, DEVICE, "held", "relay", ROUTE, None, "2026-01-01Z", None, "Bob")
    ],
    "why": [s.WhyRow(IDENTITY, "Bob is away.", "Wait.", DEVICE, "Bob")],
    "move-cursor": s.Done(),
    "export-parcels": s.ExportedParcels("/x", 3, 999, 2, [s.Named(IDENTITY, "Bob")], True),
    "import-parcels": s.ImportedParcels(
        "/x", 9, 999, 3, 1, 2, 2, {"cannot-open": 1}, [s.Named(IDENTITY, "Bob")], []
    ),
}
GROUP_FIELDS = "group name epoch suite members"
FIELDS = {  # command line -> fields of cli.md
    "whoami": "identity device name card relays addresses",
    "register": "device fingerprint relay",
    "refresh-keypackage": "device fingerprint relay",
    "fetch-key Bob": "device fingerprint relay",
    "check-key Bob": "device relay",
    "peers": "device name addresses source connected path rtt_ms key_exchange",
    "contacts": "identity device name verified safety_number",
    "contacts list": "identity device name verified safety_number",
    "contacts add CARD": "identity device name verified safety_number",
    "contacts verify Bob": "identity device name verified safety_number",
    "block": "identity name since",
    "block Bob": "identity name since",
    "unblock Bob": "identity name",
    "set-name Alice": "identity device name",
    "ping Bob": "device rtt_ms path",
    "health": "status version",
    "health RELAY": "status version",
    "create-group friends": GROUP_FIELDS,
    "groups": GROUP_FIELDS,
    "members friends": GROUP_FIELDS,
    "invite friends Bob": "group epoch invited",
    "requests": "group inviter identity name",
    "join": "group name epoch members inviter",
    "join friends": "group name epoch members inviter",
    "remove friends Bob": "group epoch",
    "leave friends": "group epoch",
    "update-key friends": "group epoch",
    "send friends --msg hi": "message group status",
    "ledger 3f3f3f": "identity device state path relay updated_at reason",
    "why 3f3f3f": "identity name sentence action",
    "export-parcels stick": "file parcels bytes",
    "import-parcels stick": "file parcels bytes new known others later refused",
}


def inbox(session: FakeSession, *batches: list[s.Message]) -> None:
    """The batches that one read after another finds."""
    left = list(batches)
    session.answers = {
        **ANSWERS,
        "read-messages": lambda request: left.pop(0) if left else [],
    }


def message(number: int, text: str = "hi", group: str = GROUP) -> s.Message:
    return s.Message(
        f"{number:032x}", group, IDENTITY, text, "2026-01-01T10:00:00.000Z",
        "2026-01-01T10:00:01.000Z", "direct", "Bob", "friends", DEVICE, number,
    )  # fmt: skip


@pytest.mark.parametrize("line", FIELDS)
def test_json_has_the_fields_of_the_contract_and_nothing_else_is_on_stdout(
    session: FakeSession, run: Run, line: str
) -> None:
    session.answers = ANSWERS

    ended = run(*line.split(), "--json")

    assert ended.code == 0
    assert ended.lines
    for fields in ended.lines:
        assert set(FIELDS[line].split()) <= fields.keys()
    assert ended.err == ""


@pytest.mark.parametrize("line", FIELDS)
def test_people_get_plain_text_in_a_pipe(session: FakeSession, run: Run, line: str) -> None:
    session.answers = ANSWERS

    ended = run(*line.split())

    assert ended.code == 0
    assert ended.out.strip()
    assert "\x1b" not in ended.out
    assert not set("─│┃━╭") & set(ended.out)


def _all_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in cli.commands.items():
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, below) for below in command.commands]
    return found


@pytest.mark.parametrize("words", _all_commands(), ids=" ".join)
def test_every_command_helps_with_an_example(run: Run, words: tuple[str, ...]) -> None:
    ended = run(*words, "--help")

    assert ended.code == 0
    assert "Example:" in ended.out
    assert f"quicnprotochat {words[0]}" in ended.out.partition("Example:")[2]
    assert {"--home", "--json", "--verbose"} <= set(ended.out.replace(",", " ").split())


def test_it_says_its_version(run: Run) -> None:
    assert run("--version").out == f"quicnprotochat, version {version('quicnprotochat')}\n"


def test_help_lists_every_command_in_a_section(run: Run) -> None:
    out = run("--help").out

    for name in cli.commands:
        assert f"  {name} " in out


def test_block_and_unblock_say_what_was_done(session: FakeSession, run: Run) -> None:
    session.answers = ANSWERS

    blocked, unblocked = run("block", "Bob"), run("unblock", "Bob")

    assert blocked.out.startswith(f"blocked {BLOCKED.name} ({BLOCKED.identity[:12]}): ")
    assert unblocked.out.startswith(f"unblocked {BLOCKED.name} ({BLOCKED.identity[:12]}): ")
    assert BLOCKED.since not in unblocked.out
    assert run("unblock", "Bob", "--json").lines == [
        {"identity": BLOCKED.identity, "name": BLOCKED.name}
    ]


def test_parcels_by_hand_tell_what_stayed_behind(session: FakeSession, run: Run) -> None:
    session.answers = ANSWERS

    exported = run("export-parcels", "stick", "--for", "Bob", "--force")
    imported = run("import-parcels", "stick")

    path = str(Path("stick").absolute())
    assert session.asked == [
        ("export-parcels", s.ExportParcels(path, "Bob", True)),
        ("import-parcels", s.ImportParcels(path)),
    ]
    assert "2 more parcels wait for the keys" in exported.err
    assert "refused: cannot-open  1" in imported.out
    assert "2 parcels could not be taken yet" in imported.err


@pytest.mark.parametrize(
    "fault, code",
    [
        (Refused("unknown-group", "no such group", hint="see groups"), 1),
        (Unreachable("unreachable", "no path", hint="wait"), 4),
        (Fault("disk-full", "the disk is full", blame=Blame.ENVIRONMENT, hint="mend"), 1),
    ],
)
def test_a_failure_has_its_exit_code_and_its_hint(
    session: FakeSession, run: Run, fault: Fault, code: int
) -> None:
    session.answers = {"group": fault}

    told = run("members", "friends")
    scripted = run("members", "friends", "--json")

    assert (told.code, scripted.code) == (code, code)
    assert told.out == ""
    assert told.err == f"error: {fault.message} ({fault.code})\nhint: {fault.hint}\n"
    error = {"code": fault.code, "message": fault.message, "hint": fault.hint}
    assert scripted.lines == [{"error": error}]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "members",
        "send friends",
        "send --msg hi",
        "send friends --all --msg hi",
        "send friends --msg hi --timeout 3",
        "create-group x --suite rot13",
        "recv --count 0",
        "recv --timeout nan",
        "recv --timeout inf",
        "recv --timeout -1",
        "recv --timeout 1e300",
        "join friends --wait nan",
        "peers --timeout inf",
        "send friends --msg hi --wait delivered --timeout nan",
        "init",
    ],
)
def test_wrong_usage_exits_2(session: FakeSession, run: Run, line: str) -> None:
    told, scripted = run(*line.split()), run(*line.split(), "--json")

    assert (told.code, scripted.code) == (2, 2)
    assert told.out == ""
    assert told.err
    assert [each["error"]["code"] for each in scripted.lines] == ["usage"]
    assert session.asked == []


@pytest.mark.parametrize(
    "arguments",
    [["members", ""], ["recv", ""], ["--home", "", "groups"], ["groups", "--home="], ["join", ""]],
)
def test_an_empty_argument_is_told_instead_of_meaning_something_else(
    session: FakeSession, run: Run, arguments: list[str]
) -> None:
    """`recv "$GROUP"` must not take the messages of all groups."""
    (told,) = run(*arguments, "--json").lines

    assert told["error"]["code"] == "usage"
    assert "empty" in told["error"]["message"]
    assert run(*arguments).code == 2
    assert session.asked == []


def test_people_are_told_by_name_who_was_invited_and_removed(
    session: FakeSession, run: Run
) -> None:
    session.answers = ANSWERS

    assert run("invite", "friends", IDENTITY).out == "invited Bob to friends (epoch 4)\n"
    assert run("remove", "friends", "Bob").out == "removed Bob from friends (epoch 3)\n"
    removed = run("remove", "friends", IDENTITY).out
    assert removed == f"removed {IDENTITY[:12]} from friends (epoch 3)\n"


def test_people_read_the_time_of_their_own_clock(
    session: FakeSession, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox(session, [message(1)])
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert run("recv").out == "2026-01-01 19:00 friends · Bob: hi\n"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_file_that_cannot_be_is_told_before_a_passphrase_is_asked_for(
    run: Run, tmp_path: Path, command: str
) -> None:
    ended = run(command, str(tmp_path / "no" / "ada.qpce"), "--json")

    assert ended.code == 1
    assert ended.lines[0]["error"]["code"] in ("cannot-write-file", "cannot-read-file")


@pytest.mark.parametrize("arguments", [["--json", "groups"], ["groups", "--json"]])
def test_common_options_stand_on_either_side(
    session: FakeSession, run: Run, tmp_path: Path, arguments: list[str]
) -> None:
    session.answers = ANSWERS
    home = tmp_path / "other"

    assert run("--home", str(home), *arguments).lines[0]["group"] == GROUP
    assert session.settings is not None
    assert session.settings.home == home
    run(*arguments, "--home", str(home))
    assert session.settings.home == home


def test_who_sees_us_on_the_lan_is_a_setting(tmp_path: Path) -> None:
    def chosen(flag: str | None = None, **environment: str) -> str:
        found = {f"QUICNPROTOCHAT_{name}": value for name, value in environment.items()}
        return node_settings(tmp_path, found, lan_visibility=flag).lan_visibility

    assert chosen() == "everyone"
    (tmp_path / "config.toml").write_text('lan_visibility = "contacts"\n')
    assert chosen() == "contacts"
    assert chosen(LAN_VISIBILITY="off") == "off"
    assert chosen("everyone", LAN_VISIBILITY="off") == "everyone"
    for wrong in ("friends", "EVERYONE"):
        with pytest.raises(BadConfig) as caught:
            chosen(LAN_VISIBILITY=wrong)
        assert "everyone, contacts, off" in caught.value.hint


def test_the_part_in_the_dht_is_a_setting(tmp_path: Path) -> None:
    usual = node_settings(tmp_path, {})
    assert (usual.dht, usual.dht_visibility, usual.bootstrap) == (True, "private", None)
    (tmp_path / "config.toml").write_text(
        'dht = false\ndht_visibility = "off"\nbootstrap = ["one.example:7000"]\n'
    )
    file = node_settings(tmp_path, {})
    assert (file.dht, file.dht_visibility) == (False, "off")
    assert file.bootstrap == ("one.example:7000",)
    environment = {
        "QUICNPROTOCHAT_DHT": "1",
        "QUICNPROTOCHAT_DHT_VISIBILITY": "public",
        "QUICNPROTOCHAT_BOOTSTRAP": "two.example:7000, three.example:7000",
    }
    told = node_settings(tmp_path, environment)
    assert (told.dht, told.dht_visibility) == (True, "public")
    assert told.bootstrap == ("two.example:7000", "three.example:7000")
    flags = node_settings(
        tmp_path, environment, dht=False, dht_visibility="private", bootstrap=("four.example:1",)
    )
    assert (flags.dht, flags.dht_visibility) == (False, "private")
    assert flags.bootstrap == ("four.example:1",)
    with pytest.raises(BadConfig) as caught:
        node_settings(tmp_path, {"QUICNPROTOCHAT_DHT_VISIBILITY": "friends"})
    assert "private, public, off" in caught.value.hint


def test_flag_over_environment_over_file_over_default(
    session: FakeSession, run: Run, tmp_path: Path
) -> None:
    session.answers = ANSWERS
    run("register")
    assert session.settings is not None
    assert (session.settings.relays, session.settings.mdns) == (None, True)

    (tmp_path / "config.toml").write_text('relays = ["file:1#k"]\nmdns = false\n')
    run("register")
    assert (session.settings.relays, session.settings.mdns) == (("file:1#k",), False)

    run("register", env={"QUICNPROTOCHAT_RELAY": "env:1#k env:2#k", "QUICNPROTOCHAT_MDNS": "1"})
    assert (session.settings.relays, session.settings.mdns) == (("env:1#k", "env:2#k"), True)

    (tmp_path / "config.toml").write_text("post_quantum_only = true\n")
    run("register")
    assert session.settings.post_quantum_only
    run("register", env={"QUICNPROTOCHAT_POST_QUANTUM_ONLY": "0"})
    assert not session.settings.post_quantum_only
    wrong = run("register", "--json", env={"QUICNPROTOCHAT_POST_QUANTUM_ONLY": "perhaps"})
    assert "QUICNPROTOCHAT_POST_QUANTUM_ONLY" in wrong.lines[0]["error"]["message"]

    run("register", "--relay", "flag:1#k", env={"QUICNPROTOCHAT_RELAY": "env:1#k"})
    assert session.settings.relays == ("flag:1#k",)


@pytest.mark.parametrize("text", ["colour = 1", "relays = 'one'", "relays = [1]", "= nonsense"])
def test_a_configuration_that_cannot_be_is_said(
    session: FakeSession, run: Run, tmp_path: Path, text: str
) -> None:
    (tmp_path / "config.toml").write_text(text)

    ended = run("groups", "--json")

    assert (ended.code, ended.lines[0]["error"]["code"]) == (1, "bad-config")


def test_groups_are_those_joined_and_invitations_those_not(session: FakeSession, run: Run) -> None:
    session.answers = ANSWERS

    assert [each["name"] for each in run("groups", "--json").lines] == ["friends"]
    assert [each["name"] for each in run("join", "--json").lines] == ["club"]


def test_join_waits_for_the_invitation(session: FakeSession, run: Run) -> None:
    tries = iter([Refused("unknown-group", "not yet"), FRIENDS])
    session.answers = {"join": lambda request: next(tries)}
    session.stream = [{"event": "request", "group": GROUP}]

    assert run("join", "friends", "--wait", "9", "--json").lines[0]["group"] == GROUP


def test_join_gives_up_after_the_wait(session: FakeSession, run: Run) -> None:
    session.answers = {"join": Refused("unknown-group", "not yet")}

    ended = run("join", "friends", "--wait", "1", "--json")

    assert (ended.code, ended.lines[0]["error"]["code"]) == (3, "timed-out")


def test_send_reads_its_text_from_standard_input(
    session: FakeSession, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.answers = ANSWERS
    for arguments in (["friends", "-"], ["friends", "--msg", "-"], ["--peer-key", "Bob", "-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"two\nlines\n")))
        assert run("send", *arguments).code == 0

    assert [(each.text, each.group, each.person) for _, each in session.asked] == [
        ("two\nlines", "friends", ""),
        ("two\nlines", "friends", ""),
        ("two\nlines", "", "Bob"),
    ]


def test_send_to_all_goes_to_each_joined_group(session: FakeSession, run: Run) -> None:
    session.answers = ANSWERS

    assert len(run("send", "--all", "--msg", "hi", "--json").lines) == 1
    assert session.asked[-1] == ("send", s.Send("hi", group=GROUP))


def ledger(*states: str) -> list[s.LedgerRow]:
    return [
        s.LedgerRow(IDENTITY, DEVICE, state, None, None, None, "2026-01-01Z", None, "Bob")
        for state in states
    ]


def test_send_waits_until_everybody_has_it(session: FakeSession, run: Run) -> None:
    looks = iter([ledger("queued", "queued"), ledger("delivered", "sent"), ledger("read", "read")])
    session.answers = {"send": s.Sent(MESSAGE, GROUP, "queued"), "ledger": lambda _: next(looks)}
    session.stream = [
        {"event": "ledger", "message": MESSAGE},
        {"event": "ledger", "message": "of another message"},
        {"event": "ledger", "message": MESSAGE},
    ]

    ended = run("send", "friends", "--msg", "hi", "--wait", "delivered", "--json")

    assert ended.code == 0
    assert ended.lines == [{"message": MESSAGE, "group": GROUP, "status": "delivered"}]


def test_send_tells_the_message_even_when_the_wait_is_over(session: FakeSession, run: Run) -> None:
    session.answers = {
        "send": s.Sent(MESSAGE, GROUP, "queued"),
        "ledger": ledger("delivered", "held"),
    }

    ended = run("send", "friends", "--msg", "hi", "--wait", "delivered", "--timeout", "1", "--json")

    assert ended.code == 3
    assert ended.lines[0] == {"message": MESSAGE, "group": GROUP, "status": "held"}
    assert ended.lines[1]["error"]["code"] == "timed-out"


def test_a_recipient_that_never_gets_it_fails_the_wait(session: FakeSession, run: Run) -> None:
    session.answers = {
        "send": s.Sent(MESSAGE, GROUP, "queued"),
        "ledger": ledger("delivered", "refused"),
    }

    ended = run("send", "friends", "--msg", "hi", "--wait", "delivered", "--json")

    assert ended.code == 1
    assert ended.lines[0]["status"] == "refused"
    assert ended.lines[1]["error"]["code"] == "not-delivered"


def test_recv_prints_the_contract_and_then_moves_the_cursor(session: FakeSession, run: Run) -> None:
    inbox(session, [message(2), message(1), message(5, group="99" * 16)])

    ended = run("recv", "--json", "--cursor", "bot")

    wanted = "message group sender text sent_at received_at path sender_name group_name"
    assert [each["arrival"] for each in ended.lines] == [2, 1, 5]
    assert all(set(wanted.split()) <= each.keys() for each in ended.lines)
    moved = next(request for name, request in session.asked if name == "move-cursor")
    assert moved.cursor == "bot"
    assert {(each.group, each.arrival) for each in moved.seen} == {(GROUP, 2), ("99" * 16, 5)}


def test_recv_with_nothing_there_exits_0_and_with_a_timeout_3(
    session: FakeSession, run: Run
) -> None:
    inbox(session)

    assert (run("recv", "--json").code, run("recv", "--json").out) == (0, "")
    timed_out = run("recv", "--timeout", "1", "--json")
    assert (timed_out.code, timed_out.lines[0]["error"]["code"]) == (3, "timed-out")


def test_recv_waits_for_the_event(session: FakeSession, run: Run) -> None:
    inbox(session, [], [], [message(1)])
    session.stream = [{"event": "ledger"}, {"event": "message"}]

    assert len(run("recv", "--timeout", "5", "--json").lines) == 1


def test_recv_follows_until_the_count(session: FakeSession, run: Run) -> None:
    inbox(session, [message(1)], [], [], [message(2)], [], [message(3)])
    session.stream = [{"event": "message"}] * 9

    ended = run("recv", "--stream", "--count", "2", "--json")

    assert [each["arrival"] for each in ended.lines] == [1, 2]
    limits = [request.limit for name, request in session.asked if name == "read-messages"]
    assert set(limits[1:]) == {1}, "a message past the count must not be acknowledged"


@pytest.mark.parametrize("kind", sorted(OF_BRANCHES))
def test_a_fork_is_told_beside_the_messages_of_its_group(
    session: FakeSession, run: Run, kind: str
) -> None:
    """Once: for people on standard error, for scripts as a line with `event`."""
    event = {"event": kind, "group": GROUP, "name": "friends", "member": "Bob", "detail": "a\x1bb"}
    session.stream = [event, {**event, "group": "99" * 16}]
    inbox(session, [message(1)])
    told = run("recv", "friends", "--stream")
    inbox(session, [message(1)])
    scripted = run("recv", "friends", "--stream", "--json")
    inbox(session, [message(1)])
    of_all = run("recv", "--stream", "--json")

    assert told.err.startswith("-- ")
    assert told.err.endswith(": a\\x1bb\n")
    assert "friends" in told.err
    assert told.err.count("\n") == 1
    assert len(told.out.splitlines()) == 1
    assert [line.get("event") for line in scripted.lines] == [None, kind]
    assert [line.get("event") for line in of_all.lines] == [None, kind, kind]


class BreaksAfter(io.StringIO):
    """Standard output whose reader goes away after some lines."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._lines = lines

    def write(self, text: str) -> int:
        if self._lines == 0:
            raise BrokenPipeError
        self._lines -= 1
        return super().write(text)

    def fileno(self) -> int:
        return self._null.fileno()

    _null = open("/dev/null", "w")  # noqa: SIM115


def test_what_a_broken_pipe_swallowed_is_not_acknowledged(
    session: FakeSession, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox(session, [message(3), message(1), message(2)])
    monkeypatch.setattr(sys, "stdout", BreaksAfter(2))

    ended = run("recv", "--json")

    assert ended.code == 1
    moved = [request for name, request in session.asked if name == "move-cursor"]
    assert [(each.group, each.arrival) for each in moved[0].seen] == [(GROUP, 1)]


def test_what_others_write_cannot_steer_the_terminal(session: FakeSession, run: Run) -> None:
    inbox(session, [message(1, "a\x1b[2Jb\nc\u202ed")])

    out = run("recv").out

    assert out.endswith(": a\\x1b[2Jb\n    c\\x202ed\n")
    assert clean("x\x07\x9b\n") == "x\\x07\\x9b\\x0a"


def test_nothing_heavy_is_imported_for_help() -> None:
    program = (
        "import sys; from node.cli.main import main; code = main(['--help']);"
        "heavy = {'starlette', 'uvicorn', 'capnp', 'mls_rs', 'aioquic', 'zeroconf', 'rich',"
        " 'cryptography', 'apsw', 'msgspec', 'asyncio'};"
        "sys.exit(code or ' '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert ended.stderr == ""
    assert ended.returncode == 0


def test_a_command_that_joins_a_running_node_imports_little() -> None:
    program = (
        "import sys, json; import node.api.session, node.cli.main;"
        "print(json.dumps([m for m in ('starlette', 'uvicorn', 'capnp', 'mls_rs', 'aioquic',"
        " 'zeroconf', 'apsw', 'asyncio') if m in sys.modules]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert json.loads(ended.stdout) == []


def test_peers_listens_as_long_as_it_is_told(
    session: FakeSession, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        assert session.asked, "the node has to run before anything can be heard"
        slept.append(seconds)
        clock[0] += seconds

    # The command's own clock: other threads of this process go on by theirs.
    own_time = SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0])
    monkeypatch.setattr("node.cli.network.time", own_time)
    session.answers = ANSWERS
    assert run("peers", "--json").code == 0
    assert slept == [], "a node that runs for long has heard already"
    assert run("peers", "--timeout", "1.2", "--json").code == 0
    assert sum(slept) == pytest.approx(1.2)


def test_peers_says_which_keys_protect_a_link(session: FakeSession, run: Run) -> None:
    session.answers = ANSWERS

    assert run("peers").out == f"Bob\t{DEVICE[:12]}\tlink\tyes\t1.5\tX25519\th:1\n"


def test_health_of_relays_that_are_all_down_is_no_path(session: FakeSession, run: Run) -> None:
    session.answers = {**ANSWERS, "health": [rs.Health("unreachable", None, ROUTE, None, "silent")]}

    ended = run("health", "--json")

    assert ended.code == 4
    assert [each.get("status") for each in ended.lines] == ["ok", "unreachable", None]


def test_the_router_is_asked_by_the_lasting_node_unless_told_otherwise(tmp_path: Path) -> None:
    def asks(flag: bool | None = None, **environment: str) -> bool:
        return node_settings(tmp_path, environment, lasting=True, port_mapping=flag).port_mapping

    assert asks()
    assert not asks(QUICNPROTOCHAT_PORT_MAPPING="0")
    (tmp_path / "config.toml").write_text("port_mapping = false\n")
    assert not asks()
    assert asks(QUICNPROTOCHAT_PORT_MAPPING="1")
    assert asks(True, QUICNPROTOCHAT_PORT_MAPPING="0")
