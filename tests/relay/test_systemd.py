"""The relay as a service of systemd: it says when it is ready, alive and stopping."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from relay.systemd import notify
from tests.relay.process import RelayProcess

DEADLINE_S = 10.0


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_of_a_relay_from_start_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@quicnprotochat-{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        with RelayProcess(tmp_path / "data") as relay:
            heard = [systemd.recv(100) for _ in range(3)]
            assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            assert relay.end().code == 0
        while (word := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        assert word == b"STOPPING=1"


def test_a_systemd_that_is_gone_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    notify("/nowhere/notify", "READY=1")
    assert "was not told" in caplog.text
