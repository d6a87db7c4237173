"""The real program on real homes: alone, beside `run`, and several at once."""

from __future__ import annotations

import json
import signal
import socket
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.node.cli.real import DEADLINE_S, Person, finished


def test_an_account_is_made_once_and_found_again(alice: Person) -> None:
    me = alice.one("whoami")

    assert me["name"] == "Alice"
    assert me["identity"] != me["device"]
    (again,) = alice.ask("init", "--name", "Eve", code=1)
    assert again["error"]["code"] == "home-exists"
    assert alice.one("whoami")["identity"] == me["identity"]
    assert stat.S_IMODE(alice.home.stat().st_mode) == 0o700
    assert not (alice.home / "control.sock").exists()


def test_without_an_account_the_hint_says_what_to_do(people: list[Person]) -> None:
    (told,) = people[0].ask("groups", code=1)

    assert told["error"]["code"] == "no-account"
    assert "init" in told["error"]["hint"]


@pytest.mark.parametrize("line", ["whoami", "recv", "groups", "run --listen 127.0.0.1:0"])
def test_a_mistyped_home_leaves_no_folder(people: list[Person], line: str) -> None:
    (told,) = people[0].ask(*line.split(), code=1)

    assert told["error"]["code"] == "no-account"
    assert not people[0].home.exists()


TELLS_IMPORTS = [sys.executable, "-X", "importtime", "-m", "node.cli.start"]


@pytest.mark.parametrize(
    "module", ["click", "node.cli.main", "msgspec", "node.api.session", "asyncio", "apsw", "capnp"]
)
def test_an_interrupt_while_the_program_starts_leaves_no_traceback(
    alice: Person, module: str
) -> None:
    starting = alice.start("recv", "--stream", program=TELLS_IMPORTS)
    assert starting.stderr is not None
    while (line := starting.stderr.readline()).rpartition("|")[2].strip() != module:
        assert line, f"{module} was not imported"
    starting.send_signal(signal.SIGINT)
    _, err = starting.communicate(timeout=DEADLINE_S)

    assert starting.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err


def test_a_current_folder_that_is_gone_is_told(alice: Person) -> None:
    """The library that reads schemas would abort the process."""
    gone = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone');"
        "from node.cli.start import main; sys.exit(main())"
    )
    with_gone = f"import os; os.chdir({str(alice.home)!r}); {gone}"
    (told,) = finished(
        alice.start("groups", "--json", program=[sys.executable, "-c", with_gone]), code=1
    )

    assert told["error"]["code"] == "no-current-folder"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_ends_well_when_told_to(alice: Person, number: signal.Signals) -> None:
    node = alice.run()
    began = time.monotonic()
    node.send_signal(number)
    finished(node, 0)

    assert time.monotonic() - began < 5


def test_a_second_signal_ends_run_at_once(alice: Person) -> None:
    running = alice.run()
    running.send_signal(signal.SIGSTOP)  # both signals wait for it, as for a node that hangs
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGCONT)
    running.communicate(timeout=DEADLINE_S)

    assert running.returncode == 130


def test_a_mistyped_relay_leaves_no_home(people: list[Person]) -> None:
    (told,) = people[0].ask("init", "--name", "Alice", "--relay", "nonsense", code=1)

    assert told["error"]["code"] == "bad-relay"
    assert not people[0].home.exists()


def test_what_one_command_made_the_next_one_finds(alice: Person) -> None:
    made = alice.one("create-group", "friends")
    alice.one("create-group", "old friends", "--suite", "classic")

    groups = {group["name"]: group for group in alice.ask("groups")}
    assert groups["friends"] == made
    assert groups["old friends"]["suite"] == "classic"
    assert alice.one("members", made["group"][:8])["members"][0]["role"] == "admin"
    (twice,) = alice.ask("members", "enemies", code=1)
    assert twice["error"]["code"] == "unknown-group"


def test_commands_use_the_node_that_runs(alice: Person) -> None:
    node = alice.run()
    assert stat.S_IMODE((alice.home / "control.sock").stat().st_mode) == 0o600

    alice.one("create-group", "friends")
    assert [group["name"] for group in alice.ask("groups")] == ["friends"]
    (refused,) = alice.ask("run", "--listen", "127.0.0.1:0", code=1)
    assert refused["error"]["code"] == "already-running"

    node.send_signal(signal.SIGTERM)
    finished(node)
    assert not (alice.home / "control.sock").exists()
    assert [group["name"] for group in alice.ask("groups")] == ["friends"]


