"""Real processes on a disk that is really full: refused in words, nothing half-written, and when
there is room again everything goes on. The small disk is a tmpfs in a mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node.home.commands import ROOT

STORY = """
import json, os, subprocess, sys, time
from pathlib import Path
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
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass

def said(person, *words):
    code, lines = person.run(*words)
    return code, (lines[-1] if lines else {})

with ada.running() as one, bob.running() as two:
    ada.ask("contacts", "add", bob.ask("whoami")["card"])
    bob.ask("contacts", "add", ada.ask("whoami")["card"])
    group = bob.ask("create-group", "harbour", "--suite", "classic")["group"]
    bob.ask("invite", group, "Ada")
    ada.ask("join", group, "--wait", "15")
    ada.ask("send", group, "--msg", "before", "--wait", "delivered", "--timeout", "15")
    fill()
    refused = []
    for number in range(60):  # the log has some room of its own
        code, line = said(ada, "send", group, "--msg", str(number) * 20_000)
        refused.append([code, line.get("error", {})])
        if code:
            break
    sent = [n for n, (code, _) in enumerate(refused) if code == 0]
    kept = bob.ask("send", group, "--msg", "kept for Ada " + "x" * 30_000)["message"]
    deadline = time.monotonic() + 4
    states = set()
    while time.monotonic() < deadline:
        states.add(said(bob, "ledger", kept)[1]["state"])
    alive = one.poll() is None
    (small / "ballast").unlink()
    _, lines = ada.run("recv", group, "--timeout", "40", "--count", "1")
    ada.ask("send", group, "--msg", "after", "--wait", "delivered", "--timeout", "40")
    _, heard = bob.run("recv", group, "--timeout", "20", "--count", str(len(sent) + 2))
    print(json.dumps({
        "last": refused[-1], "states": sorted(states), "alive": alive,
        "ada": [line["text"][:12] for line in lines],
        "bob": [line["text"][:6] for line in heard], "sent": len(sent),
    }))
"""


# Takes half a minute: the other node asks a full one again only after a while, and each command
# is a process.
def test_a_node_on_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here: a small file system cannot be mounted")
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", STORY, str(tmp_path)],
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
