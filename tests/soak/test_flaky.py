"""The soak's bad network is bad: what it loses does not arrive, and it loses in every way."""

from __future__ import annotations

import socket

import pytest

from tests.soak import flaky


def pair() -> tuple[flaky.FlakySocket, socket.socket]:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(0.2)
    sender = flaky.FlakySocket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    return sender, receiver


def arrived(receiver: socket.socket) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(receiver.recv(100))
    except TimeoutError:
        return found


def test_it_loses_repeats_and_reorders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaky, "LOST", 0.1)
    monkeypatch.setattr(flaky, "REPEATED", 0.1)
    monkeypatch.setattr(flaky, "HELD_BACK", 0.1)
    sender, receiver = pair()
    with sender, receiver:
        sent = [str(number).encode() for number in range(300)]
        for datagram in sent:
            sender.sendto(datagram, receiver.getsockname())
        found = arrived(receiver)
    assert set(found) < set(sent), "nothing was lost"
    assert len(found) > len(set(found)), "nothing was repeated"
    assert found != sorted(found, key=int), "nothing was reordered"


def test_nothing_passes_while_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaky, "GOOD_S", 1e-9)
    monkeypatch.setattr(flaky, "CUT_S", (60.0, 60.0))
    sender, receiver = pair()
    with sender, receiver:
        sender.sendto(b"never", receiver.getsockname())
        sender.sendmsg((b"never",), (), 0, receiver.getsockname())
        assert arrived(receiver) == []
