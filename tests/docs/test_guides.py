"""Guides for operators, literally: their commands, in order, by a shell of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from relay.store.accounts import event_of
from relay.store.audit import TRIMMED
from tests.docs.pages import DOCS
from tests.ports import free_ports
from tests.relay.process import RelayProcess

PORTS = ("7100", "7101", "7102", "9100")
DEADLINE_S = 100.0


def blocks(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (DOCS / "operations" / page).read_text(), re.DOTALL)


def run(script: str, folder: Path) -> str:
    """What `script` says, run in `folder` by a user whose HOME it is. Ends all that it started."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUICNPROTOCHAT_")}
    programs = Path(sys.executable).parent
    environment |= {"HOME": str(folder), "PATH": f"{programs}:{os.environ['PATH']}"}
    shell = subprocess.Popen(
        ["sh", "-eu"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    try:
        told, _ = shell.communicate(script, timeout=DEADLINE_S)
    finally:
        with suppress(ProcessLookupError):  # its own session: what it started, and nobody else
            os.killpg(shell.pid, signal.SIGKILL)
    logs = {file.name: file.read_text() for file in folder.glob("*/*.log")}
    assert shell.returncode == 0, (told, logs)
    return told


def test_the_ten_minute_start_works_as_it_is_written(tmp_path: Path) -> None:
    install, *steps = blocks("start.md")
    assert "make setup" in install, "which has run, or there were no test"
    script = "".join(f"echo STEP {number}\n{step}\n" for number, step in enumerate(steps))
    for port, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        assert f":{port}" in script
        script = script.replace(f":{port}", f":{free}")
    told = run(script, tmp_path)
    assert "STEP 5" in told
    assert '"status": "ok"' in told
    assert "The tide turns at six." in told.partition("STEP 4")[2]
    held = re.findall(r"quicnprotochat_parcels_held (\S+)", told)
    assert held
    assert float(held[0]) >= 1


def test_the_page_of_the_audit_log_lists_every_event() -> None:
    page = (DOCS / "operations" / "audit.md").read_text()
    rows = re.findall(r"^\| (`[^|]*`) \|", page, re.MULTILINE)
    listed = {event for row in rows for event in re.findall(r"`([^`]+)`", row)}
    sources = "\n".join(file.read_text() for file in (DOCS.parent / "relay").rglob("*.py"))
    written = set(re.findall(r'append\(connection, "([a-z-]+)"', sources))
    for change in re.findall(r'event_of\("([a-z-]+)"', sources):
        written |= {event_of(change, by_operator=False), event_of(change, by_operator=True)}
    written |= set(re.findall(r'_audit\b[^"]*"(relay-[a-z]+)"', sources)) | {TRIMMED}
    assert listed == written


def test_the_backup_and_the_drill_work_as_they_are_written(tmp_path: Path) -> None:
    backup, drill = blocks("recovery.md")
    with RelayProcess(tmp_path / "relay") as relay:
        run(backup, tmp_path)
        assert relay.end().code == 0
    kept = (tmp_path / "relay-monday.seed").read_bytes()
    assert kept == (tmp_path / "relay" / "device.seed").read_bytes()
    told = run(drill, tmp_path)
    assert "1 rows hold" in told
    assert not (tmp_path / "drill").exists()
    (tmp_path / "relay-monday.db").write_bytes(b"not a backup")
    with pytest.raises(AssertionError, match="backup-damaged"):
        run(drill, tmp_path)