@pytest.mark.parametrize("command", ["set", "change", "remove"])
def test_a_home_in_use_is_told_before_passphrases_are_asked_for(
    alice: Person, command: str
) -> None:
    alice.run()
    (told,) = alice.ask("passphrase", command, code=1)

    assert told["error"]["code"] == "already-running"


def test_a_killed_node_leaves_nothing_in_the_way(alice: Person) -> None:
    node = alice.run()
    node.kill()
    node.communicate(timeout=DEADLINE_S)
    assert (alice.home / "control.sock").exists()

    assert alice.one("whoami")["name"] == "Alice"


FAILING = """
import sys
from node.cli.start import main
from node.engine.engine import Engine

class Panic(BaseException):
    "As PyO3's PanicException: no Exception."

real = Engine.run

def run(engine, batch, now):
    for command in batch:
        name = getattr(command, "name", "")
        if name.startswith("panic"):
            raise Panic(name)
        if name.startswith("bug"):
            raise ValueError(name)
    return real(engine, batch, now)

Engine.run = run
sys.exit(main())
"""


def test_a_bug_in_the_engine_fails_one_command_and_the_node_goes_on(alice: Person) -> None:
    node = alice.run(program=[sys.executable, "-c", FAILING])
    (told,) = alice.ask("create-group", "bug in the basement", code=1)
    alice.one("create-group", "friends")
    node.send_signal(signal.SIGTERM)
    _, log = node.communicate(timeout=DEADLINE_S)

    assert told["error"]["code"] == "internal"
    assert told["error"]["hint"]
    assert "the engine failed on CreateGroup" in log
    assert "ValueError" in log
    assert "basement" not in log
    assert node.returncode == 0
    assert [group["name"] for group in alice.ask("groups")] == ["friends"]


def test_a_crash_of_the_engine_ends_the_node_so_that_it_is_started_again(alice: Person) -> None:
    """A node without its engine would look alive, and a supervisor would leave it so."""
    node = alice.run(program=[sys.executable, "-c", FAILING])
    alice.one("create-group", "friends")
    following = alice.start("recv", "--stream", "--json")
    (told,) = alice.ask("create-group", "panic in the attic", code=1)
    out, log = node.communicate(timeout=DEADLINE_S)

    assert told["error"]["code"] == "engine-crashed"
    assert told["error"]["hint"]
    assert node.returncode == 1
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "engine-crashed"
    assert "the engine's thread crashed" in log
    assert "Panic" in log
    assert "attic" not in log
    assert [group["name"] for group in alice.ask("groups")] == ["friends"]
    assert following.poll() is None, following.communicate()
    "whoever follows has taken the home over, and goes on"


def test_a_taken_port_is_said_clearly(alice: Person) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (refused,) = alice.ask("run", "--listen", f"127.0.0.1:{port}", code=1)

    assert refused["error"]["code"] == "port-busy"
    assert refused["error"]["hint"]


def test_commands_that_start_at_once_share_one_node(alice: Person) -> None:
    names = [f"group {number}" for number in range(4)]
    started = [alice.start("create-group", name, "--json") for name in names]

    with ThreadPoolExecutor(len(started)) as pool:
        made = [fields for (fields,) in pool.map(finished, started)]

    assert [each["name"] for each in made] == names
    assert sorted(group["name"] for group in alice.ask("groups")) == names


def test_a_waiting_command_takes_over_when_its_node_ends(alice: Person, bob: Person) -> None:
    """`recv` joined the node of `run`; `run` ends; the message still arrives."""
    node = alice.run()
    waiting = alice.start("recv", "--timeout", str(DEADLINE_S), "--json")
    # The group is made through the same node, so the waiting one is served or about to be.
    alice.one("create-group", "friends")
    node.send_signal(signal.SIGINT)
    finished(node)

    runs = bob.run()
    alice.one("contacts", "add", bob.one("whoami")["card"])
    alice.one("invite", "friends", "Bob")
    bob.one("join", "friends", "--wait", str(DEADLINE_S))
    # Bob's node learnt Alice's address from her link, which is that of the waiting command.
    bob.one("send", "friends", "--msg", "still there?")
    (message,) = finished(waiting)

    assert message["text"] == "still there?"
    assert runs.poll() is None


