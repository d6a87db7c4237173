"""Whoever may not look learns nothing from how the refusal looks, or from how long it took."""

from __future__ import annotations

from typing import Any

import pytest

from relay.server import Relay
from relay.store.contract import MailboxName
from relay.store.sqlite.store import SqliteStore
from tests.relay.support import client_of, new_device, parcel

METHODS: dict[str, dict[str, Any]] = {
    "peek": {},
    "fetch": {},
    "fetchWait": {"timeoutMs": 10},
    "ack": {"sequences": [1]},
}


@pytest.mark.parametrize("method", METHODS)
async def test_a_strangers_mailbox_looks_the_same_full_empty_or_unknown(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Else anybody could ask a relay whether a person has an account and mail there."""
    full, empty, unknown = (new_device().public for _ in range(3))
    async with client_of(relay) as client:
        for _ in range(3):
            await client.enqueue(parcel(full))
        sequence = (await client.enqueue(parcel(empty))).result.sequence
        await relay.store.acknowledge(MailboxName(empty, b""), [sequence])

        def not_asked(*_: object, **__: object) -> None:
            raise AssertionError("the store was asked: that takes its time, and tells it")

        for name in ("peek", "acknowledge", "open_mailbox"):
            monkeypatch.setattr(SqliteStore, name, not_asked)
        answers = set()
        for mailbox in (full, empty, unknown):
            answer = await client.call(method, recipientKey=bytes(mailbox), **METHODS[method])
            answers.add(str(answer))  # every field of it
        assert len(answers) == 1
        assert answer.error.code == "not-your-mailbox"
