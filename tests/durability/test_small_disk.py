"""Real processes on a disk that is really full: refused in words, nothing half-written, and when
there is room again everything goes on. The small disk is a tmpfs in a mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.mounting import OWN_MOUNTS, needs_mounting
from tests.node.home.commands import ROOT

STORY = """
import contextlib, json, subprocess, sys, time
from pathlib import Path
from node.api import operations as op, shapes as s
from node.api.client import Client
from schemas.errors import Fault
from tests.node.home.commands import Commander

where = Path(sys.argv[1])
small = where / "small"
small.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=True)
(small / "Ada").mkdir()
ada, bob = Commander(small / "Ada" / "home"), Commander(where / "bob")
ada.ask("init", "--name", "Ada")
bob.ask("init", "--name", "Bob")

def fill():
    with (small / "ballast").open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))

def wait(look):
    deadline = time.monotonic() + 40
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)

def texts(client):
    return [each.text for each in client.call(op.HISTORY, s.ReadHistory(group)) if not each.own]

def state(client, message):
    return client.call(op.LEDGER, s.ByMessage(message))[0].state

with ada.running() as one, bob.running() as two:
    a, b = Client(ada.home), Client(bob.home)
    a.call(op.ADD_CONTACT, s.AddContact(b.call(op.WHOAMI, s.Nothing()).card))
    b.call(op.ADD_CONTACT, s.AddContact(a.call(op.WHOAMI, s.Nothing()).card))
    group = b.call(op.CREATE_GROUP, s.CreateGroup("harbour", "classic")).group
    b.call(op.INVITE, s.Invite(group, ["Ada"]))
    wait(lambda: a.call(op.REQUESTS, s.Nothing()))
    a.call(op.JOIN, s.ByGroup(group))
    a.call(op.SEND, s.Send("before", group))
    wait(lambda: texts(b))
    fill()
    sent = 0
    with contextlib.suppress(Fault):
        for sent in range(60):  # the log has some room of its own
            a.call(op.SEND, s.Send(f"{sent:02}" * 10_000, group))
    code, lines = ada.run("send", group, "--msg", "x" * 20_000)
    kept = b.call(op.SEND, s.Send("kept for Ada " + "x" * 30_000, group)).message
    deadline = time.monotonic() + 2
    states = set()
    while time.monotonic() < deadline:
        states.add(state(b, kept))
        time.sleep(0.02)
    alive = one.poll() is None
    (small / "ballast").unlink()
    wait(lambda: texts(a))
    after = a.call(op.SEND, s.Send("after", group)).message
    wait(lambda: state(a, after) in ("delivered", "read"))
    print(json.dumps({
        "last": [code, lines[-1].get("error", {})], "states": sorted(states), "alive": alive,
        "ada": [text[:12] for text in texts(a)], "bob": [text[:6] for text in texts(b)],
        "sent": sent,
    }))
"""


# Takes 15 s: a node that could not write an arrival asks for it again after ten.
def test_a_node_on_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    needs_mounting()
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-c", STORY, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    code, error = found["last"]
    assert (code, error["code"]) == (1, "disk-full")
    assert "free" in error["hint"]
    assert found["alive"], "the node died of it"
    assert found["states"]
    assert set(found["states"]) <= {"queued", "sent"}, "lost, or said to be read"
    assert found["ada"] == ["kept for Ada"]
    assert len(found["bob"]) == found["sent"] + 2, "lost or repeated"
    assert (found["bob"][0], found["bob"][-1]) == ("before", "after")