def test_two_people_talk(alice: Person, bob: Person) -> None:
    alice.run()
    bob.run()
    contact = alice.one("contacts", "add", bob.one("whoami")["card"])
    assert contact["reachable"]
    assert alice.one("ping", "Bob")["path"] == "direct"
    assert alice.one("peers")["key_exchange"] == "X25519MLKEM768"
    group = alice.one("create-group", "friends")["group"]
    assert alice.one("invite", "friends", "Bob")["invited"] == [contact["identity"]]
    joined = bob.one("join", "friends", "--wait", str(DEADLINE_S))
    assert {member["name"] for member in joined["members"]} == {"Alice", "Bob"}

    waiting = bob.start("recv", "--timeout", str(DEADLINE_S), "--json")
    sent = alice.one(
        "send", "friends", "--msg", "hello\nBob", "--wait", "delivered", "--timeout", "30"
    )
    (message,) = finished(waiting)

    assert (sent["group"], sent["status"]) == (group, "delivered")
    assert (message["message"], message["text"]) == (sent["message"], "hello\nBob")
    assert (message["sender_name"], message["group_name"]) == ("Alice", "friends")
    assert bob.ask("recv") == [], "the cursor moved"
    assert [each["text"] for each in bob.ask("recv", "--cursor", "bot")] == ["hello\nBob"]
    (row,) = alice.ask("ledger", sent["message"])
    assert row["state"] in ("delivered", "read")
    assert alice.ask("why", sent["message"][:8]) == []


def test_a_second_reader_of_a_cursor_is_refused(alice: Person) -> None:
    alice.run()
    first = alice.start("recv", "--stream", "--json")
    codes = set()
    while "cursor-in-use" not in codes:  # until the first has its place
        out, _ = alice.start("recv", "--timeout", "0.2", "--json").communicate(timeout=DEADLINE_S)
        codes = {json.loads(line)["error"]["code"] for line in out.splitlines()}
        assert codes <= {"cursor-in-use", "timed-out"}

    assert alice.ask("recv", "--cursor", "bot") == []
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=DEADLINE_S)
    assert alice.ask("recv") == []


def test_peers_on_the_local_network_are_seen(alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        person.environment["QUICNPROTOCHAT_MDNS"] = "1"
        person.environment["QUICNPROTOCHAT_MDNS_INTERFACES"] = "127.0.0.1"
    bob.run()
    device = bob.one("whoami")["device"]

    watching = alice.start("peers", "--watch", "--timeout", str(DEADLINE_S), "--json")
    assert watching.stdout is not None
    seen = json.loads(watching.stdout.readline())

    while seen["device"] != device:  # other tests may be on this loopback
        seen = json.loads(watching.stdout.readline())
    assert (seen["name"], seen["source"], seen["gone"]) == ("Bob", "mdns", False)


def test_a_message_to_nobody_reachable_stays_and_says_why(alice: Person, bob: Person) -> None:
    node = bob.run()
    alice.one("contacts", "add", bob.one("whoami")["card"])
    alice.one("create-group", "friends")
    alice.one("invite", "friends", "Bob")
    node.send_signal(signal.SIGINT)
    finished(node)

    sent = alice.one("send", "friends", "--msg", "are you there?")

    assert sent["status"] == "queued"
    (row,) = alice.ask("why", sent["message"])
    assert row["sentence"]
    assert row["action"]
    (unreachable,) = alice.ask("ping", "Bob", code=4)
    assert unreachable["error"]["code"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_waiting_command_and_frees_the_home(
    alice: Person, number: signal.Signals
) -> None:
    waiting = alice.start("recv", "--stream", "--json")
    alice.ask("groups")  # the other one has the home, or is about to join this one
    waiting.send_signal(number)
    waiting.communicate(timeout=DEADLINE_S)

    assert waiting.returncode in (130, -number)
    assert alice.one("whoami")["name"] == "Alice"


def test_members_stand_where_they_were_last_heard(alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        person.run()
    alice.one("contacts", "add", bob.one("whoami")["card"])
    alice.one("create-group", "friends")
    alice.one("invite", "friends", "Bob")
    bob.one("join", "friends", "--wait", str(DEADLINE_S))
    alice.one("send", "friends", "--msg", "hi", "--wait", "delivered", "--timeout", str(DEADLINE_S))

    (group,) = alice.ask("members", "friends")
    assert {(m["name"], m["epoch"], m["standing"]) for m in group["members"]} == {
        ("Alice", group["epoch"], "here"),
        ("Bob", group["epoch"], "here"),
    }
    assert all("standing" not in m for m in alice.one("groups")["members"]), "nobody looked"
    shown = alice.start("members", "friends")
    out, _ = shown.communicate(timeout=DEADLINE_S)
    assert [line.split("\t")[-2:] for line in out.splitlines()[1:]] == [["1", "here"]] * 2
